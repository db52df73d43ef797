# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Files on more than one file system."""

import collections
from collections.abc import Iterator
import contextlib
import errno
import multiprocessing
import os
import pathlib
import shutil
import subprocess

import pytest

from attachworker import deadline as deadlines
from attachworker.connectors.local import loops
from attachworker.privileged import loop
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_local import info
from tests.kernel import bed as kernel_bed
from tests.unit.privileged import test_roots

_SIZE = 1 << 20
#: How often a link may win; tests/unit/privileged/test_roots.py has it try
#: for longer.
_TRIES = 250


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


@contextlib.contextmanager
def file_system(directory: pathlib.Path) -> Iterator[None]:
    """A file system in memory; all of them number their files alike."""
    directory.mkdir(parents=True, exist_ok=True)
    where = str(directory)
    subprocess.run(['mount', '-t', 'tmpfs', 'volumes', where], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', where], check=True)


@contextlib.contextmanager
def drbd(backing: pathlib.Path) -> Iterator[pathlib.Path]:
    """A device of DRBD on a file, as LINSTOR makes them; its link.

    The kernel of Debian has version 8.4, which is primary on one host at a
    time, and only if somebody says so.
    """

    def run(*command: str) -> str:
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()

    setup = '/usr/lib/drbd/drbdsetup-84'
    run('modprobe', 'drbd', 'usermode_helper=/bin/true')
    with backing.open('wb') as file:
        file.truncate(16 * _SIZE)
    disk = run('losetup', '--find', '--show', str(backing))
    link = pathlib.Path(beds.LOCAL_ROOT, 'by-res-volume')
    try:
        run('drbdmeta', '--force', '0', 'v08', disk, 'internal', 'create-md')
        run(setup, 'new-resource', 'volume')
        run(setup, 'new-minor', 'volume', '0', '0')
        run(setup, 'attach', '0', disk, disk, 'internal')
        run(setup, 'primary', '0', '--force')
        link.symlink_to('/dev/drbd0')
        yield link
    finally:
        link.unlink(missing_ok=True)
        run(setup, 'down', 'volume')
        run('losetup', '--detach', disk)
        backing.unlink()


def make(file: pathlib.Path, word: bytes) -> int:
    """A file with a word all over it.

    :returns: its inode number
    """
    file.write_bytes(word * (_SIZE // len(word)))
    return file.stat().st_ino


def test_two_file_systems_have_the_same_inode_number(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a file on each of two file systems, of one inode number
    directories = [pathlib.Path(beds.LOCAL_ROOT, name) for name in 'ab']
    with file_system(directories[0]), file_system(directories[1]):
        files = [directory / 'volume' for directory in directories]
        one, other = make(files[0], b'one.'), make(files[1], b'more')
        assert one == other
        before = bed.snapshot()
        # When both are attached
        some = bed.create_local_volume()
        results = [
            worker.attach(some, name, connection_info=info(str(file)))
            for name, file in zip('ab', files, strict=True)
        ]
        # Then each is its own volume
        assert [one.status for one in results] == ['attached'] * 2, [
            one.as_dict() for one in results
        ]
        read = [bed.read(one.device.path)[:4] for one in results]
        assert read == [b'one.', b'more']
        # And one stays when the other goes
        assert worker.detach('a').status == 'detached'
        assert bed.read(results[1].device.path)[:4] == b'more'
        assert worker.detach('b').status == 'detached'
        bed.remove_volume(some)
        assert bed.snapshot() == before


def test_a_block_device_that_is_mounted(
    bed: kernel_bed.KernelBed, worker: harness.Harness, tmp_path: pathlib.Path
) -> None:
    # Given a disk with a file system that is mounted, and a link to it
    volume = bed.create_volume()
    disk = worker.attach(volume).device.path
    link = pathlib.Path(beds.LOCAL_ROOT, 'link')
    link.parent.mkdir(mode=0o755, exist_ok=True)
    link.symlink_to(disk)
    subprocess.run(['mkfs.ext4', '-q', disk], check=True)
    subprocess.run(['mount', disk, str(tmp_path)], check=True)
    try:
        # When it is to be attached as a local volume, then it is refused
        given = info(str(link))
        result = worker.attach(volume, 'local', connection_info=given)
        assert result.error.code == 'in_use', result.as_dict()
        assert str(tmp_path) in result.error.message
    finally:
        subprocess.run(['umount', str(tmp_path)], check=True)
    result = worker.attach(volume, 'local', connection_info=given)
    assert result.device.path == disk, result.as_dict()
    assert worker.detach('local').status == 'detached'
    assert worker.detach(volume.name).status == 'detached'
    link.unlink()


def test_a_file_that_somebody_has_attached_by_another_name(
    bed: kernel_bed.KernelBed, worker: harness.Harness, tmp_path: pathlib.Path
) -> None:
    volume = bed.create_local_volume()
    subprocess.run(
        ['mount', '--bind', beds.LOCAL_ROOT, str(tmp_path)], check=True
    )
    try:
        with bed.loop_device(str(tmp_path / volume.name)):
            before = bed.snapshot()
            result = worker.attach(volume)
            assert result.error.code == 'in_use', result.as_dict()
            assert bed.snapshot() == before
    finally:
        subprocess.run(['umount', str(tmp_path)], check=True)
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'


def test_a_directory_that_is_swapped_for_a_link_while_it_is_attached(
    bed: kernel_bed.KernelBed, tmp_path: pathlib.Path
) -> None:
    # Given somebody who exchanges a directory of volumes with a link
    outside = tmp_path / 'volume'
    make(outside, b'not.')
    inside = pathlib.Path(beds.LOCAL_ROOT, 'swapped')
    inside.mkdir(mode=0o755, parents=True)
    make(inside / 'volume', b'good')
    link = inside.with_name('link')
    link.symlink_to(tmp_path)
    path = str(inside / 'volume')
    swapper = multiprocessing.get_context('fork').Process(
        target=test_roots.swap, args=(inside, link), daemon=True
    )
    swapper.start()
    outcomes = collections.Counter[int]()
    with contextlib.closing(bed.host()) as host:
        found = loops.Loops(host)
        try:
            # When the helper is told to attach a file of it, again and again
            for tried in range(1, _TRIES + 1):
                try:
                    bed.verbs.loop.attach(path, True)
                    outcomes[0] += 1
                except OSError as error:
                    outcomes[error.errno or 0] += 1
                # Then it is never what the link leads to
                files = found.backing_files()
                assert str(outside) not in files.values(), tried
                for device in files:
                    with contextlib.suppress(OSError):
                        bed.verbs.loop.detach(device, path)
        finally:
            swapper.kill()
            swapper.join()
        # and both have been met, besides a device that udev still looks at
        assert outcomes.keys() >= {0, errno.EPERM}
        assert outcomes.keys() <= {0, errno.EPERM, errno.ETXTBSY}
        host.uevents.wait_for(
            lambda: None if found.backing_files() else True,
            lambda _: True,
            deadlines.Deadline.after(20.0),
        )
    for one in (inside, link):
        one.unlink() if one.is_symlink() else shutil.rmtree(one)


def test_a_device_that_an_earlier_version_has_marked(
    bed: kernel_bed.KernelBed,
) -> None:
    # Given a loop device whose mark does not have the file system
    volume = bed.create_local_volume()
    before = bed.snapshot()
    file = os.open(volume.target, os.O_RDWR)
    mark = loop._mark(volume.target)
    status = loop._INFO.pack(*(0,) * 9, mark, b'', b'', 0, 0)
    loop._configure(loop._CONFIG.pack(file, 0, status), os.O_RDWR)
    os.close(file)
    # Then it is known as ours, by what the kernel knows of its file
    host = bed.host()
    (device,) = loops.Loops(host).ours(volume.target)
    now = os.stat(volume.target)
    found = loops.File(*bed.verbs.loop.identify(device))
    assert found == (now.st_dev, now.st_ino, '')
    bed.verbs.loop.resize(device, volume.target)
    bed.verbs.loop.detach(device, volume.target)
    host.close()
    assert bed.snapshot() == before


def test_a_file_system_that_is_mounted_over_an_attached_file(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an attached file
    directory = pathlib.Path(beds.LOCAL_ROOT, 'below')
    file = directory / 'volume'
    some = bed.create_local_volume()
    with file_system(directory):
        first = make(file, b'one.')
        before = bed.snapshot()
        result = worker.attach(some, 'a', connection_info=info(str(file)))
        assert result.status == 'attached', result.as_dict()
        # When another one has its name and its inode number
        with file_system(directory):
            assert make(file, b'more') == first
            # Then nobody is given the first in its place
            again = worker.attach(some, 'b', connection_info=info(str(file)))
            assert again.error.code == 'identity_mismatch', again.as_dict()
            assert bed.read(result.device.path)[:4] == b'one.'
        # And it is the same one as before when it can be seen again
        again = worker.attach(some, 'b', connection_info=info(str(file)))
        assert again.device.path == result.device.path, again.as_dict()
        assert worker.detach('a').status == 'detached'
        assert worker.detach('b').status == 'detached'
        assert bed.snapshot() == before
    bed.remove_volume(some)


@pytest.mark.parametrize('root', [beds.LOCAL_ROOT, '/dev/drbd*'])
def test_a_device_of_drbd(
    bed: kernel_bed.KernelBed, worker: harness.Harness, root: str
) -> None:
    # Given what Cinder's driver for LINSTOR hands out: a link or the node
    shape = bed.create_local_volume()
    worker.conf.set_override('local_roots', [root], group='local')
    with drbd(pathlib.Path('/run/drbd-disk')) as link:
        before = bed.snapshot()
        node = link.resolve()
        with node.open('wb') as device:
            device.write(b'of LINSTOR')
        path = str(link if root == beds.LOCAL_ROOT else node)
        # When it is attached, then it is that device, and its data
        result = worker.attach(shape, 'one', connection_info=info(path))
        assert result.status == 'attached', result.as_dict()
        assert result.device.path == str(node)
        assert bed.read(result.device.path)[:10] == b'of LINSTOR'
        # And a detach leaves it to DRBD
        assert worker.detach('one').status == 'detached'
        assert bed.snapshot() == before
        assert node.exists()
        # A pattern is for these alone, wherever the operator has others
        other = worker.attach(shape, 'two', connection_info=info('/dev/loop0'))
        assert 'local_roots' in other.error.message
