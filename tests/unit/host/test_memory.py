# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Memory for tools that take much of it: how it is shared."""

import errno
import pathlib
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import memory

GIB = 1 << 30


def made(
    root: pathlib.Path, available: int | None = 64 * GIB, running: str = ''
) -> memory.Memory:
    if available is not None:
        (root / 'proc').mkdir()
        (root / 'proc/meminfo').write_text(
            f'MemTotal: 1 kB\nMemAvailable:   {available // 1024} kB\n'
        )
    return memory.Memory(root, lambda name: name == running)


def soon() -> deadlines.Deadline:
    return deadlines.Deadline.after(0.05)


def test_sixteen_at_once_take_turns(tmp_path: pathlib.Path) -> None:
    # Given room for two at a time
    shared = made(tmp_path)
    lock, now, most = threading.Lock(), 0, 0
    deadline = deadlines.Deadline.after(30)

    def run(name: str) -> None:
        nonlocal now, most
        with shared.held(name, GIB, deadline):
            with lock:
                now += 1
                most = max(most, now)
            both.wait(10)
            with lock:
                now -= 1

    # When sixteen come, then two by two they have it
    both = threading.Barrier(2)
    threads = [threading.Thread(target=run, args=(str(i),)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (now, most) == (0, 2)
    assert not both.broken


def test_what_there_will_never_be_is_refused(tmp_path: pathlib.Path) -> None:
    shared = made(tmp_path, available=GIB // 2)
    for amount, reason in (
        (4 * GIB, 'option encryption_memory allows 2048 MiB'),
        (GIB, 'takes 1024 MiB of memory, and this host has 512 MiB'),
    ):
        with pytest.raises(OSError, match=reason) as caught:
            with shared.held('one', amount, soon()):
                pass
        assert caught.value.errno == errno.ENOMEM
    # and those that take less have it
    with shared.held('two', GIB // 4, soon()):
        pass


def test_what_the_host_has_available_is_shared(
    tmp_path: pathlib.Path,
) -> None:
    shared = made(tmp_path, available=3 * GIB // 2)
    with shared.held('one', GIB, soon()):
        with pytest.raises(exception.DeadlineExceeded):
            with shared.held('two', GIB, soon()):
                pass
    with shared.held('two', GIB, soon()):
        pass


def test_a_tool_that_was_given_up_counts(tmp_path: pathlib.Path) -> None:
    # Given a run whose caller has left, and that goes on
    shared = made(tmp_path, running='stuck')
    with shared.held('stuck', 2 * GIB, soon()):
        pass
    # Then others wait for it
    with pytest.raises(exception.DeadlineExceeded):
        with shared.held('two', GIB, soon()):
            pass


def test_nobody_overtakes_one_that_takes_much(tmp_path: pathlib.Path) -> None:
    shared = made(tmp_path)
    with shared.held('one', GIB, soon()):
        large = threading.Thread(target=_hold, args=(shared, 2 * GIB))
        large.start()
        while not shared._waiting:
            large.join(0.01)
        with pytest.raises(exception.DeadlineExceeded):
            with shared.held('small', GIB // 2, soon()):
                pass
    large.join(10)
    assert not large.is_alive()


def _hold(shared: memory.Memory, amount: int) -> None:
    with shared.held('large', amount, deadlines.Deadline.after(10)):
        pass


def test_a_host_that_does_not_say(tmp_path: pathlib.Path) -> None:
    with made(tmp_path, available=None).held('one', GIB, soon()):
        pass
