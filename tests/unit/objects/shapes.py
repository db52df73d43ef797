# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""connection_info as drivers of Cinder send it; a fresh dict each time."""

from typing import Any

IQN = 'iqn.2010-10.org.openstack:volume-6f1d2f0e'
OTHER_IQN = 'iqn.2010-06.com.purestorage:flasharray.2f5b'
#: What must not show up anywhere.
CANARY = 'cAnArY-5up3r'


def lio(**changes: Any) -> dict[str, Any]:
    """LVM with LIO, one portal; a change to None takes the key out."""
    data = {
        'target_discovered': False,
        'target_portal': '192.0.2.5:3260',
        'target_iqn': IQN,
        'target_lun': 0,
        'volume_id': '6f1d2f0e',
        'auth_method': 'CHAP',
        'auth_username': 'u',
        'auth_password': CANARY,
        'encrypted': False,
        'qos_specs': None,
        'access_mode': 'rw',
        'cacheable': False,
        'discard': True,
    } | changes
    return {'driver_volume_type': 'iscsi', 'data': data}


def lio_multipath() -> dict[str, Any]:
    return lio(
        target_portals=['192.0.2.5:3260', '198.51.100.5:3260'],
        target_iqns=[IQN, IQN],
        target_luns=[0, 0],
    )


def netapp() -> dict[str, Any]:
    """IPv6, and CHAP for discovery too."""
    return lio(
        target_portal='[2001:db8::1]:3260',
        target_lun=7,
        discovery_auth_method='CHAP',
        discovery_auth_username='d',
        discovery_auth_password=CANARY,
    )


def pure() -> dict[str, Any]:
    """No singular keys, no volume_id, LUNs that differ between arrays."""
    return {
        'driver_volume_type': 'iscsi',
        'data': {
            'target_discovered': False,
            'discard': True,
            'addressing_mode': 'SAM2',
            'target_luns': [1, 1, 256, 256],
            'target_iqns': [IQN, IQN, OTHER_IQN, OTHER_IQN],
            'target_portals': [
                '192.0.2.1:3260',
                '[2001:db8::2]:3260',
                '192.0.2.3:3260',
                '[2001:db8::4]:3260',
            ],
            'wwn': '3624A9370000000000000000000011223',
        },
    }


def flat() -> dict[str, Any]:
    """The attachments API: data and envelope in one, tuples made lists."""
    return lio()['data'] | {
        'driver_volume_type': 'iscsi',
        'attachment_id': '0d1b',
        'enforce_multipath': True,
    }


def capital() -> dict[str, Any]:
    """One driver spells the type like this."""
    return lio() | {'driver_volume_type': 'iSCSI'}


ALL = (lio, lio_multipath, netapp, pure, flat, capital)
