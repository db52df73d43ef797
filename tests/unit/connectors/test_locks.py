# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Locks by name that give up at a deadline."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import locks

PATIENCE = 10.0


def soon() -> deadlines.Deadline:
    return deadlines.Deadline.after(PATIENCE)


def test_other_names_do_not_wait() -> None:
    named = locks.NamedLocks()
    with named.hold('one', soon()), named.hold('two', soon()):
        pass


def test_the_same_name_waits_until_the_deadline() -> None:
    named = locks.NamedLocks()
    with named.hold('one', soon()):
        with pytest.raises(exception.DeadlineExceeded, match='lock one'):
            with named.hold('one', deadlines.Deadline.after(0.01)):
                pytest.fail('it was held twice')
    with named.hold('one', deadlines.Deadline.after(-1.0)):
        pass


def test_who_fails_lets_go() -> None:
    named = locks.NamedLocks()
    with pytest.raises(LookupError), named.hold('one', soon()):
        raise LookupError
    with named.hold('one', soon()):
        pass


def test_who_waits_is_next() -> None:
    named = locks.NamedLocks()
    order: list[str] = []
    asked = threading.Event()

    def other() -> None:
        asked.set()
        with named.hold('one', soon()):
            order.append('second')

    thread = threading.Thread(target=other)
    with named.hold('one', soon()):
        thread.start()
        assert asked.wait(PATIENCE)
        order.append('first')
    thread.join(PATIENCE)
    assert order == ['first', 'second']


