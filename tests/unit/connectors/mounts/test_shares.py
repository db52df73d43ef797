# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is mounted, who uses a file of it, and what a mount is told."""

import errno
import pathlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import mounts
from attachworker.connectors.mounts import shares
from attachworker.host import mounts as tables
from tests.unit.on_files import on_files

BASE = '/srv/mnt'
DIRECTORY = '0123456789abcdef' * 2
FILE = f'{DIRECTORY}/volume'
OPTIONS = 'rw,vers=4.2,proto={},port={},addr={}'


def line(
    point: str,
    source: str = 'server:/a',
    flags: str = 'rw',
    options: str = 'rw',
    number: int = 40,
) -> str:
    return (
        f'{number} 22 0:{number} / {point} {flags} shared:1 - nfs4 {source} '
        f'{options}\n'
    )


@pytest.fixture
def table(tmp_path: pathlib.Path) -> pathlib.Path:
    found = tmp_path / tables.TABLE
    found.parent.mkdir(parents=True)
    found.write_text('22 1 259:1 / / rw,relatime - ext4 /dev/root rw\n')
    return found


def made(root: pathlib.Path, **verbs: Any) -> tuple[Any, Any]:
    host = on_files(root, mounts=types.SimpleNamespace(**verbs))
    found = shares.Shares(host, 'nfs', BASE)
    return found, shares.Files(host, 'nfs', found)


def test_what_is_mounted(tmp_path: pathlib.Path, table: pathlib.Path) -> None:
    found, files = made(tmp_path)
    assert found.mounted() == {}
    assert files.device(FILE) is None
    table.write_text(
        line('/other')
        + line(f'{BASE}/no-share')
        + line(f'{BASE}/{DIRECTORY}/below')
        + line(f'{BASE}/{DIRECTORY}', 'first:/a')
        # which covers the first one
        + line(f'{BASE}/{DIRECTORY}', 'second:/a', number=41)
    )
    assert list(found.mounted()) == [DIRECTORY]
    assert found.find(DIRECTORY).source == 'second:/a'
    # And a later mount in its place is another device
    device = files.device(FILE)
    table.write_text(line(f'{BASE}/{DIRECTORY}'))
    assert files.device(FILE) not in (None, device)


@pytest.mark.parametrize(
    ('flags', 'options', 'read_only'),
    [('rw', 'rw', False), ('ro', 'rw', True), ('rw', 'ro', True)],
)
def test_a_share_that_is_read_only(
    tmp_path: pathlib.Path,
    table: pathlib.Path,
    flags: str,
    options: str,
    read_only: bool,
) -> None:
    table.write_text(line(f'{BASE}/{DIRECTORY}', 'a:/b', flags, options))
    assert made(tmp_path)[1].read_only(FILE) is read_only


def test_a_table_that_nobody_sees_is_no_empty_one(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(FileNotFoundError, match='hidepid'):
        made(tmp_path)[0].mounted()


def users_of(tmp_path: pathlib.Path, inspect: Any) -> tuple[list[str], Any]:
    """Who uses a file; and by which inode it was looked for."""
    asked = []

    def users(kind: str, directory: str, name: str, inode: Any) -> Any:
        asked.append(inode)
        return [(7, 'qemu')], [(8, 'hidden')], ['loop device loop0']

    _, files = made(tmp_path, inspect=inspect, users=users)
    found = files.of([FILE], deadlines.Deadline.after(10.0))[FILE]
    return found, asked


def test_the_users_of_a_file(tmp_path: pathlib.Path) -> None:
    info = tmp_path / 'sys/kernel/config/target/core/fileio_0/one/info'
    info.parent.mkdir(parents=True)
    info.write_text(f'Status: x  File: {BASE}/{FILE}  Size: 1  Mode: x')
    found, asked = users_of(tmp_path, lambda *_: [12, 512])
    assert found == [
        'process 7 (qemu)',
        'loop device loop0',
        'LIO back store fileio_0/one',
    ]
    assert asked == [12]


def test_of_a_dead_server_the_name_of_the_file_tells(
    tmp_path: pathlib.Path,
) -> None:
    def inspect(*_: Any) -> Any:
        raise exception.DeadlineExceeded(step='x')

    found, asked = users_of(tmp_path, inspect)
    assert found[:1] == ['process 7 (qemu)']
    assert asked == [None]


def test_what_is_mounted_no_more_nobody_uses(tmp_path: pathlib.Path) -> None:
    def inspect(*_: Any) -> Any:
        raise OSError(errno.ENODEV, 'it is not mounted')

    assert users_of(tmp_path, inspect) == ([], [])


def test_an_error_is_no_size(tmp_path: pathlib.Path) -> None:
    for number, size in ((errno.ENOENT, None), (errno.ENODEV, None)):

        def gone(*_: Any, number: int = number) -> Any:
            raise OSError(number, 'gone')

        assert made(tmp_path, inspect=gone)[1].size(FILE) is size

    def failing(*_: Any) -> Any:
        raise OSError(errno.EIO, 'an error')

    with pytest.raises(OSError, match='an error'):
        made(tmp_path, inspect=failing)[1].size(FILE)


@pytest.mark.parametrize(
    ('options', 'server'),
    [
        (OPTIONS.format('tcp', 2050, '192.0.2.1'), '192.0.2.1:2050'),
        (OPTIONS.format('tcp6', 0, '2001:db8::1'), '[2001:db8::1]:2049'),
        (OPTIONS.format('rdma', 20049, '192.0.2.1'), None),
        ('rw', None),
        ('rw,addr=192.0.2.1', '192.0.2.1:2049'),
    ],
)
def test_who_answers_for_a_mount(options: str, server: str | None) -> None:
    mount = tables.Mount('0:40', '/a', 'server:/a', 'nfs4', options)
    assert mounts._server_of(mount) == server


@pytest.mark.parametrize(
    ('options', 'portal'),
    [
        (None, '[2001:db8::1]:2049'),
        ('mountport=3,rw', '[2001:db8::1]:2049'),
        ('port=2050,rw', '[2001:db8::1]:2050'),
        ('hard,port=2050', '[2001:db8::1]:2050'),
    ],
)
def test_the_port_of_a_server(options: str | None, portal: str) -> None:
    assert mounts._with_port('[2001:db8::1]:2049', options) == portal


@pytest.mark.parametrize(
    ('ours', 'theirs', 'both'),
    [
        ('', None, []),
        ('vers=4.2,soft', None, ['soft', 'vers=4.2']),
        ('vers=4.2,soft', 'hard', ['hard', 'vers=4.2']),
        ('nfsvers=4.2,noac', 'ac,vers=3', ['ac', 'vers=3']),
        ('timeo=100', 'retrans=3,ro', ['retrans=3', 'ro', 'timeo=100']),
    ],
)
def test_what_a_request_says_goes_first(
    tmp_path: pathlib.Path, ours: str, theirs: str | None, both: list[str]
) -> None:
    settings = types.SimpleNamespace(
        mount_options=ours, mount_point_base=BASE, mount_timeout=1
    )
    connector = mounts.NFSConnector(on_files(tmp_path), settings)
    info = types.SimpleNamespace(options=theirs)
    assert sorted(connector._options(info)) == both
