# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What somebody else has made goes only while nobody uses it.

The verbs are called as a worker would that somebody has taken over.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess
import tempfile

import pytest

from attachworker import privileged
from attachworker.privileged import made
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds
from tests.contract import test_removals as removals
from tests.kernel.bed import KernelBed

pytestmark = pytest.mark.kernel

Use = Callable[[str], contextlib.AbstractContextManager[None]]


def run(*command: str) -> str:
    return subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout


@contextlib.contextmanager
def attached_by_hand(volume: beds.Volume) -> Iterator[str]:
    """As os-brick does it; the name of the disk."""
    node = ('iscsiadm', '-m', 'node', '-T', volume.target)
    node = (*node, '-p', volume.portals[0])
    run(*node, '-o', 'new')
    run(*node, '--login')
    try:
        place = pathlib.Path('/sys/class/block')

        def look() -> str | None:
            for disk in place.glob('sd*'):
                wwid = disk / 'device/wwid'
                with contextlib.suppress(OSError):
                    if volume.wwn in wwid.read_text() and os.path.exists(
                        f'/dev/{disk.name}'
                    ):
                        return disk.name
            return None

        disk = actors.until(look)
        assert disk is not None
        run('udevadm', 'settle')
        yield disk
    finally:
        subprocess.run([*node, '--logout'], check=False)
        run(*node, '-o', 'delete')


@contextlib.contextmanager
def opened(path: str) -> Iterator[None]:
    """As a hypervisor has it: not exclusively."""
    with subprocess.Popen(
        ['sh', '-c', f'exec <{path}; echo; exec sleep 600'],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def mounted(path: str) -> Iterator[None]:
    run('mkfs.ext4', '-q', '-F', path)
    with tempfile.TemporaryDirectory() as directory:
        run('mount', path, directory)
        try:
            yield
        finally:
            run('umount', directory)


@pytest.mark.parametrize('use', [opened, mounted])
def test_a_disk_of_others_stays_while_it_is_used(
    bed: KernelBed, use: Use
) -> None:
    volume = bed.create_volume(size=64 << 20)
    with attached_by_hand(volume) as disk:
        verbs = removals.removals_of_disk(bed, disk)
        # Given that somebody uses it
        with use(f'/dev/{disk}'):
            # Then no verb takes it away, nor its session
            for verb in verbs:
                with pytest.raises(PermissionError, match='was not made by'):
                    verb()
            # Nor does it become ours by a scan
            host, channel, target, lun = (
                pathlib.Path(f'/sys/class/block/{disk}/device')
                .resolve()
                .name.split(':')
            )
            bed.verbs.scsi.scan(int(host), int(channel), int(target), int(lun))
            for verb in verbs:
                with pytest.raises(PermissionError, match='was not made by'):
                    verb()
            assert os.path.exists(f'/dev/{disk}')
        # And once nobody does, it goes
        run('udevadm', 'settle')
        for verb in verbs[:2]:
            verb()
        assert actors.until(lambda: not os.path.exists(f'/dev/{disk}'))


def test_what_was_made_here_goes_by_force(
    bed: KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(size=64 << 20)
    result = worker.attach(volume)
    path = result.device.path
    with opened(path):
        result = worker.detach(volume.name, force=True)
        assert result.status == 'detached', result.as_dict()


def test_a_map_of_others_goes_on_queueing(bed: KernelBed) -> None:
    volume = bed.create_volume(size=64 << 20)
    with attached_by_hand(volume) as disk:
        bed.verbs.multipath.make_map(disk)
        holders = pathlib.Path(f'/sys/class/block/{disk}/holders')
        (name,) = actors.until(lambda: os.listdir(holders))
        with opened(f'/dev/{name}'):
            with pytest.raises(PermissionError, match='was not made by'):
                bed.verbs.multipath.set_queueing(name, False)
            with pytest.raises(PermissionError, match='was not made by'):
                bed.verbs.multipath.remove_path(disk)
        run('udevadm', 'settle')
        bed.verbs.multipath.remove_map(name)
        bed.verbs.multipath.forget(f'3{volume.wwn.removeprefix("naa.")}')


def test_only_root_can_write_the_notes(
    bed: KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    assert worker.attach(volume).status == 'attached'
    found = os.stat(made.PLACE)
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o700)
    # a session and a device
    assert len(list(made.PLACE.iterdir())) >= 2
    assert worker.detach(volume.name).status == 'detached'
    assert privileged.default.channel is not None
