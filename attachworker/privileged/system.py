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

"""What names this machine, where only root may read it."""

import pathlib

from attachworker import privileged

#: Debian's open-iscsi keeps the first for root, kernels the second.
FILES = {
    'initiator': pathlib.Path('/etc/iscsi/initiatorname.iscsi'),
    'system uuid': pathlib.Path('/sys/class/dmi/id/product_uuid'),
    'nqn': pathlib.Path('/etc/nvme/hostnqn'),
    'nvme_hostid': pathlib.Path('/etc/nvme/hostid'),
}


@privileged.default.entrypoint
def read(name: str) -> str | None:
    """The text of a file that names this machine; None if it is not there.

    :param name: one of FILES
    """
    if name not in FILES:
        raise ValueError('not a name of this machine')
    try:
        return FILES[name].read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
