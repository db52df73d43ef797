# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Threads for what may block each of them for ever."""

import threading

import pytest

from attachworker.host import threads
from tests.unit import threads as limits

PATIENCE = 10.0


def test_what_is_stuck_keeps_nothing_else_waiting() -> None:
    # Given more that is stuck than any pool would have threads
    executor, release = threads.Executor(), threading.Event()
    stuck = [executor.submit(release.wait) for _ in range(200)]
    try:
        # When one more thing is to be done, then it is
        assert executor.submit(pow, 2, 3).result(PATIENCE) == 8
    finally:
        release.set()
    assert all(one.result(PATIENCE) for one in stuck)


def test_whoever_waits_has_the_error() -> None:
    future = threads.Executor().submit(int, 'none')
    with pytest.raises(ValueError, match='none'):
        future.result(PATIENCE)


def test_without_a_thread_it_is_done_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = limits.exhaust(monkeypatch)
    future = threads.Executor().submit(threading.current_thread)
    assert refused
    assert future.done()
    assert future.result() is threading.current_thread()
