# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Devices as real storage has them.

Some have no vital product data, some are waited for all day.
"""

from collections.abc import Iterator
import pathlib
import subprocess
import time

import pytest

from tests import harness
from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel import test_iscsi_sessions as steps
from tests.kernel.test_iscsi_hosts import configured

pytestmark = pytest.mark.kernel

#: What the kernel knows of models, and one that is not to be asked much.
MODELS = pathlib.Path('/proc/scsi/device_info')
MODEL = 'no-vpd-pages'
SCSI_DEVICES = pathlib.Path('/sys/class/scsi_device')


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    options = {'login_timeout': 5, 'scan_attempts': 2}
    with harness.Harness(
        bed, iscsi=options, forced_flush_timeout=5, multipath__map_timeout=10
    ) as running:
        yield running


def volume_without_pages(bed: kernel_bed.KernelBed) -> contract.Volume:
    """One that the kernel does not ask for vital product data."""
    skip = 1 << 26  # BLIST_SKIP_VPD_PAGES
    MODELS.write_text(f'LIO-ORG:{MODEL}:0x{skip:x}')
    volume = bed.create_volume(portals=2, mapped=False)
    backing = bed.backing_of(volume)
    model = pathlib.Path(backing.storage.path) / 'wwn/product_id'
    model.write_text(MODEL)
    bed.target_of(volume).map(volume.lun, backing)
    return volume


@pytest.mark.parametrize('multipath', [False, True])
def test_device_without_pages_in_sysfs(
    bed: kernel_bed.KernelBed, worker: harness.Harness, multipath: bool
) -> None:
    """A device of SPC-2, or one that the kernel does not ask."""
    volume = volume_without_pages(bed)
    before = bed.snapshot()
    # Given an attachment
    first = worker.attach(volume, multipath=multipath)
    assert first.status == 'attached', first.as_dict()
    (device, *_) = SCSI_DEVICES.iterdir()
    assert not (device / 'device/vpd_pg83').exists()
    assert bed.read(first.device.path) == volume.pattern
    # When the volume is attached once more, while the device is open
    with open(first.device.path, 'rb'):
        second = worker.attach(volume, 'second', multipath=multipath)
    # Then it is the same device
    assert second.status == 'attached', second.as_dict()
    assert second.device.path == first.device.path
    assert second.device.scsi_wwn == first.device.scsi_wwn
    # And all goes with the last of them
    assert worker.detach('second').status == 'detached'
    assert bed.read(first.device.path) == volume.pattern
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_leftover_without_pages_of_another_volume(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a device that was left at a LUN which has another volume now
    volume = volume_without_pages(bed)
    other = bed.create_volume(size=2 * volume.size, mapped=False)
    steps.log_in(bed, volume)
    before = bed.snapshot()
    (host,) = pathlib.Path('/sys/class/iscsi_host').iterdir()
    scan = host / 'device/scsi_host' / host.name / 'scan'
    scan.write_text(f'0 0 {volume.lun}')
    steps.wait_until(lambda: len(bed.snapshot()['block_devices']) == 1)
    bed.remap(volume, other)
    # When that one is attached
    result = worker.attach(other, connection_info=volume.connection_info())
    # Then the device has its data and its size
    assert result.status == 'attached', result.as_dict()
    assert other.wwn in result.device.scsi_wwn
    assert result.device.size == other.size
    assert bed.read(result.device.path) == other.pattern
    assert worker.detach(other.name).status == 'detached'
    bed.remap(volume, volume)
    assert bed.snapshot() == before


def test_page_that_is_longer_than_one_byte_says(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a target whose name makes its page of identifiers a long one
    name = 'iqn.2026-01.example:' + 'n' * 203
    volume = bed.create_volume(target_name=name)
    before = bed.snapshot()
    result = worker.attach(volume)
    assert result.status == 'attached', result.as_dict()
    disk = pathlib.Path(result.device.path).resolve().name
    page = bed.verbs.scsi.inquiry(disk, bed.instance(disk), 0x83)
    assert len(page) > 255
    assert len(page) == 4 + int.from_bytes(page[2:4], 'big')
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('writing', [False, True])
@pytest.mark.parametrize('paths', [1, 2])
def test_forced_detach_from_a_target_that_is_waited_for_all_day(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    paths: int,
    writing: bool,
) -> None:
    # Given sessions that are to wait a day for their target
    volume = bed.create_volume(portals=paths)
    before = bed.snapshot()
    key = 'node.session.timeo.replacement_timeout'
    with configured(**{key: '86400'}):
        result = worker.attach(volume, multipath=paths > 1, min_paths=paths)
    assert result.status == 'attached', result.as_dict()
    for session in steps.SESSIONS.iterdir():
        # multipathd has set its own
        (session / 'recovery_tmo').write_text('86400')
    assert steps.attribute('recovery_tmo') == ['86400'] * paths
    path = result.device.path
    # And the target has died; somebody may be about to write
    for portal in volume.portals:
        bed.kill_path(volume, portal)
    steps.wait_until(lambda: steps.attribute('state') == ['FAILED'] * paths)
    writer = None
    if writing:
        writer = subprocess.Popen(
            ['dd', 'if=/dev/zero', f'of={path}', 'bs=4k', 'count=4'],
            stderr=subprocess.DEVNULL,
        )
    try:
        # When it is detached by force
        began = time.monotonic()
        result = worker.detach(volume.name, force=True)
        # Then that ends soon, with nothing left
        assert result.status == 'detached', result.as_dict()
        assert time.monotonic() - began < 60
    finally:
        for portal in volume.portals:
            bed.restore_path(volume, portal)
        if writer is not None:
            writer.wait(steps.PATIENCE)
    assert bed.snapshot() == before
