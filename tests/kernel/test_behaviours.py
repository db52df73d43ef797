# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""What a real host demands and no simulated one can be asked for."""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
import threading
import time
import types

import pytest
import rtslib_fb

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.kernel import daemons
from tests.kernel.bed import KernelBed

SECTORS = 65536
#: The picture of a host that waits for nothing in particular.
PATIENCE = 60.0


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.OperationResult:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result


def detached(worker: harness.Harness, attachment_id: str) -> None:
    result = worker.detach(attachment_id)
    assert result.status == 'detached', result.as_dict()


def dmsetup(*arguments: str) -> None:
    subprocess.run(
        ['dmsetup', *arguments],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=PATIENCE,
    )


@contextlib.contextmanager
def mapped(name: str, disk: str) -> Iterator[None]:
    """A device-mapper device of somebody else on top, as LVM makes them."""
    dmsetup('create', name, '--table', f'0 {SECTORS} linear {disk} 0')
    try:
        yield
    finally:
        dmsetup('remove', '--retry', name)


@contextlib.contextmanager
def frozen_volume(bed: KernelBed) -> Iterator[tuple[beds.Volume, str]]:
    """A volume whose storage can be frozen, and what to freeze."""
    volume = bed.create_volume()
    target = bed.target_of(volume)
    file = pathlib.Path('/run/lab/volumes/frozen')
    file.write_bytes(volume.pattern + bytes(SECTORS * 512 - 4096))
    loop = subprocess.run(
        ['losetup', '--find', '--show', str(file)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    with mapped('backend', loop):
        storage = rtslib_fb.BlockStorageObject(
            'frozen', dev='/dev/mapper/backend'
        )
        target.unmap(volume.lun)
        target.map(volume.lun, types.SimpleNamespace(storage=storage))
        try:
            yield volume, 'backend'
        finally:
            target.unmap(volume.lun)
            storage.delete()
    subprocess.run(['losetup', '--detach', loop], check=True)
    file.unlink()


def test_a_frozen_backend_holds_up_nobody_else(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """What is stuck in the kernel costs a thread, and is told and undone."""
    worker.conf.set_override('rollback_grace', 3)
    other = bed.create_volume()
    attached(worker, other)
    detached(worker, other.name)
    with frozen_volume(bed) as (volume, backend):
        before = bed.snapshot()
        # Given storage that has stopped answering
        dmsetup('suspend', '--noflush', '--nolockfs', backend)
        try:
            # When a volume there is attached, and meanwhile another one
            results: list[objects.OperationResult] = []
            caller = threading.Thread(
                target=lambda: results.append(
                    worker.attach(volume, deadline_seconds=20)
                )
            )
            caller.start()
            path = attached(worker, other).device.path
            assert bed.read(path) == other.pattern
            detached(worker, other.name)
            # Then the other one has not waited for it
            assert caller.is_alive()
            caller.join()
            # And it is quarantined: nothing else gets stuck there
            refused = worker.attach(volume, attachment_id='again').error
            assert refused.code == 'target_unreachable', refused.as_dict()
            assert 'state D' in refused.message
            findings = worker.api.audit({}, worker.name).findings
            assert any('has not returned' in one.detail for one in findings)
            attached(worker, other)
            detached(worker, other.name)
        finally:
            dmsetup('resume', backend)
        # And the caller is told in time
        (result,) = results
        assert result.status == 'failed', result.as_dict()
        assert result.error.code == 'deadline_exceeded', result.as_dict()
        # And what was stuck is gone soon after it can be
        until = time.monotonic() + PATIENCE
        while bed.snapshot() != before or worker.attachments():
            assert time.monotonic() < until, (
                bed.snapshot(),
                worker.attachments(),
            )
            time.sleep(0.5)


def test_somebody_else_s_device_on_top_is_neither_taken_nor_removed(
    bed: KernelBed, worker: harness.Harness
) -> None:
    for multipath in (False, True):
        volume = bed.create_volume(portals=2)
        path = attached(worker, volume, multipath=multipath).device.path
        # Given a logical volume on the device
        with mapped('guest-lv', path):
            # When it is attached again, the answer is still our device
            again = attached(worker, volume, multipath=multipath)
            assert again.device.path == path
            # And a detach says who is in the way
            result = worker.detach(volume.name)
            assert result.error.code == 'in_use', result.as_dict()
            assert 'device dm-' in result.error.message
            assert pathlib.Path('/dev/mapper/guest-lv').exists()
            assert bed.read(path) == volume.pattern
        detached(worker, volume.name)


def test_a_read_only_lun(bed: KernelBed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    bed.target_of(volume).protect()
    result = attached(worker, volume)
    assert bed.read(result.device.path) == volume.pattern
    assert result.warnings == [
        f'{result.device.path.removeprefix("/dev/")} is read-only on the '
        'storage'
    ]
    detached(worker, volume.name)


def test_a_read_only_map_is_not_for_writing(
    bed: KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    bed.target_of(volume).protect()
    before = bed.snapshot()
    worker.conf.set_override('map_timeout', 8, group='multipath')
    # Asked for read-only, it is right
    info = volume.connection_info(multipath=True)
    info['data']['access_mode'] = 'ro'
    result = attached(worker, volume, multipath=True, connection_info=info)
    assert result.device.multipath_id is not None
    assert result.warnings == []
    detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('back', [True, False], ids=['restarted', 'down'])
def test_multipathd_killed_while_a_volume_is_attached(
    bed: KernelBed, worker: harness.Harness, back: bool
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    device = attached(worker, volume, multipath=True).device
    assert device.multipath_id is not None
    daemons.kill('multipathd')
    try:
        if back:
            daemons.start('multipathd')
        assert bed.read(device.path) == volume.pattern
        detached(worker, volume.name)
    finally:
        if not back:
            daemons.start('multipathd')
    until = time.monotonic() + PATIENCE
    while bed.snapshot() != before:
        assert time.monotonic() < until, bed.snapshot()
        time.sleep(0.5)


def test_node_records_deleted_by_somebody(
    bed: KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    path = attached(worker, volume).device.path
    subprocess.run(
        ['iscsiadm', '-m', 'node', '-o', 'delete'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert bed.read(path) == volume.pattern
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_lun_that_was_given_to_another_volume(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """The device that its first volume left behind is not the new one's."""
    # Given a device that somebody has left behind
    first = bed.create_volume()
    before = bed.snapshot()
    neighbour = bed.create_volume(on=first)
    path = attached(worker, neighbour).device.path
    session = next(pathlib.Path('/sys/class/iscsi_session').iterdir())
    host = (session / 'device').resolve().parent.name
    scan = pathlib.Path(f'/sys/class/scsi_host/{host}/scan')
    scan.write_text(f'0 0 {first.lun}')
    # When its LUN is given to another volume, which is attached
    bed.remove_volume(first)
    second = bed.create_volume(on=first, lun=first.lun)
    result = attached(worker, second)
    # Then it is that one, by name and by content
    assert result.device.scsi_wwn == f'3{second.wwn}'
    assert bed.read(result.device.path) == second.pattern
    assert bed.read(path) == neighbour.pattern
    detached(worker, second.name)
    detached(worker, neighbour.name)
    assert bed.snapshot() == before


def test_the_wwid_list_is_left_as_multipath_tools_want_it(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """Our own writing of it is read by theirs, and theirs by ours."""
    volume = bed.create_volume(portals=2)
    bed.stop_portal(volume.portals[1])
    result = attached(worker, volume, multipath=True)
    assert result.device.degraded
    wwid = wwid_of(result)
    listed = subprocess.run(
        ['multipath', '-w', wwid],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert f"wwid '{wwid}' removed" in listed
    subprocess.run(
        ['multipath', '-a', wwid], stdout=subprocess.DEVNULL, check=True
    )
    detached(worker, volume.name)
    lines = pathlib.Path('/etc/multipath/wwids').read_text().splitlines()
    assert f'/{wwid}/' not in lines
    bed.start_portal(volume.portals[1])


def wwid_of(result: objects.OperationResult) -> str:
    wwid = result.device.multipath_id
    assert wwid is not None
    return str(wwid)
