# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Files on more than one file system."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess

import pytest

from attachworker.connectors.local import loops
from attachworker.privileged import loop
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_local import info
from tests.kernel import bed as kernel_bed

_SIZE = 1 << 20


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
