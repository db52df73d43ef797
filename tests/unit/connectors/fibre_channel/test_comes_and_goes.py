# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ports that are blocked, given up, come back, or are zoned late."""

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import threading
import time
from typing import Any

import pytest

from attachworker import objects
from attachworker.host import backends
from tests import harness
from tests.simulator import bed as beds

PATIENCE = 20.0


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    """One of its own: what the fabric has, a restart brings back."""
    made = beds.SimulatedBed()
    made.set_up()
    yield made
    made.close()


@pytest.fixture
def worker(bed: beds.SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        running.conf.set_override('port_timeout', 5, 'fibre_channel')
        yield running


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.02)


def appear(bed: beds.SimulatedBed, count: int) -> None:
    """Wait until so many disks are there, and multipathd knows them."""

    def there() -> bool:
        picture = bed.snapshot()
        kinds = ('block_devices', 'multipathd_paths')
        return all(len(picture[kind]) == count for kind in kinds)

    until(there)


def scan(bed: beds.SimulatedBed, volume: Any) -> None:
    """Somebody else has the host look for a LUN of a first target port."""
    (number,) = [
        int(path.name.removeprefix('host'))
        for path in (bed.root / 'sys/class/fc_host').iterdir()
        if (path / 'port_name').read_text().strip().endswith('1')
    ]
    bed.verbs.scsi.scan(number, 0, 0, volume.lun)


def state_of(worker: harness.Harness, name: str) -> str:
    report = worker.api.audit({}, worker.name)
    found = {one.attachment_id: one.state for one in report.attachments}
    return str(found[name])


def attached(
    worker: harness.Harness, volume: Any, **values: Any
) -> objects.DeviceInfo:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(worker: harness.Harness, name: str, **values: Any) -> None:
    result = worker.detach(name, **values)
    assert (result.status, result.leftovers) == ('detached', []), (
        result.as_dict()
    )


