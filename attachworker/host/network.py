# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""Whether a portal answers at all."""

import socket

from attachworker import exception


def probe(address: str, port: int, timeout: float) -> None:
    """Open a TCP connection to a portal and close it again.

    iscsid goes on trying a dead portal for minutes and cannot be told to
    stop, so it is only asked to log in where somebody answers.

    :param address: IP address or host name, IPv6 without brackets
    :param timeout: seconds
    :raises TargetUnreachable: refused, no route, no answer in time, or the
        name is not known
    """
    portal = f'[{address}]:{port}' if ':' in address else f'{address}:{port}'
    try:
        socket.create_connection((address, port), timeout).close()
    except TimeoutError as error:
        raise exception.TargetUnreachable(
            portal=portal, reason=f'no answer in {timeout:.0f} s'
        ) from error
    except OSError as error:
        raise exception.TargetUnreachable(
            portal=portal, reason=error.strerror or str(error)
        ) from error
