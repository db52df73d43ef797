# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Users of a loop device of this machine, as its kernel has them."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess

import pytest

from attachworker import deadline as deadlines
from attachworker import host as hosts
from attachworker import privileged
from tests.unit.host import fake_uevents

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists('/dev/loop-control'),
    reason='only root has loop devices',
)


def run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


@contextlib.contextmanager
def looped(path: str) -> Iterator[str]:
    node = run('losetup', '--find', '--show', path)
    try:
        yield node.removeprefix('/dev/')
    finally:
        run('losetup', '--detach', node)


@pytest.fixture
def host() -> Iterator[hosts.Host]:
    """With verbs in this process, as the helper would run them."""
    for context in privileged.CONTEXTS:
        context.set_client_mode(False)
    made = hosts.Host(pathlib.Path('/'), privileged, fake_uevents.FakeSource())
    yield made
    made.close()
    for context in privileged.CONTEXTS:
        context.set_client_mode(True)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[str]:
    file = tmp_path / 'volume'
    with open(file, 'xb') as opened:
        opened.truncate(64 << 20)
    with looped(str(file)) as name:
        yield name


@pytest.fixture
def formatted(disk: str) -> str:
    run('mkfs.ext4', '-q', f'/dev/{disk}')
    return disk


def users(host: hosts.Host, disk: str) -> list[str]:
    return host.users.of([disk], deadlines.Deadline.after(20.0))[disk]


def test_an_idle_device(host: hosts.Host, disk: str) -> None:
    before = len(os.listdir('/proc/self/fd'))
    assert users(host, disk) == []
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_process_that_has_it_open(host: hosts.Host, disk: str) -> None:
    with subprocess.Popen(
        ['sh', '-c', f'exec 3< /dev/{disk}; echo; exec sleep 60'],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = users(host, disk)
        process.kill()
    assert found in (
        [f'process {process.pid} (sh)'],
        [f'process {process.pid} (sleep)'],
    )


def test_a_mount_of_the_host(
    host: hosts.Host, formatted: str, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / 'a directory'
    directory.mkdir()
    run('mount', f'/dev/{formatted}', str(directory))
    found = users(host, formatted)
    run('umount', str(directory))
    assert found == [f'mount {directory}']
    assert users(host, formatted) == []


def test_a_mount_in_another_namespace(
    host: hosts.Host, formatted: str, tmp_path: pathlib.Path
) -> None:
    script = f'mount /dev/{formatted} {tmp_path} && echo && exec sleep 60'
    with subprocess.Popen(
        ['unshare', '--mount', 'sh', '-c', script], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (found,) = users(host, formatted)
        process.kill()
    assert found.startswith(
        f'mount {tmp_path} in the namespace of process {process.pid} ('
    )


def test_a_mount_that_no_process_sees(
    host: hosts.Host, formatted: str, tmp_path: pathlib.Path
) -> None:
    # Given a file system that was unmounted while a file of it is open
    run('mount', f'/dev/{formatted}', str(tmp_path))
    with open(tmp_path / 'file', 'xb'):
        run('umount', '--lazy', str(tmp_path))
        # Then it is in use, though nothing says where
        (found,) = users(host, formatted)
    assert found.startswith(f'whoever has {formatted} exclusively')


def test_swap(host: hosts.Host, disk: str) -> None:
    run('mkswap', '--force', f'/dev/{disk}')
    run('swapon', f'/dev/{disk}')
    found = users(host, disk)
    run('swapoff', f'/dev/{disk}')
    assert found == [f'swap on /dev/{disk}']


def test_a_loop_device_on_top(host: hosts.Host, disk: str) -> None:
    with looped(f'/dev/{disk}') as top:
        assert users(host, disk) == [f'device {top}']
    assert users(host, disk) == []


def test_what_this_machine_lives_on(host: hosts.Host, disk: str) -> None:
    deadline = deadlines.Deadline.after(20.0)
    number = os.stat('/').st_dev
    place = pathlib.Path(
        f'/sys/dev/block/{os.major(number)}:{os.minor(number)}'
    )
    names = [place.resolve().name] if place.exists() else []
    found = host.users.own_file_systems([disk, *names], deadline)
    assert disk not in found
    assert all('/' in found[name] for name in names)
