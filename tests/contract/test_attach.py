# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Attach and detach, one volume or many."""

import concurrent.futures
import time

from attachworker import objects
from tests import harness
from tests.contract import bed as beds


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.OperationResult:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result


def detached(worker: harness.Harness, attachment_id: str) -> None:
    result = worker.detach(attachment_id)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []


def others(
    results: list[objects.OperationResult], status: str
) -> list[dict[str, object]]:
    """Those that ended in another status, in full."""
    return [one.as_dict() for one in results if one.status != status]


def test_one_volume(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a volume behind one portal
    volume = bed.create_volume()
    before = bed.snapshot()
    # When it is attached
    result = attached(worker, volume)
    # Then the caller has the right device, and is told what it is
    device = result.device
    assert bed.read(device.path) == volume.pattern
    assert (device.type, device.size) == ('block', volume.size)
    assert device.scsi_wwn == f'3{volume.wwn}'
    assert device.multipath_id is None
    assert not device.degraded
    (path,) = device.paths
    assert (path.portal, path.target, path.lun) == (
        volume.portals[0],
        volume.target,
        volume.lun,
    )
    assert f'/dev/{path.device}' == device.path
    assert path.state == 'connected'
    assert {step.partition(':')[0] for step in result.timings} == {
        'GetConnector',
        'ConnectTarget',
        'GatherPaths',
        'FindWwn',
        'MapMultipath',
        'VerifyDevice',
    }
    assert worker.attachments() == [f'{volume.name} attached']
    # And when it is detached, then nothing of it is left
    detached(worker, volume.name)
    assert bed.snapshot() == before
    assert worker.attachments() == []


def test_written_data_stays(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    data = bytes(range(256)) * 16
    bed.write(attached(worker, volume).device.path, data, offset=1 << 20)
    detached(worker, volume.name)
    again = attached(worker, volume).device.path
    assert bed.read(again, len(data), offset=1 << 20) == data
    detached(worker, volume.name)


def test_twenty_one_after_another(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given ten volumes on one target, and ten with a target each
    first = bed.create_volume()
    shared = [first, *(bed.create_volume(on=first) for _ in range(9))]
    volumes = shared + [bed.create_volume() for _ in range(10)]
    before = bed.snapshot()
    # When they are attached one after another
    for volume in volumes:
        path = attached(worker, volume).device.path
        # Then each device holds its own volume
        assert bed.read(path) == volume.pattern
    assert len(worker.attachments()) == 20
    for volume in volumes:
        detached(worker, volume.name)
    assert bed.snapshot() == before


def test_eight_at_once(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given four volumes on one target, and four with a target each
    first = bed.create_volume()
    shared = [first, *(bed.create_volume(on=first) for _ in range(3))]
    volumes = shared + [bed.create_volume() for _ in range(4)]
    before = bed.snapshot()
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        # When all are attached at the same time
        results = list(callers.map(worker.attach, volumes))
        assert others(results, 'attached') == []
        # Then each caller has its own volume
        for volume, result in zip(volumes, results, strict=True):
            assert bed.read(result.device.path) == volume.pattern
        # And when all are detached at the same time, nothing is left
        names = [volume.name for volume in volumes]
        results = list(callers.map(worker.detach, names))
    assert others(results, 'detached') == []
    assert bed.snapshot() == before


def test_first_of_two_portals_wins(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume behind two portals
    volume = bed.create_volume(portals=2)
    # When it is attached without multipath
    result = attached(worker, volume)
    # Then one path is used
    (path,) = result.device.paths
    assert path.portal in volume.portals
    assert bed.read(result.device.path) == volume.pattern
    # And the other is let go, which the caller does not wait for
    deadline = time.monotonic() + 20
    while len(bed.snapshot()['sessions']) != 1:
        assert time.monotonic() < deadline, bed.snapshot()
        time.sleep(0.05)
    assert len(bed.snapshot()['block_devices']) == 1
    detached(worker, volume.name)


def test_dead_portal_of_two(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume(portals=2)
    bed.stop_portal(volume.portals[0])
    result = attached(worker, volume)
    (path,) = (one for one in result.device.paths if one.device)
    assert path.portal == volume.portals[1]
    bed.start_portal(volume.portals[0])
    detached(worker, volume.name)


def test_mutual_identity_is_kept_by_wwn(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    attached(worker, volume, expected_wwn=f'naa.{volume.wwn.upper()}')
    detached(worker, volume.name)


def test_chap(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume(chap=('user', 'a secret word'))
    result = attached(worker, volume)
    assert bed.read(result.device.path) == volume.pattern
    detached(worker, volume.name)
