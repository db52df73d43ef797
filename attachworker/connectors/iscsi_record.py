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


"""The settings that a session is made with, in open-iscsi's names."""

from attachworker import objects
from attachworker.connectors import base

_AUTH = 'node.session.auth.'


def build(
    info: objects.ISCSIConnectionInfo,
    target: base.Target,
    login_timeout: int,
    defaults: dict[str, str],
) -> dict[str, str]:
    """The node record for one login.

    :param login_timeout: seconds
    :param defaults: the operator's settings from iscsid.conf, which ours
        override
    """
    address, _, port = target.portal.rpartition(':')
    record = dict(defaults)
    if info.auth_method:
        # Whatever iscsid.conf says of credentials is not for this target.
        record = {
            key: value
            for key, value in record.items()
            if not key.startswith(_AUTH)
        }
    record |= {
        'node.name': target.name,
        'node.tpgt': '-1',
        'node.startup': 'manual',
        'node.leading_login': 'No',
        'iface.iscsi_ifacename': info.transport_iface or 'default',
        'iface.transport_name': 'tcp',
        'node.conn[0].address': address.strip('[]'),
        'node.conn[0].port': port,
        'node.conn[0].startup': 'manual',
        # Only the wanted LUN is to appear.
        'node.session.scan': 'manual',
        'node.session.nr_sessions': '1',
        # iscsid goes on trying for this many login time-outs.
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': str(login_timeout),
    }
    if info.auth_method:
        record |= _credentials(info)
    return record


def _credentials(info: objects.ISCSIConnectionInfo) -> dict[str, str]:
    fields = {
        'username': info.auth_username,
        'password': info.auth_password,
        'username_in': info.auth_username_in,
        'password_in': info.auth_password_in,
    }
    found = {f'{_AUTH}{key}': value for key, value in fields.items() if value}
    return {f'{_AUTH}authmethod': info.auth_method} | found
