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

"""Values that must be refused, one entry for each way to be bad."""

from typing import Any

from tests.unit.objects import shapes

_LONG = 'x' * 100_000

#: Key of the data, value, and a fragment of the rule that it breaks.
BAD_VALUES: tuple[tuple[str, Any, str], ...] = (
    # Portals.
    ('target_portal', 5, 'must be a string'),
    ('target_portal', ['192.0.2.5:3260'], 'must be a string'),
    ('target_portal', '', 'valid IP address or host name'),
    ('target_portal', ':3260', 'valid IP address or host name'),
    ('target_portal', '192.0.2.5:', 'port'),
    ('target_portal', '192.0.2.5:0', 'port'),
    ('target_portal', '192.0.2.5:65536', 'port'),
    ('target_portal', '192.0.2.5:-1', 'port'),
    ('target_portal', '192.0.2.5:3260 ', 'port'),
    ('target_portal', '192.0.2.5:٣٢٦٠', 'port'),
    ('target_portal', '192.0.2.5:3260,', 'portal group tag'),
    ('target_portal', '192.0.2.5:3260,x', 'portal group tag'),
    ('target_portal', '192.0.2.5:3260,1\n', 'portal group tag'),
    ('target_portal', '192.0.2.5\n:3260', 'valid IP address or host name'),
    ('target_portal', '192.0.2.5\0:3260', 'NUL'),
    ('target_portal', '--login:3260', 'valid IP address or host name'),
    ('target_portal', '192.0.2:3260', 'valid IP address or host name'),
    ('target_portal', '192.0.2.256', 'valid IP address or host name'),
    ('target_portal', '0x7f.1', 'valid IP address or host name'),
    ('target_portal', '../../etc', 'valid IP address or host name'),
    ('target_portal', 'ho_st', 'valid IP address or host name'),
    ('target_portal', 'hóst', 'ASCII host name'),
    ('target_portal', '[192.0.2.5]:3260', 'valid IPv6 address'),
    ('target_portal', '[2001:db8::1:3260', 'valid IPv6 address'),
    ('target_portal', '[2001:db8::1]3260', 'valid IPv6 address'),
    ('target_portal', '[fe80::1%eth0]:3260', 'valid IPv6 address'),
    ('target_portal', '2001:db8::1::2', 'valid IPv6 address'),
    ('target_portal', '0.0.0.0:3260', 'the address of one host'),
    ('target_portal', '[::]:3260', 'the address of one host'),
    ('target_portal', '224.0.0.1:3260', 'the address of one host'),
    ('target_portal', '\ud800', 'Unicode'),
    ('target_portal', _LONG, 'at most 300 characters'),
    # Names of targets.
    ('target_iqn', 5, 'must be a string'),
    ('target_iqn', '', 'iSCSI name'),
    ('target_iqn', 'volume-1', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-13.org.openstack:v', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:a b', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:a\n', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:a\0', 'NUL'),
    ('target_iqn', 'iqn.2010-10.org.openstack:../../x', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:a..b', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.org.openstack:\u212a', 'iSCSI name'),
    ('target_iqn', '-iqn.2010-10.org.openstack:v', 'iSCSI name'),
    ('target_iqn', 'eui.02004567a425678', 'iSCSI name'),
    ('target_iqn', 'naa.52004567ba64678dxx', 'iSCSI name'),
    ('target_iqn', 'iqn.2010-10.o:' + 'x' * 210, 'at most 223 characters'),
    ('target_iqn', _LONG, 'at most 223 characters'),
    # Numbers of volumes.
    ('target_lun', True, 'must be an integer'),
    ('target_lun', 1.0, 'must be an integer'),
    ('target_lun', '', 'must be an integer'),
    ('target_lun', '-1', 'must be an integer'),
    ('target_lun', '1\n', 'must be an integer'),
    ('target_lun', '0x1', 'must be an integer'),
    ('target_lun', '1' * 5000, 'must be an integer'),
    ('target_lun', [0], 'must be an integer'),
    ('target_lun', -1, 'from 0 to'),
    ('target_lun', 2**64, 'from 0 to'),
    ('addressing_mode', 'SAM4', 'must be transparent'),
    ('addressing_mode', ['SAM2'], 'must be transparent'),
    # Lists.
    ('target_portals', '192.0.2.5:3260', 'must be a list'),
    ('target_portals', {'0': '192.0.2.5'}, 'must be a list'),
    ('target_portals', ['192.0.2.5', None], 'must be a string'),
    ('target_portals', ['192.0.2.5', '192.0.2.5:x'], 'port'),
    ('target_portals', ['192.0.2.5'] * 65, 'at most 64 entries'),
    ('target_iqns', [shapes.IQN, 'x'], 'iSCSI name'),
    ('target_luns', [0, False], 'must be an integer'),
    # Credentials.
    ('auth_method', 'None', 'must be CHAP'),
    ('auth_method', 'KRB5', 'must be CHAP'),
    ('auth_method', ['CHAP'], 'must be CHAP'),
    ('auth_username', None, 'is required'),
    ('auth_username', '', '1 to 255 characters'),
    ('auth_username', 'x' * 256, '1 to 255 characters'),
    ('auth_username', 'u\nnode.startup = automatic', 'control characters'),
    ('auth_username', 'u\0', 'NUL'),
    ('auth_username', ' u', 'white space'),
    ('auth_username', '-u', 'must not begin with "-"'),
    ('auth_username', 5, 'must be a string'),
    ('auth_password', None, 'is required'),
    ('auth_password', '', '1 to 4096 characters'),
    ('auth_password', shapes.CANARY * 1000, '1 to 4096 characters'),
    ('auth_password', f'{shapes.CANARY}\0', 'NUL'),
    ('auth_password', f'{shapes.CANARY}\nx = y', 'line break'),
    ('auth_password', f'{shapes.CANARY}\rx = y', 'line break'),
    ('auth_password', f'{shapes.CANARY}\ud800', 'Unicode'),
    ('auth_password', shapes.CANARY.encode(), 'must be a string'),
    ('auth_password', [shapes.CANARY], 'must be a string'),
    ('auth_password', {'value': shapes.CANARY}, 'must be a string'),
    ('auth_username_in', '-t', 'must not begin with "-"'),
    ('auth_password_in', f'{shapes.CANARY}\n', 'line break'),
    ('discovery_auth_method', 'chap', 'must be CHAP'),
    ('discovery_auth_username', 'd\t', 'control characters'),
    ('discovery_auth_password', f'{shapes.CANARY}\n', 'line break'),
    # The rest.
    ('transport_iface', 5, 'must be a string'),
    ('transport_iface', '', '1 to 64'),
    ('transport_iface', '../iser', '1 to 64'),
    ('transport_iface', '..', '1 to 64'),
    ('transport_iface', '-I', '1 to 64'),
    ('transport_iface', 'iser\n', '1 to 64'),
    ('transport_iface', 'x' * 65, '1 to 64'),
    ('volume_id', 5, 'must be a string'),
    ('volume_id', '', '1 to 255'),
    ('volume_id', 'a b', '1 to 255'),
    ('volume_id', 'a/b', '1 to 255'),
    ('volume_id', '..', '1 to 255'),
    ('volume_id', '-a', '1 to 255'),
    ('volume_id', 'x' * 256, '1 to 255'),
    ('wwn', 5, 'must be a string'),
    ('wwn', '', '1 to 255'),
    ('wwn', 'naa.', '1 to 255'),
    ('wwn', 'naa. ' * 20_000, '1 to 255'),
    ('wwn', 'naa.--all', '1 to 255'),
    ('wwn', '../x', '1 to 255'),
    ('wwn', '36001405\0', 'NUL'),
    ('access_mode', 'wo', 'must be rw or ro'),
    ('access_mode', 1, 'must be rw or ro'),
    ('encrypted', 'false', 'must be true or false'),
    ('encrypted', 0, 'must be true or false'),
    ('enforce_multipath', 1, 'must be true or false'),
)


def with_bad_value(key: str, value: Any) -> dict[str, Any]:
    """A connection_info that is good but for this; None: without the key."""
    return shapes.lio(**{key: value})