def test_a_port_that_comes_back_while_it_is_waited_for(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a volume whose only port is cut off
    volume = bed.create_fc_volume()
    (port,) = volume.portals
    bed.kill_path(volume, port)
    results = []
    attach = threading.Thread(
        target=lambda: results.append(worker.attach(volume))
    )
    attach.start()
    # When it is connected again, while an attach waits
    attach.join(1.0)
    assert results == []
    bed.restore_path(volume, port)
    attach.join(PATIENCE)
    # Then that goes on
    (result,) = results
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    detached(worker, volume.name)


def test_a_path_that_was_given_up_and_comes_back_is_taken_again(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a map of two paths
    volume = bed.create_fc_volume(portals=2)
    device = attached(worker, volume, multipath=True, min_paths=2)
    before = bed.snapshot()
    lost = volume.portals[0]
    # When the kernel gives one port up, then it is missed
    bed.control('set_port', portal=lost, connected=False)
    bed.control('lose_port', portal=lost)
    until(lambda: state_of(worker, volume.name) == 'degraded')
    assert bed.read(device.path) == volume.pattern
    # And when it returns, the kernel finds its disk, and multipathd takes it
    bed.restore_path(volume, lost)
    until(lambda: state_of(worker, volume.name) == 'ok')
    assert bed.snapshot() == before
    # And a detach takes that disk away, too
    detached(worker, volume.name)
    assert bed.snapshot()['scsi_devices'] == []


def test_a_repeat_brings_the_path_that_was_given_up(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume(portals=2)
    lost = volume.portals[0]
    bed.control('set_port', portal=lost, connected=False)
    device = attached(worker, volume, multipath=True)
    assert device.degraded
    until(lambda: worker.attachments() == [f'{volume.name} degraded'])
    bed.restore_path(volume, lost)
    again = attached(worker, volume, multipath=True)
    assert again.path == device.path
    until(lambda: worker.attachments() == [f'{volume.name} attached'])
    assert state_of(worker, volume.name) == 'ok'
    detached(worker, volume.name)


def test_a_device_of_a_blocked_port_goes(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    """What waits for its port ends with the device."""
    volume = bed.create_fc_volume()
    before = bed.snapshot()
    attached(worker, volume)
    bed.control('block_port', portal=volume.portals[0])
    detached(worker, volume.name, force=True)
    assert bed.snapshot() == before


def test_a_disk_that_somebody_else_has_behind_the_same_port_stays(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a LUN that the host was started from, say
    theirs = bed.create_fc_volume()
    own = bed.create_fc_volume(on=theirs)
    scan(bed, theirs)
    appear(bed, 1)
    before = bed.snapshot()
    # When another LUN of the port is attached and detached
    attached(worker, own)
    report = worker.api.audit({}, worker.name)
    # Then theirs is somebody else's, and no leftover of ours
    assert [one.kind for one in report.findings] == ['foreign']
    assert f'LUN {theirs.lun}' in report.findings[0].what
    detached(worker, own.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('point', ['/boot', 'swap'])
def test_nobody_is_given_what_the_host_lives_on(
    bed: beds.SimulatedBed, worker: harness.Harness, point: str
) -> None:
    # Given a host that was started from a LUN
    volume = bed.create_fc_volume()
    scan(bed, volume)
    appear(bed, 1)
    (disk,) = (bed.root / 'sys/class/block').glob('sd*')
    with bed.used_by_host(f'/dev/{disk.name}', point):
        before = bed.snapshot()
        # When a caller names it, then it is refused, and stays as it is
        result = worker.attach(volume)
        assert result.error.code == 'in_use', result.as_dict()
        assert f'by this host: {point}' in result.error.message
        assert bed.snapshot() == before


def test_two_attachments_by_different_ports_have_one_device(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume(portals=2)
    before = bed.snapshot()
    first, second = (volume.connection_info() for _ in volume.portals)
    first['data']['target_wwn'] = volume.portals[0]
    second['data']['target_wwn'] = volume.portals[1]
    one = attached(worker, volume, attachment_id='one', connection_info=first)
    two = attached(worker, volume, attachment_id='two', connection_info=second)
    assert one.path == two.path
    detached(worker, 'one')
    assert bed.read(two.path) == volume.pattern
    detached(worker, 'two')
    assert bed.snapshot() == before


def test_eight_maps_at_once(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    first = bed.create_fc_volume(portals=2)
    volumes = [first, *(bed.create_fc_volume(on=first) for _ in range(7))]
    before = bed.snapshot()

    def attach(volume: Any) -> objects.DeviceInfo:
        return attached(worker, volume, multipath=True, min_paths=2)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for volume, device in zip(
            volumes, pool.map(attach, volumes), strict=True
        ):
            assert bed.read(device.path) == volume.pattern
            assert not device.degraded
        ended = pool.map(worker.detach, [one.name for one in volumes])
        assert {one.status for one in ended} == {'detached'}
    assert bed.snapshot() == before


def test_a_lun_of_two_bytes(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume(lun=300 + 16384)
    info = volume.connection_info()
    info['data'] |= {'target_lun': 300, 'addressing_mode': 'SAM2'}
    device = attached(worker, volume, connection_info=info)
    assert bed.read(device.path) == volume.pattern
    assert device.paths[0].lun == volume.lun
    detached(worker, volume.name)


def test_what_was_attached_when_the_host_was_restarted(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    """The kernel brings all disks back by itself, and a detach ends that."""
    volume = bed.create_fc_volume(portals=2)
    attached(worker, volume, multipath=True, min_paths=2)
    detached(worker, volume.name)
    bed.restart_host()
    bed.set_up()
    appear(bed, 2)
    with harness.Harness(bed) as later:
        device = attached(later, volume, multipath=True, min_paths=2)
        assert bed.read(device.path) == volume.pattern
        detached(later, volume.name)
    assert bed.snapshot()['scsi_devices'] == []


def test_what_verbs_of_one_target_port_have_in_common(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_fc_volume(portals=2)
    device = attached(worker, volume, multipath=True, min_paths=2)
    found = backends.Backends(bed.root)
    for path in device.paths:
        disk = bed.root / 'sys/class/block' / path.device / 'device'
        hctl = disk.resolve().name
        assert found.of(path.device) == f'0x{path.target}'
        assert found.of(hctl) == f'0x{path.target}'
        # a whole adapter has all ports of its fabric
        host = f'host{hctl.partition(":")[0]}'
        assert found.of(host) == host
    detached(worker, volume.name)


def test_paths_of_what_somebody_else_has_attached(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    """They are found at whichever ports of this host they are."""
    volume = bed.create_fc_volume(portals=2)
    bed.restart_host()
    bed.set_up()
    appear(bed, 2)
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    paths = worker.api.get_volume_paths({}, worker.name, info)
    assert sorted(paths) == ['/dev/sda', '/dev/sdb']
    detached(worker, 'unknown', connection_info=info)
    assert bed.snapshot()['scsi_devices'] == []
