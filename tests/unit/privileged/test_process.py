# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The lock of the helper: what may be locked, and for how long it is."""

from collections.abc import Callable
from collections.abc import Iterator
import fcntl
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from attachworker.privileged import encryption
from attachworker.privileged import iscsi
from attachworker.privileged import multipath
from attachworker.privileged import process

#: Holds a lock and starts a tool; ends when it is killed.
_HELPER = """
import subprocess, sys
from attachworker import privileged
from attachworker.privileged import process
privileged.default.set_client_mode(False)
process.hold(sys.argv[1])
tool = subprocess.Popen(
    ['cat'], stdin=int(sys.argv[2]), pass_fds=process.held()
)
print(flush=True)
tool.wait()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    found = tmp_path / process.LOCK
    found.touch()
    yield found
    for descriptor in process.held():
        os.close(descriptor)
    process._held.clear()


def is_locked(path: pathlib.Path) -> bool:
    with open(path, 'rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_nobody_else_can_write_to_what_the_helper_makes(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Given a helper as oslo.privsep starts it
    before = os.umask(0)
    try:
        # When it is told of its lock, before anything else
        process.hold(str(path))
        (tmp_path / 'made').touch()
    finally:
        os.umask(before)
    assert (tmp_path / 'made').stat().st_mode & 0o777 == 0o644


def test_it_is_locked_until_another_one_is(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    process.hold(str(path))
    assert is_locked(path)
    (tmp_path / 'next').mkdir()
    following = tmp_path / 'next' / process.LOCK
    following.touch()
    process.hold(str(following))
    assert is_locked(following)
    assert not is_locked(path)


def test_one_that_cannot_be_had_changes_nothing(path: pathlib.Path) -> None:
    process.hold(str(path))
    with pytest.raises(BlockingIOError):
        process.hold(str(path))
    with pytest.raises(FileNotFoundError):
        process.hold(str(path.parent / 'missing' / process.LOCK))
    assert is_locked(path)


def test_no_other_file_is_locked(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / 'xtables.lock'
    other.touch()
    with pytest.raises(ValueError, match='lock file'):
        process.hold(str(other))
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(OSError, match='symbolic links'):
        process.hold(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match='lock file'):
        process.hold(str(path))
    assert process.held() == ()


def test_a_tool_that_outlives_the_helper_has_the_lock(
    path: pathlib.Path,
) -> None:
    # Given a helper that has started a tool
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, '-c', _HELPER, str(path), str(reading)],
        stdout=subprocess.PIPE,
        pass_fds=[reading],
    ) as helper:
        os.close(reading)
        assert helper.stdout is not None
        assert helper.stdout.readline()
        # When the helper is killed
        helper.send_signal(signal.SIGKILL)
        helper.wait()
        # Then the lock is free only when the tool has ended
        assert is_locked(path)
        os.close(writing)
        with open(path, 'rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    ('run', 'inherits'),
    [
        (lambda: encryption.close(f'attachworker-{"0" * 32}'), True),
        (lambda: multipath._flush_without_daemon('mpatha'), True),
        # iscsid goes on without it, and that is known otherwise
        (lambda: iscsi._run(['-m', 'session'], 1.0), False),
    ],
    ids=['cryptsetup', 'multipath', 'iscsiadm'],
)
def test_tools_that_act_by_themselves_are_given_the_lock(
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[], object],
    inherits: bool,
) -> None:
    given: list[tuple[int, ...]] = []

    def ended(
        command: object, pass_fds: tuple[int, ...] = (), **how: object
    ) -> object:
        given.append(pass_fds)
        return subprocess.CompletedProcess([], 0, b'', b'')

    monkeypatch.setattr(subprocess, 'run', ended)
    process.hold(str(path))
    run()
    assert given == [process.held() if inherits else ()]
