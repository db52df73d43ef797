# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Looks at all processes that several share."""

from collections.abc import Callable
import concurrent.futures
import errno
import logging
import threading
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import processes
from tests.unit.on_files import on_files

PATIENCE = 10.0
Hidden = list[tuple[int, str]]


class Helper:
    """Looks when it may, and notes what for.

    :ivar begun: is set as each look begins, and has to be cleared
    :ivar go: what looks wait for
    """

    def __init__(self) -> None:
        self.looks: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.error: OSError | None = None
        self.hidden: Hidden = []

    def users(
        self, devices: dict[str, list[str]]
    ) -> tuple[list[tuple[str, int, str, str]], Hidden]:
        self.looks.append(sorted(devices))
        self.begun.release()
        self.go.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return [(one, 7, 'qemu', '') for one in devices], self.hidden


@pytest.fixture
def helper() -> Helper:
    return Helper()


@pytest.fixture
def looks(helper: Helper) -> processes.Processes:
    return processes.Processes(on_files(processes=helper))


Ask = Callable[..., 'concurrent.futures.Future[Any]']


def asking(
    looks: processes.Processes, threads: concurrent.futures.Executor
) -> Ask:
    def ask(number: str, seconds: float = PATIENCE) -> Any:
        deadline = deadlines.Deadline.after(seconds)
        return threads.submit(looks.users, {number: []}, deadline)

    return ask


def waiting(looks: processes.Processes, count: int) -> None:
    """Until so many devices are to be looked for by the next look."""
    while len(looks._next.devices) < count:
        pass


def test_who_asks_while_a_look_goes_on_shares_the_next_one(
    helper: Helper, looks: processes.Processes
) -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ask = asking(looks, threads)
        # Given a look that goes on
        first = ask('8:0')
        assert helper.begun.acquire(timeout=PATIENCE)
        # When three more ask
        others = [ask(number) for number in ('8:16', '8:32', '8:48')]
        waiting(looks, 3)
        helper.go.set()
        # Then each has an answer about its own device, of a look that began
        # after the question
        user = ['process 7 (qemu)']
        assert first.result(PATIENCE) == {'8:0': user}
        assert [one.result(PATIENCE) for one in others] == [
            {'8:16': user},
            {'8:32': user},
            {'8:48': user},
        ]
    assert helper.looks == [['8:0'], ['8:16', '8:32', '8:48']]


def test_an_error_is_everybodys(
    helper: Helper, looks: processes.Processes
) -> None:
    helper.error = OSError(errno.EMFILE, 'Too many open files')
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ask = asking(looks, threads)
        first = ask('8:0')
        assert helper.begun.acquire(timeout=PATIENCE)
        others = [ask(number) for number in ('8:16', '8:32')]
        waiting(looks, 2)
        helper.go.set()
        for one in (first, *others):
            with pytest.raises(OSError, match='Too many') as caught:
                one.result(PATIENCE)
            assert caught.value.errno == errno.EMFILE
    assert len(helper.looks) == 2


def test_the_deadline_of_one_is_not_that_of_another(
    helper: Helper, looks: processes.Processes
) -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ask = asking(looks, threads)
        # Given a look that does not end, and one who has little time for it
        first = ask('8:0', 0.2)
        assert helper.begun.acquire(timeout=PATIENCE)
        other = ask('8:16')
        with pytest.raises(exception.DeadlineExceeded):
            first.result(PATIENCE)
        # Then the other waits on, and looks himself once it has ended
        helper.go.set()
        assert other.result(PATIENCE) == {'8:16': ['process 7 (qemu)']}


def test_who_waits_for_a_look_waits_no_longer_than_he_may(
    helper: Helper, looks: processes.Processes
) -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ask = asking(looks, threads)
        first = ask('8:0')
        assert helper.begun.acquire(timeout=PATIENCE)
        with pytest.raises(exception.DeadlineExceeded):
            ask('8:16', 0.1).result(PATIENCE)
        helper.go.set()
        first.result(PATIENCE)


def test_a_process_that_is_hidden_is_told_once(
    helper: Helper,
    looks: processes.Processes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    helper.go.set()
    helper.hidden = [(1, 'init')]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            looks.users({'8:0': []}, deadlines.Deadline.after(PATIENCE))
    (warning,) = caplog.messages
    assert 'process 1 (init)' in warning
