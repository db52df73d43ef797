# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How long an operation may go on."""

import threading
import time

import pytest

from attachworker import deadline as deadlines
from attachworker import exception


def test_time_that_is_left() -> None:
    deadline = deadlines.Deadline.after(100.0)
    assert 99.0 < deadline.remaining() <= 100.0
    assert not deadline.passed
    deadline.check('step')


def test_time_that_is_over() -> None:
    deadline = deadlines.Deadline.after(-5.0)
    assert deadline.remaining() == 0.0
    assert deadline.passed
    with pytest.raises(exception.DeadlineExceeded, match='step FindWwn'):
        deadline.check('FindWwn')


def test_cancelled_is_told_before_late() -> None:
    cancelled = threading.Event()
    for seconds in (100.0, -5.0):
        deadline = deadlines.Deadline(deadlines.now() + seconds, cancelled)
        cancelled.set()
        with pytest.raises(exception.OperationCancelled, match='FindWwn'):
            deadline.check('FindWwn')


def test_undoing_gets_more_time_and_cannot_be_cancelled() -> None:
    cancelled = threading.Event()
    cancelled.set()
    # before the deadline it counts from there
    early = deadlines.Deadline(deadlines.now() + 100.0, cancelled)
    assert 129.0 < early.extended(30.0).remaining() <= 130.0
    # after it, from now
    late = deadlines.Deadline(deadlines.now() - 100.0, cancelled)
    undo = late.extended(30.0)
    assert 29.0 < undo.remaining() <= 30.0
    undo.check('undo')


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= deadlines.now() - boot < 5.0


def test_no_time_is_left_once_cancelled() -> None:
    cancelled = threading.Event()
    deadline = deadlines.Deadline(deadlines.now() + 100.0, cancelled)
    assert not deadline.passed
    cancelled.set()
    for one in (deadline, deadline.sooner(10.0)):
        assert one.passed
        assert one.remaining() == 0.0
    assert not deadline.extended(1.0).passed
