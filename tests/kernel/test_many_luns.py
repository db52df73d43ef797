# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A target with hundreds of LUNs: only the wanted ones appear."""

from collections.abc import Iterator
import pathlib
import time

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.kernel.bed import KernelBed

CONFIGFS = pathlib.Path('/sys/kernel/config/target')
MIDDLE, LAST = 150, 299


@pytest.fixture
def worker(bed: KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


def map_at(volume: beds.Volume, luns: list[int]) -> list[pathlib.Path]:
    """Export a volume at more LUNs of its target; the links that do it.

    Written to configfs directly: rtslib looks at all LUNs for each new one.
    """
    [storage] = CONFIGFS.glob(f'core/*/{volume.name}')
    group = CONFIGFS / f'iscsi/{volume.target}/tpgt_1/lun'
    links = [group / f'lun_{lun}' / 'storage' for lun in luns]
    for link in links:
        link.parent.mkdir()
        link.symlink_to(storage)
    return links


def attach_and_detach(
    worker: harness.Harness, volumes: list[beds.Volume]
) -> float:
    """Seconds that all attaches took; each device holds its own volume."""
    bed = worker.bed
    seconds = 0.0
    for volume in volumes:
        started = time.monotonic()
        result = worker.attach(volume)
        seconds += time.monotonic() - started
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
    shown = bed.snapshot()
    wanted = sorted(str(volume.lun) for volume in volumes)
    assert sorted(device[-2] for device in shown['block_devices']) == wanted
    assert sorted(device[-2] for device in shown['scsi_devices']) == wanted
    for volume in volumes:
        assert worker.detach(volume.name).status == 'detached'
    return seconds


def test_three_of_three_hundred(
    bed: KernelBed, worker: harness.Harness
) -> None:
    # Given a target with three volumes, and the time to attach them
    first = bed.create_volume(lun=0)
    volumes = [
        first,
        bed.create_volume(on=first, lun=MIDDLE),
        bed.create_volume(on=first, lun=LAST),
    ]
    before = bed.snapshot()
    alone = attach_and_detach(worker, volumes)
    # When the target has 297 LUNs more
    other = bed.create_volume()
    links = map_at(
        other,
        [lun for lun in range(LAST) if lun not in (first.lun, MIDDLE)],
    )
    assert len(links) == 297
    try:
        # Then the three, and no other device, still appear as quickly
        among_many = attach_and_detach(worker, volumes)
        assert bed.snapshot() == before
    finally:
        for link in links:
            link.unlink()
            link.parent.rmdir()
    assert among_many < 2 * alone + 0.5, (among_many, alone)
    print(f'alone {alone:.2f} s, among 300 {among_many:.2f} s')
