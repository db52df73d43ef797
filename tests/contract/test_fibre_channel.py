# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""fibre_channel: ports of this host, target ports, and what they show."""

import concurrent.futures
from typing import Any

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_attach import attached
from tests.contract.test_attach import detached
from tests.contract.test_audit import findings
from tests.contract.test_audit import states
from tests.contract.test_audit import until

#: Seconds in which a target port that is there is seen to be.
PORT_TIMEOUT = 3


@pytest.fixture(autouse=True)
def short_timeout(worker: harness.Harness) -> None:
    worker.conf.set_override('port_timeout', PORT_TIMEOUT, 'fibre_channel')


def info_of(volume: beds.Volume, **values: Any) -> dict[str, Any]:
    info = volume.connection_info()
    info['data'] |= values
    return info


def map_of(
    worker: harness.Harness, volume: beds.Volume, **values: Any
) -> objects.DeviceInfo:
    device = attached(worker, volume, multipath=True, **values).device
    assert device.path.startswith('/dev/dm-'), device
    assert device.multipath_id == f'3{volume.wwn}'
    return device


def own_ports(worker: harness.Harness) -> list[str]:
    found = worker.api.get_connector_properties({}, worker.name)
    ports: list[str] = found['wwpns']
    assert len(found['wwnns']) == len(ports)
    return ports


