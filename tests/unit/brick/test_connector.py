# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which request is sent, and what dict comes of its result."""

import copy
import importlib
from typing import Any
import uuid

import pytest

from attachworker import brick
from attachworker import exception
from attachworker.brick import factory
from tests.unit.brick.fake_client import DATA
from tests.unit.brick.fake_client import IQN
from tests.unit.brick.fake_client import PLURAL
from tests.unit.brick.fake_client import PORTALS
from tests.unit.brick.fake_client import FakeClient
from tests.unit.brick.fake_client import connect

# -- the same dicts in and out


def test_connect_returns_the_device_info_of_os_brick(
    worker: FakeClient,
) -> None:
    single = brick.RemoteConnector()
    assert single.connect_volume(DATA) == {
        'type': 'block',
        'path': '/dev/sda',
        'scsi_wwn': '3600',
    }
    worker.multipath_id = '3600'
    multi = brick.RemoteConnector(use_multipath=True)
    assert multi.connect_volume(PLURAL)['multipath_id'] == '3600'
    assert [one['multipath'] for one in worker.asked] == [False, True]


def test_extend_returns_bytes(worker: FakeClient) -> None:
    assert brick.RemoteConnector().extend_volume(DATA) == 4096


def test_volume_paths(worker: FakeClient) -> None:
    connector = brick.RemoteConnector()
    assert connector.get_volume_paths(DATA) == ['/dev/sda', '/dev/sdb']
    assert worker.asked[-1]['host'] == 'compute-1'


def test_valid_devices_are_those_of_attachments(worker: FakeClient) -> None:
    connector = brick.RemoteConnector()
    assert connector.check_valid_device('/dev/attached')
    assert connector.check_valid_device('/dev/degraded', run_as_root=False)
    assert not connector.check_valid_device('/dev/missing')
    assert not connector.check_valid_device('/dev/sdz')


def test_inputs_are_left_alone(worker: FakeClient) -> None:
    for data in (DATA, PLURAL, {'driver_volume_type': 'iscsi', 'data': DATA}):
        given, device_info = copy.deepcopy(data), {'path': '/dev/sda'}
        connector = brick.RemoteConnector(transport='iser', use_multipath=True)
        connector.connect_volume(given)
        connector.extend_volume(given)
        connector.get_volume_paths(given)
        connector.disconnect_volume(given, device_info, force=True)
        assert given == data
        assert device_info == {'path': '/dev/sda'}


def test_nested_and_flat_forms_are_the_same(worker: FakeClient) -> None:
    flat = DATA | {'driver_volume_type': 'iscsi', 'attachment_id': 'a'}
    nested = {'driver_volume_type': 'iSCSI', 'data': DATA}
    asked = [connect(worker, data) for data in (DATA, flat, nested)]
    assert len({one['attachment_id'] for one in asked}) == 1
    for one in asked:
        assert one['connection_info'].as_dict() == (
            asked[0]['connection_info'].as_dict()
        )


def test_the_data_decides_on_enforced_multipath(worker: FakeClient) -> None:
    data = PLURAL | {'enforce_multipath': True}
    asked = connect(worker, data, use_multipath=True)
    assert asked['connection_info'].enforce_multipath is True
    assert 'enforce_multipath' not in asked


@pytest.mark.parametrize(
    ('values', 'data', 'iface'),
    [
        ({}, DATA, None),
        ({'transport': 'default'}, DATA, None),
        ({'transport': 'bond0'}, DATA, 'bond0'),
        ({'transport': 'bond0'}, DATA | {'transport_iface': 'x'}, 'x'),
        ({'transport': 'iser'}, DATA, 'iser'),
        ({'protocol': 'ISER'}, DATA, 'iser'),
    ],
)
def test_transport_is_the_iface(
    worker: FakeClient, values: Any, data: Any, iface: str | None
) -> None:
    info = connect(worker, data, **values)['connection_info']
    assert info.transport_iface == iface


# -- the id of the attachment

SPELLINGS = {
    'as it is': PLURAL,
    'after Nova': PLURAL
    | {
        'device_path': '/dev/sda',
        'multipath_id': '3600',
        'serial': 'abc',
        'multiattach': True,
        'volume_id': str(uuid.uuid4()),
    },
    'without credentials': {
        key: value for key, value in PLURAL.items() if 'auth' not in key
    },
    'another password': PLURAL | {'auth_password': 'changed'},
    'the other order': PLURAL | {'target_portals': PORTALS[::-1]},
    'a portal group tag': PLURAL
    | {'target_portals': ['192.0.2.1:3260,1', '[2001:db8::1]:3260,1']},
    'no port, long address': PLURAL
    | {'target_portals': ['192.0.2.1', '2001:DB8:0:0::0001']},
    'upper case': PLURAL | {'target_iqns': [IQN.upper()] * 2},
    'LUNs as text': PLURAL | {'target_luns': ['1', '1']},
    'tuples': PLURAL | {'target_portals': tuple(PORTALS)},
}


