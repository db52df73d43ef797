# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Shares: what the verbs refuse before they do anything."""

from collections.abc import Iterator
import errno
import pathlib
from typing import Any

from oslo_config import cfg
import pytest

from attachworker.privileged import mounts

DIRECTORY = '0123456789abcdef' * 2
TABLE = (
    '22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n'
    '40 22 0:40 / {base}/{directory} rw,nosuid - {kind} server:/a rw\n'
)


@pytest.fixture
def base(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    """The directory for mounts; nothing is mounted there."""
    found = tmp_path.resolve() / 'mnt'
    found.mkdir()
    cfg.CONF.set_override('mount_point_base', str(found), group='nfs')
    monkeypatch.setattr(mounts, 'TABLE', tmp_path / 'mountinfo')
    monkeypatch.setattr(mounts, '_in_host', lambda body: body())
    show(found, 'ext4', directory='f' * 32)
    yield found
    cfg.CONF.clear_override('mount_point_base', group='nfs')


def show(base: pathlib.Path, kind: str, directory: str = DIRECTORY) -> None:
    """Show something as mounted."""
    mounts.TABLE.write_text(
        TABLE.format(base=base, directory=directory, kind=kind)
    )


def mount(**values: Any) -> None:
    arguments: dict[str, Any] = {
        'kind': 'nfs',
        'share': 'server:/a',
        'options': ['vers=4.2'],
        'timeout': 1.0,
    }
    mounts.mount(**arguments | values)


@pytest.mark.parametrize(
    'wrong',
    [
        {'kind': 'tmpfs'},
        {'kind': 'ext4'},
        {'share': '/dev/sda1'},
        {'share': 'server:a'},
        {'share': '-o:/a'},
        {'share': 'server:/a b'},
        {'share': 'server:/a\n'},
        {'share': 'server:/../a'},
        {'share': 'server:/a/..'},
        {'share': 'server:/' + 'a' * 1024},
        {'options': ['suid']},
        {'options': ['dev']},
        {'options': ['exec']},
        {'options': ['remount']},
        {'options': ['bind']},
        {'options': ['vers=4.2,suid']},
        {'options': ['vers=4.2\n']},
        {'options': ['addr=192.0.2.1']},
        {'options': ['-f']},
        {'options': ['']},
    ],
)
def test_what_a_mount_may_not_be_asked_for(
    base: pathlib.Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match='^not '):
        mount(**wrong)


@pytest.mark.parametrize(
    ('verb', 'arguments'),
    [
        (mounts.unmount, ('nfs', '../etc', False)),
        (mounts.unmount, ('nfs', '', False)),
        (mounts.unmount, ('nfs', DIRECTORY.upper(), True)),
        (mounts.inspect, ('nfs', DIRECTORY, '../passwd', True)),
        (mounts.inspect, ('nfs', DIRECTORY, '..', True)),
        (mounts.inspect, ('nfs', '/etc', 'passwd', True)),
        (mounts.flush, ('nfs', DIRECTORY, 'a/b')),
        (mounts.users, ('nfs', DIRECTORY, '', 1)),
        (mounts.users, ('nfs', DIRECTORY, 'a', -1)),
        (mounts.users, ('nfs', DIRECTORY, 'a', True)),
    ],
)
def test_names_that_lead_elsewhere(
    base: pathlib.Path, verb: Any, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match='^not '):
        verb(*arguments)


def test_without_a_directory_for_mounts_nothing_is_done() -> None:
    for verb, arguments in (
        (mounts.mount, ('server:/a', [], 1.0)),
        (mounts.unmount, (DIRECTORY, False)),
        (mounts.users, (DIRECTORY, 'volume', 1)),
        (mounts.inspect, (DIRECTORY, 'volume', True)),
    ):
        with pytest.raises(PermissionError, match='mount_point_base'):
            verb('nfs', *arguments)


def test_a_file_where_no_share_is_mounted(base: pathlib.Path) -> None:
    (base / DIRECTORY).mkdir()
    (base / DIRECTORY / 'volume').touch()
    for verb, arguments in (
        (mounts.inspect, (True,)),
        (mounts.flush, ()),
        (mounts.users, (None,)),
    ):
        with pytest.raises(OSError, match='no share is mounted') as caught:
            verb('nfs', DIRECTORY, 'volume', *arguments)
        assert caught.value.errno == errno.ENODEV


def test_a_file_of_another_file_system(base: pathlib.Path) -> None:
    # Given something else that is mounted in the place of a share
    (base / DIRECTORY).mkdir()
    show(base, 'tmpfs')
    for verb, arguments in (
        (mounts.inspect, ('volume', True)),
        (mounts.users, ('volume', None)),
        (mounts.unmount, (True,)),
    ):
        with pytest.raises(FileExistsError, match='already'):
            verb('nfs', DIRECTORY, *arguments)
    # Or a share that was mounted over meanwhile: what is open is another one
    show(base, 'nfs4')
    with pytest.raises(OSError, match='is gone') as caught:
        mounts.inspect('nfs', DIRECTORY, 'volume', True)
    assert caught.value.errno == errno.ENODEV


def test_a_mount_that_was_not_made_here(
    base: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(base, 'nfs4')
    monkeypatch.setattr(mounts.made, 'PLACE', base.parent / 'notes')
    with pytest.raises(PermissionError, match='not mounted by attachworker'):
        mounts.unmount('nfs', DIRECTORY, True)
