# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs for loop devices: what they refuse, and how losetup is run."""

from collections.abc import Callable
import pathlib
import subprocess
from typing import Any

import pytest

from attachworker.privileged import loop


class Losetup:
    """Stands in for the command; notes its arguments."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []
        self.ended: Any = subprocess.CompletedProcess([], 0, b'', b'')

    def __call__(self, command: tuple[str, ...], **how: Any) -> Any:
        assert how['timeout'] > 0
        self.said.append(command)
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended


@pytest.fixture
def losetup(monkeypatch: pytest.MonkeyPatch) -> Losetup:
    made = Losetup()
    monkeypatch.setattr(subprocess, 'run', made)
    return made


@pytest.mark.parametrize('verb', [loop.detach, loop.resize, loop.inode])
@pytest.mark.parametrize('name', ['', 'sda', '-D', '../loop0', 'loop0\n'])
def test_hostile_names(
    losetup: Losetup, verb: Callable[[str], object], name: str
) -> None:
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(name)
    assert losetup.said == []


def test_hostile_paths(losetup: Losetup, tmp_path: pathlib.Path) -> None:
    link = tmp_path / 'link'
    link.symlink_to('/etc/passwd')
    for path in (str(link), 'etc/passwd', '/etc/../etc/passwd', str(tmp_path)):
        with pytest.raises(ValueError, match='^not '):
            loop.attach(path, False)
    assert losetup.said == []


@pytest.mark.parametrize('read_only', [False, True])
def test_attach(
    losetup: Losetup, tmp_path: pathlib.Path, read_only: bool
) -> None:
    file = tmp_path.resolve() / 'volume'
    file.touch()
    loop.attach(str(file), read_only)
    (command,) = losetup.said
    assert ('--read-only' in command) == read_only
    assert command[-1] == str(file)


def test_inode(losetup: Losetup) -> None:
    losetup.ended = subprocess.CompletedProcess([], 0, b'4711\n', b'')
    assert loop.inode('loop3') == 4711
    losetup.ended = subprocess.CompletedProcess([], 0, b'\n', b'')
    with pytest.raises(FileNotFoundError, match='loop3 has no file'):
        loop.inode('loop3')


def test_failure(losetup: Losetup) -> None:
    losetup.ended = subprocess.CompletedProcess([], 1, b'', b'losetup: no\n')
    with pytest.raises(OSError, match='losetup: no'):
        loop.detach('loop3')
    losetup.ended = subprocess.TimeoutExpired('losetup', 30)
    with pytest.raises(OSError, match='does not end'):
        loop.resize('loop3')
