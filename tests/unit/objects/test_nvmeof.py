# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: both forms that drivers send, and what is refused."""

from typing import Any

import pytest

from attachworker import exception
from attachworker import objects

NQN = 'nqn.2014-08.org.nvmexpress:uuid:0a1b'
UUID = '6d1e2f3a-0000-4000-8000-00000000ABCD'
DIGITS = '6d1e2f3a00004000800000000000abcd'
CANARY = 'DHHC-1:00:canary:'


def info(**changes: Any) -> Any:
    """The new form, as LVM with nvmet sends it."""
    data = {
        'target_nqn': NQN,
        'vol_uuid': UUID,
        'portals': [['192.0.2.1', '4420', 'tcp']],
        'ns_id': 1,
        **changes,
    }
    return objects.ConnectionInfo.from_dict(
        {'driver_volume_type': 'nvmeof', 'data': data}
    )


def test_the_new_form() -> None:
    found = info(
        portals=[
            ('192.0.2.1', '4420', 'tcp'),
            ['2001:DB8:0::1', 4421, 'RoCEv2'],
            ['192.0.2.1', 4420, 'tcp'],
        ]
    )
    assert found.targets == [
        ('192.0.2.1:4420', NQN, f'uuid.{DIGITS}'),
        ('[2001:db8::1]:4421', NQN, f'uuid.{DIGITS}'),
    ]
    transports = [found.transport_of(target) for target in found.targets]
    assert transports == ['tcp', 'rdma']
    assert found.wwn == DIGITS
    assert found.is_complete(True)


def test_the_old_form() -> None:
    """LVM with nvmet: strings, and integers for a shared target."""
    for port, number in (('4420', '10'), (4420, 10)):
        found = objects.ConnectionInfo.from_dict(
            {
                'driver_volume_type': 'NVMeoF',
                'data': {
                    'target_portal': '192.0.2.1',
                    'target_port': port,
                    'nqn': NQN,
                    'transport_type': 'tcp',
                    'ns_id': number,
                },
            }
        )
        assert found.targets == [('192.0.2.1:4420', NQN, 10)]
        assert found.wwn is None


def test_the_identifier_goes_before_the_number() -> None:
    assert info(vol_uuid=None).targets[0].lun == 1
    nguid = info(vol_uuid=None, volume_nguid='AB' * 16)
    assert nguid.targets[0].lun == 'nguid.' + 'ab' * 16
    assert nguid.wwn == 'ab' * 16
    assert info(wwn='uuid.' + UUID).wwn == DIGITS


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('target_nqn', None, 'required'),
        ('target_nqn', 'iqn.2010-10.org.example:x', 'must be an NVMe name'),
        ('target_nqn', f'{NQN},hostid=x', 'must be an NVMe name'),
        ('target_nqn', f'{NQN} x', 'must be an NVMe name'),
        ('target_nqn', NQN + 'a' * 223, 'at most 223 bytes'),
        ('host_nqn', 'x\ny', 'must be an NVMe name'),
        ('vol_uuid', 'not a uuid', '32 hexadecimal digits'),
        ('vol_uuid', UUID[:-1], '32 hexadecimal digits'),
        ('volume_nguid', 5, 'must be a string'),
        ('ns_id', 0, 'from 1 to 2**32 - 2'),
        ('ns_id', '-1', 'must be an integer'),
        ('ns_id', True, 'must be an integer'),
        ('ns_id', 2**32 - 1, 'from 1 to 2**32 - 2'),
        ('dhchap_secret', f'{CANARY}\n', 'DHHC-1'),
        ('dhchap_secret', 'DHHC-1:00:a,hostid=x:', 'DHHC-1'),
        ('dhchap_secret', f'DHHC-1:00:{"A" * 4000}:', 'DHHC-1'),
        ('dhchap_ctrl_secret', 'ключ', 'DHHC-1'),
        ('portals', None, 'required'),
        ('portals', [], '1 to 64'),
        ('portals', 'x', 'must be a list'),
        ('portals', [['192.0.2.1', 4420, 'tcp']] * 65, 'at most 64'),
    ],
)
def test_bad_values(key: str, value: object, rule: str) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(**{key: value})
    assert caught.value.kwargs['key'] == key
    assert rule in str(caught.value)
    assert 'canary' not in str(caught.value)


@pytest.mark.parametrize(
    ('portal', 'key', 'rule'),
    [
        (['192.0.2.1', 4420], 'portals[0]', 'address, port and transport'),
        (5, 'portals[0]', 'address, port and transport'),
        (['192.0.2.1', 0, 'tcp'], 'portals[0].portal', 'port'),
        (['192.0.2.1', 'x', 'tcp'], 'portals[0].portal', 'port'),
        (['192.0.2.1', 1.5, 'tcp'], 'portals[0].portal', 'port'),
        (['-x', 4420, 'tcp'], 'portals[0].portal', 'host name'),
        (['1.2.3.4,x=y', 4420, 'tcp'], 'portals[0].portal', 'host name'),
        (['fe80::1%eth0', 4420, 'tcp'], 'portals[0].portal', 'IPv6'),
        (['192.0.2.1', 4420, 'fc'], 'portals[0].transport', 'tcp, rdma'),
        (['192.0.2.1', 4420, None], 'portals[0].transport', 'a string'),
    ],
)
def test_bad_portals(portal: object, key: str, rule: str) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(portals=[portal])
    assert caught.value.kwargs['key'] == key
    assert rule in str(caught.value)


def test_a_namespace_is_not_guessed() -> None:
    with pytest.raises(exception.InvalidConnectionInfo, match='ns_id'):
        info(vol_uuid=None, ns_id=None)


@pytest.mark.parametrize(
    'replicas',
    [
        {'replica_count': 2},
        {'replica_count': '2'},
        {'replica_count': True},
        {'volume_replicas': [{}, {}]},
        {'volume_replicas': [{}], 'replica_count': 2},
    ],
)
def test_replicas_are_refused(replicas: dict[str, Any]) -> None:
    with pytest.raises(exception.UnsupportedProtocol, match='replicas'):
        info(**replicas)


@pytest.mark.parametrize('count', [None, 0, 1, '1'])
def test_one_replica_is_a_volume(count: object) -> None:
    """As drivers send it that have written several before."""
    expected = info()
    one = {
        'target_nqn': NQN,
        'vol_uuid': UUID,
        'portals': [['192.0.2.1', '4420', 'tcp']],
    }
    found = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'nvmeof',
            'data': {
                'volume_replicas': [one],
                'replica_count': count,
                'alias': 'volume',
            },
        }
    )
    assert found.targets == expected.targets
    assert found.wwn == DIGITS
    assert info(volume_replicas=[], replica_count=count).targets
    with pytest.raises(exception.InvalidConnectionInfo, match='object'):
        info(volume_replicas=['x'])


def test_keys_are_secret() -> None:
    found = info(dhchap_secret=CANARY, dhchap_ctrl_secret=CANARY)
    assert CANARY not in repr(found)
    assert CANARY not in str(found.as_dict())
    with pytest.raises(exception.InvalidConnectionInfo, match='dhchap_secret'):
        info(dhchap_ctrl_secret=CANARY)