@pytest.mark.parametrize('spelled', list(SPELLINGS))
@pytest.mark.parametrize('multipath', [True, False])
def test_all_spellings_are_one_attachment(
    worker: FakeClient, spelled: str, multipath: bool
) -> None:
    # Given a volume that was connected
    first = connect(worker, PLURAL)['attachment_id']
    # When its data comes again in other words, or with other settings
    connector = brick.RemoteConnector(use_multipath=multipath)
    data = SPELLINGS[spelled]
    connector.disconnect_volume(data, None)
    connector.extend_volume(data)
    # Then it is the same attachment
    assert [one['attachment_id'] for one in worker.asked] == [first] * 3
    # which anybody can compute who knows how
    assert uuid.UUID(first).version == 5


def test_other_volumes_and_hosts_are_other_attachments(
    worker: FakeClient,
) -> None:
    data = [
        DATA,
        DATA | {'target_lun': 2},
        DATA | {'target_portal': '192.0.2.2:3260'},
        DATA | {'target_iqn': f'{IQN}0'},
        DATA | {'target_lun': 1, 'addressing_mode': 'SAM3-flat'},
        PLURAL,
    ]
    ids = {connect(worker, one)['attachment_id'] for one in data}
    assert len(ids) == len(data)
    worker.host = 'compute-2'
    assert connect(worker, DATA)['attachment_id'] not in ids


# -- making connectors


@pytest.mark.parametrize(
    'protocol', ['ISCSI', 'iscsi', 'Iser', 'RBD', 'NVMEOF', 'NVME', 'LOCAL']
)
def test_factory(worker: FakeClient, protocol: str) -> None:
    connector = brick.InitiatorConnector.factory(
        protocol,
        'sudo',
        use_multipath=True,
        device_scan_attempts=5,
        conn={'anything': 'else'},
        do_local_attach=True,
    )
    assert isinstance(connector, brick.RemoteConnector)
    assert connector.use_multipath is True


@pytest.mark.parametrize(
    ('protocol', 'reason'),
    [
        ('AOE', 'the protocols are'),
        ('nothing', 'the protocols are'),
        ('', 'the protocols are'),
        ('gpfs', 'LOCAL'),
        ('SCALEIO', 'PowerFlex'),
    ],
)
def test_other_protocols(
    worker: FakeClient, protocol: str, reason: str
) -> None:
    with pytest.raises(exception.InvalidConnectorProtocol, match=reason):
        brick.InitiatorConnector.factory(protocol, None)
    with pytest.raises(ValueError, match='not served'):
        brick.RemoteConnector(protocol=protocol)


def test_the_factory_has_what_os_brick_has_on_an_architecture(
    worker: FakeClient,
) -> None:
    for arch in ('s390x', 'ppc64le', 'x86_64'):
        served = brick.get_connector_mapping(arch)
        for protocol in factory.SERVED:
            if protocol in served:
                brick.InitiatorConnector.factory(protocol, None, arch=arch)
                continue
            with pytest.raises(exception.InvalidConnectorProtocol, match=arch):
                brick.InitiatorConnector.factory(protocol, None, arch=arch)
            # Who asks for a connector itself is not bound by that
            brick.RemoteConnector(protocol=protocol)
    assert set(brick.get_connector_mapping('x86_64')) == set(factory.SERVED)
    module, _, name = brick.get_connector_mapping()['ISCSI'].rpartition('.')
    assert getattr(importlib.import_module(module), name) is (
        brick.RemoteConnector
    )


def test_connector_properties(worker: FakeClient) -> None:
    answer = brick.get_connector_properties(
        'sudo', '192.0.2.5', True, False, host='named-so'
    )
    assert answer == {
        'ip': '192.0.2.5',
        'host': 'named-so',
        'initiator': 'iqn.1993-08.org.debian:01:one',
        'multipath': True,
        'enforce_multipath': False,
    }
    answer = brick.get_connector_properties(None, None, None, False)
    assert (answer['ip'], answer['host']) == ('192.0.2.9', 'compute-1')
