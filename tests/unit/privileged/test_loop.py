# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs for loop devices: what they refuse.

What they do is asserted on the real kernel, in tests/contract/test_local.py.
"""

from collections.abc import Callable
from collections.abc import Iterator
import errno
import os
import pathlib
import subprocess

from oslo_config import cfg
import pytest

from attachworker.privileged import loop


@pytest.mark.parametrize(
    'verb',
    [
        lambda name: loop.detach(name, '/volume'),
        lambda name: loop.resize(name, '/volume'),
        lambda name: loop.is_ours(name, '/volume'),
        loop.identify,
    ],
)
@pytest.mark.parametrize('name', ['', 'sda', '-D', '../loop0', 'loop0\n'])
def test_hostile_names(verb: Callable[[str], object], name: str) -> None:
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(name)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    directory = tmp_path / 'root'
    directory.mkdir(mode=0o755)
    cfg.CONF.set_override('local_roots', [str(directory)], group='local')
    yield directory
    cfg.CONF.clear_override('local_roots', group='local')


def test_hostile_paths(root: pathlib.Path) -> None:
    link = root / 'link'
    link.symlink_to('/etc/passwd')
    for path in (str(link), '/etc/passwd'):
        with pytest.raises(PermissionError, match='symbolic link|none of the'):
            loop.attach(path, False)
    for path in ('etc/passwd', '/etc/../etc/passwd', f'{root}/below'):
        (root / 'below').mkdir(exist_ok=True)
        with pytest.raises(ValueError, match='^not '):
            loop.attach(path, False)


@pytest.fixture
def volume(root: pathlib.Path) -> pathlib.Path:
    if os.geteuid() != 0 or not os.path.exists('/dev/loop-control'):
        pytest.skip('only root has loop devices')
    file = root / 'volume'
    file.write_bytes(b'x' * (1 << 20))
    return file


def run(*command: str) -> str:
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def devices(volume: pathlib.Path) -> list[str]:
    return run('losetup', '-nO', 'NAME', '-j', str(volume)).splitlines()


def test_a_file_of_which_somebody_has_a_device(
    volume: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Given a file that somebody knows by another name
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    run('mount', '--bind', str(volume.parent), str(elsewhere))
    try:
        theirs = run('losetup', '--find', '--show', f'{elsewhere}/volume')
    finally:
        run('umount', '--lazy', str(elsewhere))
    try:
        # When it is to become a device, then that is refused
        for read_only in (False, True):
            with pytest.raises(OSError, match='has this file') as caught:
                loop.attach(str(volume), read_only)
            assert caught.value.errno == errno.ETXTBSY
            assert theirs.removeprefix('/dev/') in str(caught.value)
    finally:
        run('losetup', '--detach', theirs)
    # And not any more when they have let go of it
    loop.attach(str(volume), False)
    (device,) = devices(volume)
    loop.detach(device.removeprefix('/dev/'), str(volume))
    assert devices(volume) == []


def test_a_file_that_this_host_swaps_to(volume: pathlib.Path) -> None:
    volume.chmod(0o600)
    run('mkswap', str(volume))
    try:
        run('swapon', str(volume))
    except subprocess.CalledProcessError:
        pytest.skip('the file system of this file takes no swap')
    try:
        with pytest.raises(OSError, match='swaps to') as caught:
            loop.attach(str(volume), True)
    finally:
        run('swapoff', str(volume))
    assert caught.value.errno == errno.ETXTBSY
    assert devices(volume) == []


def test_what_the_kernel_is_given() -> None:
    # As linux/loop.h has them, on all architectures
    assert (loop._INFO.size, loop._CONFIG.size) == (232, 304)


def test_a_mark_fits_and_tells_paths_apart() -> None:
    one, other = loop._mark('/a' * 2000), loop._mark('/a' * 2000 + 'b')
    assert one != other
    # with what a file system is called behind it
    assert len(one) == len(other) < 64 - len('-0123456789abcdef')
    assert one.startswith(b'attachworker-')