#: os-brick's way: oslo.concurrency uses this class of fasteners.
_OTHER = """
import sys
import fasteners
lock = fasteners.InterProcessLock(sys.argv[1])
got = lock.acquire(timeout=float(sys.argv[2]))
print('got' if got else 'busy', flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that wants the lock."""

    def __init__(self, path: pathlib.Path, timeout: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-c', _OTHER, str(path), str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def other(path: pathlib.Path, timeout: float = PATIENCE) -> Iterator[Other]:
    made = Other(path, timeout)
    try:
        yield made
    finally:
        made.end()


def test_another_process_keeps_us_waiting(tmp_path: pathlib.Path) -> None:
    files = locks.FileLocks('os-brick-x', [str(tmp_path)])
    with other(tmp_path / 'os-brick-x') as first:
        assert first.answer() == 'got'
        with pytest.raises(exception.DeadlineExceeded, match='os-brick-x'):
            with files.hold(deadlines.Deadline.after(0.1)):
                pytest.fail('two had it')
    with files.hold(soon()):
        pass


def test_we_keep_another_process_waiting(tmp_path: pathlib.Path) -> None:
    """Of any of its directories, and until the last of us has gone."""
    places = [tmp_path / 'nova', tmp_path / 'cinder']
    for place in places:
        place.mkdir()
    files = locks.FileLocks('os-brick-x', [str(place) for place in places])
    with files.hold(soon()):
        with files.hold(soon()):
            pass
        for place in places:
            with other(place / 'os-brick-x', 0.2) as late:
                assert late.answer() == 'busy'
    for place in places:
        with other(place / 'os-brick-x') as late:
            assert late.answer() == 'got'


def test_a_process_that_waits_gets_its_turn(tmp_path: pathlib.Path) -> None:
    """However many of us come one after another."""
    # Given operations of which one begins before the last has ended
    files = locks.FileLocks('os-brick-x', [str(tmp_path)], max_turn=0.2)
    ended = threading.Event()

    def operate() -> None:
        while not ended.is_set():
            with files.hold(soon()):
                ended.wait(0.05)

    ours = [threading.Thread(target=operate) for _ in range(3)]
    for thread in ours:
        thread.start()
    try:
        # Then another process gets the lock all the same
        with other(tmp_path / 'os-brick-x') as patient:
            assert patient.answer() == 'got'
    finally:
        ended.set()
        for thread in ours:
            thread.join()


def test_an_operation_that_is_stuck_keeps_no_process_waiting(
    tmp_path: pathlib.Path,
) -> None:
    # Given an operation that does not come to its end
    path = tmp_path / 'os-brick-x'
    files = locks.FileLocks('os-brick-x', [str(tmp_path)], max_turn=0.2)
    with files.hold(soon()):
        # Then another process gets the lock before long
        with other(path) as patient:
            assert patient.answer() == 'got'
        # And after it those of this process have it
        with files.hold(soon(), lasting=True), other(path, 0.01) as late:
            assert late.answer() == 'busy'


def test_an_operation_that_was_stuck_takes_the_lock_from_nobody(
    tmp_path: pathlib.Path,
) -> None:
    # Given an operation that has lost the lock, and one that has it since
    path = tmp_path / 'os-brick-x'
    files = locks.FileLocks('os-brick-x', [str(tmp_path)], max_turn=0.2)
    with contextlib.ExitStack() as second:
        with files.hold(soon()):
            with other(path) as patient:
                assert patient.answer() == 'got'
            second.enter_context(files.hold(soon(), lasting=True))
        # When the first comes to its end, then the second has it still
        with other(path, 0.5) as late:
            assert late.answer() == 'busy'
    with other(path) as late:
        assert late.answer() == 'got'


def test_a_lock_that_must_last_keeps_only_other_processes_waiting(
    tmp_path: pathlib.Path,
) -> None:
    # Given an operation that takes long and must not be disturbed
    path = tmp_path / 'os-brick-x'
    files = locks.FileLocks('os-brick-x', [str(tmp_path)], max_turn=0.2)
    with files.hold(soon(), lasting=True):
        with other(path, 0.5) as late:
            assert late.answer() == 'busy'
        # Then other operations of this process go on beside it
        with files.hold(soon()):
            pass


def test_no_directories_no_locks() -> None:
    files = locks.FileLocks('x', [])
    with files.hold(deadlines.Deadline.after(-1.0)):
        assert files.unavailable() is None


def test_a_directory_that_is_not_there(tmp_path: pathlib.Path) -> None:
    files = locks.FileLocks('x', [str(tmp_path / 'gone')])
    assert 'no directory' in str(files.unavailable())
    with pytest.raises(exception.HostToolFailed, match='gone'):
        with files.hold(soon()):
            pytest.fail('there is nothing to hold')
    # and who failed blocks nobody
    (tmp_path / 'gone').mkdir()
    assert files.unavailable() is None
    with files.hold(soon()):
        pass


def test_a_new_lock_file_is_for_the_owner_of_its_directory(
    tmp_path: pathlib.Path,
) -> None:
    files = locks.FileLocks('x', [str(tmp_path)])
    before = os.umask(0o077)
    try:
        with files.hold(soon()):
            made = (tmp_path / 'x').stat()
    finally:
        os.umask(before)
    assert (made.st_uid, made.st_gid) == (
        tmp_path.stat().st_uid,
        tmp_path.stat().st_gid,
    )
    # Whatever the umask: the service shares it with the worker by a group
    assert made.st_mode & 0o777 == 0o660


@pytest.mark.parametrize('there', [False, True])
def test_a_link_in_place_of_the_lock_file_is_not_followed(
    tmp_path: pathlib.Path, there: bool
) -> None:
    """Its directory belongs to another user than a worker that is root."""
    elsewhere = tmp_path / 'elsewhere'
    if there:
        elsewhere.write_text('what it is')
    (tmp_path / 'lock').symlink_to(elsewhere)
    files = locks.FileLocks('lock', [str(tmp_path)])
    with pytest.raises(exception.HostToolFailed, match='symbolic link'):
        with files.hold(soon()):
            pytest.fail('a link was followed')
    assert elsewhere.exists() is there
    # And the operator reads what to do before a request fails
    assert 'symbolic link' in str(files.unavailable())
    assert 'remove it' in str(files.unavailable())


def test_a_pipe_in_place_of_the_lock_file_keeps_nobody(
    tmp_path: pathlib.Path,
) -> None:
    os.mkfifo(tmp_path / 'lock')
    files = locks.FileLocks('lock', [str(tmp_path)])
    with pytest.raises(exception.HostToolFailed, match='no regular file'):
        with files.hold(soon()):
            pytest.fail('a pipe was opened')
    assert 'no regular file' in str(files.unavailable())


@pytest.mark.parametrize('which', ['', '..'])
def test_a_directory_to_which_everybody_may_write(
    tmp_path: pathlib.Path, which: str
) -> None:
    # Given a lock_path, or what is above it, that strangers can change
    place = tmp_path / 'state' / 'locks'
    place.mkdir(parents=True)
    (place / which).resolve().chmod(0o777)
    files = locks.FileLocks('x', [str(place)])
    # Then no file is made there, and the operator is told the command
    with pytest.raises(exception.HostToolFailed, match='chmod o-w'):
        with files.hold(soon()):
            pytest.fail('a stranger was trusted')
    assert 'chmod o-w' in str(files.unavailable())
    assert list(place.iterdir()) == []
    # And where none may touch what is another's, it is fine
    (place / which).resolve().chmod(0o1777)
    assert files.unavailable() is None
    with files.hold(soon()):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give it away')
def test_a_directory_below_one_of_a_stranger(tmp_path: pathlib.Path) -> None:
    place = tmp_path / 'state' / 'locks'
    place.mkdir(parents=True)
    os.chown(place, 4711, 4711)
    os.chown(place.parent, 4712, 4712)
    files = locks.FileLocks('x', [str(place)])
    with pytest.raises(exception.HostToolFailed, match='user 4712'):
        with files.hold(soon()):
            pytest.fail('a stranger was trusted')
    # It is the service's own, or root's, all the way
    os.chown(place.parent, 4711, 4711)
    with files.hold(soon()):
        assert (place / 'x').stat().st_uid == 4711


def test_a_link_above_the_directory_leads_to_the_same_file(
    tmp_path: pathlib.Path,
) -> None:
    """As /var/lock is one to /run/lock."""
    (tmp_path / 'locks').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'locks')
    files = locks.FileLocks('x', [str(tmp_path / 'link')])
    assert files.unavailable() is None
    with files.hold(soon()):
        assert (tmp_path / 'locks/x').exists()
