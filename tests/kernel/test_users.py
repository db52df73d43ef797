# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A device that is in use stays, whoever it is that uses it."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import struct
import subprocess
import tempfile

import pytest
import rtslib_fb

from tests import harness
from tests.kernel.bed import KernelBed

pytestmark = pytest.mark.kernel

#: What a user is called in the error.
Use = Callable[[str], contextlib.AbstractContextManager[str]]
_SIZE = 64 << 20
_SECTOR = 512
_MD = pathlib.Path('/sys/module/md_mod/parameters/new_array')
_MD_REMOVAL = _MD.with_name('legacy_async_del_gendisk')


def run(*command: str) -> str:
    return subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout.strip()


@contextlib.contextmanager
def mounted_elsewhere(path: str) -> Iterator[str]:
    """By a container."""
    run('mkfs.ext4', '-q', '-F', path)
    with tempfile.TemporaryDirectory() as directory:
        script = f'mount {path} {directory} && echo && exec sleep 600'
        with subprocess.Popen(
            ['unshare', '--mount', 'sh', '-c', script], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield f'mount {directory} in the namespace of process'
            finally:
                process.kill()


@contextlib.contextmanager
def unmounted_and_busy(path: str) -> Iterator[str]:
    """A mount that no list has any more."""
    run('mkfs.ext4', '-q', '-F', path)
    with tempfile.TemporaryDirectory() as directory:
        run('mount', path, directory)
        with open(f'{directory}/file', 'xb'):
            run('umount', '--lazy', directory)
            yield 'exclusively'


@contextlib.contextmanager
def swapped_to(path: str) -> Iterator[str]:
    run('mkswap', '--force', path)
    run('swapon', path)
    try:
        # what this host lives on is told before who else uses it
        yield 'this host: swap'
    finally:
        run('swapoff', path)


@contextlib.contextmanager
def in_an_array(path: str) -> Iterator[str]:
    run('modprobe', 'raid1')
    # What Linux 7.2 does by default leaves the array there, stopped or not.
    if _MD_REMOVAL.exists():
        _MD_REMOVAL.write_text('N')
    _MD.write_text('md_test')
    array = pathlib.Path('/sys/block/md_test/md')
    number = os.stat(path).st_rdev
    values = {
        'metadata_version': 'none',
        'level': 'raid1',
        'raid_disks': '1',
        'new_dev': f'{os.major(number)}:{os.minor(number)}',
    }
    for name, value in values.items():
        (array / name).write_text(value)
    (member,) = array.glob('dev-*')
    (member / 'slot').write_text('0')
    (array / 'component_size').write_text('1024')
    (array / 'array_state').write_text('active')
    try:
        yield 'device md_test'
    finally:
        (array / 'array_state').write_text('clear')


@contextlib.contextmanager
def in_a_volume_group(path: str) -> Iterator[str]:
    config = f'devices {{ filter = ["a|^{path}$|", "r|.*|"] }}'
    group = ('--config', config, 'vgtest')
    run('vgcreate', '--yes', '--config', config, 'vgtest', path)
    run('lvcreate', '--yes', '--size', '8m', '--name', 'lvtest', *group)
    try:
        yield '(vgtest-lvtest)'
    finally:
        run('vgremove', '--force', *group)
        run('pvremove', '--config', config, path)


@contextlib.contextmanager
def exported_as_file(path: str) -> Iterator[str]:
    store = rtslib_fb.FileIOStorageObject('share', dev=path)
    try:
        yield 'LIO back store fileio_'
    finally:
        store.delete()


@contextlib.contextmanager
def exported_as_device(path: str) -> Iterator[str]:
    store = rtslib_fb.BlockStorageObject('share', dev=path)
    try:
        yield 'LIO back store iblock_'
    finally:
        store.delete()


@contextlib.contextmanager
def behind_a_loop_device(path: str) -> Iterator[str]:
    node = run('losetup', '--find', '--show', path)
    try:
        yield f'device {node.removeprefix("/dev/")}'
    finally:
        run('losetup', '--detach', node)


@contextlib.contextmanager
def partitioned(path: str) -> Iterator[str]:
    """A partition is mounted; of a map, kpartx has made it."""
    start, length = 2048, 65536
    entry = struct.pack('<B3sB3sII', 0, b'', 0x83, b'', start, length)
    with open(path, 'r+b') as device:
        device.write(bytes(446) + entry + bytes(48) + b'\x55\xaa')
    is_map = path.startswith('/dev/dm-')
    name = pathlib.Path(path).name
    tool = ('kpartx', '-s') if is_map else ('partx',)
    run('udevadm', 'settle')
    if not partitions(name):
        run(*tool, '-a', path)
    (partition,) = partitions(name)
    run('mkfs.ext4', '-q', '-F', f'/dev/{partition}')
    with tempfile.TemporaryDirectory() as directory:
        run('mount', f'/dev/{partition}', directory)
        try:
            yield f'mount {directory}'
        finally:
            run('umount', directory)


def partitions(name: str) -> list[str]:
    directory = pathlib.Path('/sys/class/block') / name
    return [
        *(one.parent.name for one in directory.glob('*/partition')),
        *(one.name for one in (directory / 'holders').iterdir()),
    ]


USES: list[Use] = [
    mounted_elsewhere,
    unmounted_and_busy,
    swapped_to,
    in_an_array,
    in_a_volume_group,
    exported_as_file,
    exported_as_device,
    behind_a_loop_device,
    partitioned,
]


@pytest.mark.parametrize(
    'name', ['a\x0bb', 'a\x85b', 'a\u2028b', 'a \n - b'], ids=ascii
)
def test_whatever_a_mount_is_called_volumes_can_be_detached(
    bed: KernelBed,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
    name: str,
) -> None:
    """Whoever may mount in a namespace of his own chooses such names."""
    volume = bed.create_volume(size=_SIZE)
    result = worker.attach(volume)
    assert result.status == 'attached', result.as_dict()
    place = tmp_path / name
    place.mkdir()
    run('mount', '-t', 'tmpfs', 'none', str(place))
    try:
        result = worker.detach(volume.name)
        assert result.status == 'detached', result.as_dict()
    finally:
        run('umount', str(place))


@pytest.mark.parametrize('multipath', [False, True], ids=['disk', 'map'])
@pytest.mark.parametrize('use', USES, ids=lambda use: use.__name__)
def test_a_device_in_use_stays(
    bed: KernelBed, worker: harness.Harness, use: Use, multipath: bool
) -> None:
    # Given an attached volume
    volume = bed.create_volume(size=_SIZE, portals=2 if multipath else 1)
    result = worker.attach(
        volume, multipath=multipath, min_paths=2 if multipath else 1
    )
    assert result.status == 'attached', result.as_dict()
    path = os.path.realpath(result.device.path)
    before = bed.snapshot()
    # When somebody uses it
    with use(path) as user:
        result = worker.detach(volume.name)
        # Then it is refused, says by whom, and everything is still there
        assert result.status == 'failed', result.as_dict()
        assert result.error.code == 'in_use', result.as_dict()
        assert user in result.error.message
        assert bed.snapshot()['sessions'] == before['sessions']
        # LVM and kpartx have devices of device-mapper, too
        assert set(before['maps']) <= set(bed.snapshot()['maps'])
        assert bed.snapshot()['scsi_devices'] == before['scsi_devices']
    # And once nobody does, it goes
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
