# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What has hurt people elsewhere, where a real kernel is needed.

See doc/source/contributor/reports.rst.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
import time

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.kernel.bed import KernelBed
from tests.kernel.test_behaviours import attached
from tests.kernel.test_behaviours import detached
from tests.kernel.test_behaviours import dmsetup

SECTORS = 8192


@contextlib.contextmanager
def device_without_identity(number: int) -> Iterator[pathlib.Path]:
    """A link to a device that has no identifier: dm without a uuid."""
    name = f'nameless-{number}'
    dmsetup('create', name, '--table', f'0 {SECTORS} zero')
    link = pathlib.Path(beds.LOCAL_ROOT, 'nameless')
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(f'/dev/mapper/{name}')
    try:
        yield link
    finally:
        link.unlink()
        dmsetup('remove', '--retry', name)


def test_a_local_device_that_nothing_identifies(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """oVirt/vdsm 387 (DRBD of LINSTOR); systemd/systemd 17670 (virtio)."""
    before = bed.snapshot()
    info = {
        'driver_volume_type': 'local',
        'data': {'device_path': f'{beds.LOCAL_ROOT}/nameless'},
    }
    volume = bed.create_volume()  # only its shape is wanted
    with device_without_identity(1) as link:
        # When such a device is attached, then that is the device
        device = attached(
            worker, volume, attachment_id='one', connection_info=info
        ).device
        assert device.path == f'/dev/{link.resolve().name}'
        assert device.size == SECTORS * 512
        attached(worker, volume, attachment_id='one', connection_info=info)
        report = worker.api.audit({}, worker.name)
        assert {one.state for one in report.attachments} == {'ok'}
    # And when another one has taken its place, then it is not the same
    with device_without_identity(2):
        result = worker.attach(
            volume, attachment_id='one', connection_info=info
        )
        assert result.error.code == 'identity_mismatch', result.as_dict()
        detached(worker, 'one')
    bed.remove_volume(volume)
    assert bed.snapshot() == before


@pytest.mark.parametrize('paths', ['with its paths', 'without paths'])
def test_partitions_that_kpartx_has_made_go_with_their_map(
    bed: KernelBed, worker: harness.Harness, paths: str
) -> None:
    """Seagate/seagate-exos-x-csi 141; packethost/packet-block-storage 24."""
    # Given a map with a partition, as udev has kpartx make them
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    device = attached(worker, volume, multipath=True, min_paths=2).device
    dmsetup(
        'create',
        f'3{volume.wwn}-part1',
        '--uuid',
        f'part1-mpath-3{volume.wwn}',
        '--table',
        f'0 {SECTORS} linear {device.path} 8',
    )
    if paths == 'without paths':
        # and somebody has taken away all that is below it
        for path in device.paths:
            pathlib.Path(
                f'/sys/class/block/{path.device}/device/delete'
            ).write_text('1')
    # When it is detached, then both go
    detached(worker, volume.name)
    assert bed.snapshot() == before


def suspend(path: str) -> None:
    """multipathd may be at the map itself for a moment."""
    end = time.monotonic() + 30
    while True:
        try:
            dmsetup('suspend', '--nolockfs', '--noflush', path)
        except subprocess.CalledProcessError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            return


def test_a_map_that_was_left_suspended(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """microsoft/azurelinux 18793: whoever touches it does not return."""
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = attached(worker, volume, multipath=True, min_paths=2).device.path
    suspend(path)
    try:
        # When it is detached, then that says at once what is to be done
        result = worker.detach(volume.name, deadline_seconds=60)
        assert result.error.code == 'flush_failed', result.as_dict()
        assert f'dmsetup resume {path}' in result.error.message
        assert result.timings['FlushDevice'] < 20
        # And nothing of the worker is stuck there
        report = worker.api.audit({}, worker.name)
        assert report.findings == []
    finally:
        dmsetup('resume', path)
    # And once that was done, it goes
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_suspended_map_is_detached_by_force(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """The same; nobody resumes it."""
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = attached(worker, volume, multipath=True, min_paths=2).device.path
    suspend(path)
    started = time.monotonic()
    result = worker.detach(volume.name, force=True)
    if result.status != 'detached':
        subprocess.run(['dmsetup', 'resume', path], check=False)
    assert result.status == 'detached', result.as_dict()
    assert 'suspended' in ' '.join(result.warnings)
    assert time.monotonic() - started < 60
    assert bed.snapshot() == before