@pytest.mark.parametrize(
    'spell',
    [
        lambda name: name.upper(),
        lambda name: f'0x{name}',
        lambda name: ':'.join(name[at : at + 2] for at in range(0, 16, 2)),
    ],
    ids=['upper case', '0x', 'colons'],
)
def test_a_target_port_however_it_is_spelled(
    bed: beds.Bed, worker: harness.Harness, spell: Any
) -> None:
    volume = bed.create_fc_volume()
    before = bed.snapshot()
    (port,) = volume.portals
    info = info_of(volume, target_wwn=spell(port))
    result = attached(worker, volume, connection_info=info)
    # Then the caller is told which port of this host leads where
    device = result.device
    assert bed.read(device.path) == volume.pattern
    assert device.scsi_wwn == f'3{volume.wwn}'
    (path,) = device.paths
    assert (path.target, path.lun) == (port, volume.lun)
    assert path.portal in own_ports(worker)
    assert f'/dev/{path.device}' == device.path
    # And asked again, with another spelling, it is the same device
    again = attached(worker, volume)
    assert again.device.path == device.path
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_two_ports_are_one_map_that_survives_the_loss_of_one(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume behind two target ports, each on a fabric of its own
    volume = bed.create_fc_volume(portals=2)
    before = bed.snapshot()
    # When it is attached with multipath
    device = map_of(worker, volume, min_paths=2)
    # Then it is a map of both
    assert not device.degraded
    assert [path.state for path in device.paths] == ['connected'] * 2
    assert {path.target for path in device.paths} == set(volume.portals)
    assert len({path.portal for path in device.paths}) == 2
    assert {path.portal for path in device.paths} <= set(own_ports(worker))
    assert bed.read(device.path) == volume.pattern
    assert (states(worker), findings(worker)) == ({volume.name: 'ok'}, [])
    # And when one port is lost, it goes on, and the audit tells of it
    lost = volume.portals[0]
    bed.kill_path(volume, lost)
    until(lambda: states(worker) == {volume.name: 'degraded'})
    assert bed.read(device.path, offset=4096) == bytes(4096)
    # And when that comes back, it is as before
    bed.restore_path(volume, lost)
    until(lambda: states(worker) == {volume.name: 'ok'})
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_the_first_port_that_can_be_read_is_enough(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given two target ports, of which one is cut off
    volume = bed.create_fc_volume(portals=2)
    bed.kill_path(volume, volume.portals[0])
    before = bed.snapshot()
    # When the volume is attached without a map, then through the other one
    device = attached(worker, volume).device
    assert [path.target for path in device.paths] == [volume.portals[1]]
    assert bed.read(device.path) == volume.pattern
    detached(worker, volume.name)
    assert bed.snapshot() == before
    bed.restore_path(volume, volume.portals[0])


def test_a_port_that_does_not_come_back_is_told(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume()
    bed.kill_path(volume, volume.portals[0])
    before = bed.snapshot()
    result = worker.attach(volume)
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert volume.portals[0] in result.error.message
    assert result.leftovers == []
    assert bed.snapshot() == before
    bed.restore_path(volume, volume.portals[0])
    # And once it is there, the volume is attached
    until(lambda: worker.attach(volume).status == 'attached')
    detached(worker, volume.name)


def test_a_map_says_which_ports_go_where(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given what a driver says of zones: one port of this host to one target
    # port, and to one of which nobody has heard
    volume = bed.create_fc_volume(portals=2)
    before = bed.snapshot()
    whole = map_of(worker, volume, min_paths=2)
    path = whole.paths[0]
    detached(worker, volume.name)
    zones = {path.portal.upper(): [path.target.upper(), '50' * 8]}
    info = info_of(volume, initiator_target_map=zones)
    # When the volume is attached, then there is no other path
    device = map_of(worker, volume, connection_info=info)
    assert [one.target for one in device.paths] == [path.target]
    assert not device.degraded
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_map_of_another_host_is_refused(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume()
    before = bed.snapshot()
    zones = {'10000090fa000001': list(volume.portals)}
    info = info_of(volume, initiator_target_map=zones)
    result = worker.attach(volume, connection_info=info)
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert 'initiator_target_map' in result.error.message
    assert all(port in result.error.message for port in own_ports(worker))
    assert bed.snapshot() == before


def test_a_lun_that_leads_to_another_volume_by_now(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a disk that somebody has left behind, at a LUN that was given to
    # another volume since
    volume = bed.create_fc_volume()
    device = attached(worker, volume).device
    other = bed.create_fc_volume(on=volume, mapped=False)
    before = bed.snapshot()
    bed.remap(volume, other)
    # When the other one is attached while the first one is, then it is
    # refused, and nothing is taken from that
    info = info_of(volume, volume_id=other.name.removeprefix('volume-'))
    result = worker.attach(other, connection_info=info)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert bed.snapshot() == before
    # And once that is detached, it is attached by its own identity
    detached(worker, volume.name)
    result = attached(worker, other, connection_info=info)
    assert result.device.scsi_wwn == f'3{other.wwn}'
    assert bed.read(result.device.path) == other.pattern
    assert device.scsi_wwn != result.device.scsi_wwn
    detached(worker, other.name)
    bed.remap(volume, volume)


def test_eight_at_once(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given eight volumes behind the same two ports
    first = bed.create_fc_volume(portals=2)
    volumes = [first, *(bed.create_fc_volume(on=first) for _ in range(7))]
    before = bed.snapshot()

    def attach(volume: beds.Volume) -> objects.OperationResult:
        return worker.attach(volume, deadline_seconds=240)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        # When all are attached at once
        results = list(pool.map(attach, volumes))
        assert {one.status for one in results} == {'attached'}, [
            one.as_dict() for one in results
        ]
        # Then each is its own
        for volume, result in zip(volumes, results, strict=True):
            assert bed.read(result.device.path) == volume.pattern
        # a disk each, once what was not needed is let go
        count = len(before['scsi_devices']) + 8
        until(lambda: len(bed.snapshot()['scsi_devices']) == count)
        assert findings(worker) == []
        # And all go at once
        names = [volume.name for volume in volumes]
        ended = list(pool.map(worker.detach, names))
    assert {one.status for one in ended} == {'detached'}
    assert bed.snapshot() == before


def test_a_map_grows(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_fc_volume(portals=2)
    device = map_of(worker, volume, min_paths=2)
    size = volume.size + (1 << 20)
    bed.resize_volume(volume, size)
    result = worker.extend(volume.name, size)
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (volume.size, size)
    assert bed.read(device.path, 512, offset=size - 512) == bytes(512)
    detached(worker, volume.name)


def test_a_map_goes_whose_ports_are_all_lost(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume(portals=2)
    before = bed.snapshot()
    map_of(worker, volume, min_paths=2)
    for port in volume.portals:
        bed.kill_path(volume, port)
    # A flush goes nowhere, so only by force
    result = worker.detach(volume.name, force=True)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
    for port in volume.portals:
        bed.restore_path(volume, port)
