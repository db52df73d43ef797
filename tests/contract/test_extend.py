# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes that grow while they are attached."""

import time
import uuid

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds

MEBIBYTE = 1024 * 1024
SMALL = 32 * MEBIBYTE
LARGE = 48 * MEBIBYTE


def extend(
    worker: harness.Harness, attachment_id: str, **values: object
) -> objects.OperationResult:
    request = objects.ExtendRequest(
        request_id=str(uuid.uuid4()), attachment_id=attachment_id, **values
    )
    return worker.api.extend_volume({}, worker.name, request)


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.DeviceInfo:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(worker: harness.Harness, volume: beds.Volume) -> None:
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()


def with_all_paths(worker: harness.Harness, volume: beds.Volume) -> None:
    """Wait until late paths are in the map."""
    until = time.monotonic() + 60
    while worker.attachments() != [f'{volume.name} attached']:
        assert time.monotonic() < until, worker.attachments()
        time.sleep(0.05)


@pytest.mark.parametrize('multipath', [False, True], ids=['single', 'map'])
def test_a_volume_that_has_grown(
    bed: beds.Bed, worker: harness.Harness, multipath: bool
) -> None:
    # Given an attached volume that has grown on the storage
    volume = bed.create_volume(portals=2, size=SMALL, resizable=True)
    before = bed.snapshot()
    path = attached(worker, volume, multipath=multipath).path
    if multipath:
        with_all_paths(worker, volume)
    bed.resize_volume(volume, LARGE)
    # When the host is told
    result = extend(worker, volume.name, expected_size=LARGE)
    # Then the caller learns both sizes, and the device has the new one
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (SMALL, LARGE)
    assert result.device.path == path
    assert bed.read(path) == volume.pattern
    data = b'behind the old end'.ljust(4096, b'.')
    bed.write(path, data, offset=LARGE - 4096)
    assert bed.read(path, 4096, offset=LARGE - 4096) == data
    stored = worker.api.get_attachment({}, worker.name, volume.name)
    assert stored.device.size == LARGE
    # And once more changes nothing
    result = extend(worker, volume.name)
    assert (result.old_size, result.device.size) == (LARGE, LARGE)
    detached(worker, volume)
    assert bed.snapshot() == before


def test_a_volume_that_has_not_grown(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(size=SMALL, resizable=True)
    attached(worker, volume)
    result = extend(worker, volume.name, expected_size=LARGE)
    assert result.error.code == 'extend_failed', result.as_dict()
    assert result.error.step == 'VerifySize'
    assert str(SMALL) in result.error.message
    assert str(LARGE) in result.error.message
    assert worker.attachments() == [f'{volume.name} attached']
    detached(worker, volume)


def test_a_map_with_a_dead_path_grows(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a map of which one portal was dead from the start
    volume = bed.create_volume(portals=2, size=SMALL, resizable=True)
    bed.stop_portal(volume.portals[0])
    device = attached(worker, volume, multipath=True)
    assert device.degraded
    bed.resize_volume(volume, LARGE)
    # When it is extended, then by the path that works
    result = extend(worker, volume.name, expected_size=LARGE)
    assert result.status == 'extended', result.as_dict()
    assert result.device.size == LARGE
    bed.start_portal(volume.portals[0])
    detached(worker, volume)


def test_a_map_that_has_lost_a_path_grows(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a map of two paths, one of which breaks
    volume = bed.create_volume(portals=2, size=SMALL, resizable=True)
    before = bed.snapshot()
    path = attached(worker, volume, multipath=True).path
    with_all_paths(worker, volume)
    bed.kill_path(volume, volume.portals[0])
    bed.resize_volume(volume, LARGE)
    # When it is extended
    result = extend(worker, volume.name, expected_size=LARGE)
    # Then it grows by the other path, and the caller learns what is wrong
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (SMALL, LARGE)
    assert any('keeps its old size' in text for text in result.warnings)
    assert any(f'has left {path[5:]}' in text for text in result.warnings)
    data = b'behind the old end'.ljust(4096, b'.')
    bed.write(path, data, offset=LARGE - 4096)
    assert bed.read(path, 4096, offset=LARGE - 4096) == data
    # And the path, back again, does no harm and is put back with the others
    bed.restore_path(volume, volume.portals[0])
    assert bed.read(path, 4096, offset=LARGE - 4096) == data
    detached(worker, volume)
    assert bed.snapshot() == before


@pytest.mark.parametrize('multipath', [False, True], ids=['single', 'map'])
def test_a_volume_with_blocks_of_4_kib(
    bed: beds.Bed, worker: harness.Harness, multipath: bool
) -> None:
    # Given one whose blocks are larger than the 512 bytes that sysfs counts in
    volume = bed.create_volume(
        portals=2, size=SMALL, resizable=True, block_size=4096
    )
    device = attached(worker, volume, multipath=multipath)
    if multipath:
        with_all_paths(worker, volume)
    name = device.path.removeprefix('/dev/')
    block = bed.root / 'sys/class/block' / name / 'queue/logical_block_size'
    assert block.read_text() == '4096\n'
    assert device.size == SMALL
    # When it grows, then its size is right all the same
    bed.resize_volume(volume, LARGE)
    result = extend(worker, volume.name, expected_size=LARGE)
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (SMALL, LARGE)
    data = b'the last block'.ljust(4096, b'.')
    bed.write(device.path, data, offset=LARGE - 4096)
    assert bed.read(device.path, 4096, offset=LARGE - 4096) == data
    # And a byte more is more than it has
    result = extend(worker, volume.name, expected_size=LARGE + 1)
    assert result.error.code == 'extend_failed', result.as_dict()
    detached(worker, volume)


def test_what_is_not_attached(bed: beds.Bed, worker: harness.Harness) -> None:
    result = extend(worker, 'nobody-knows-it')
    assert result.error.code == 'attachment_not_found', result.as_dict()
    assert 'nobody-knows-it' in result.error.message


def test_a_key_that_nothing_can_be_done_with(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    attached(worker, volume)
    result = extend(
        worker, volume.name, encryption={'provider': 'luks', 'key': 'secret'}
    )
    assert result.error.code == 'encryption_failed', result.as_dict()
    detached(worker, volume)


def test_the_paths_of_a_volume(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume(portals=2)
    info = objects.ConnectionInfo.from_dict(volume.connection_info())

    def paths() -> list[str]:
        return worker.api.get_volume_paths({}, worker.name, info)

    assert paths() == []
    path = attached(worker, volume).path
    assert path in paths()
    for found in paths():
        assert bed.read(found) == volume.pattern
    detached(worker, volume)
    assert paths() == []
