# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who waits is told in time that its worker is alive, and only who waits."""

from collections.abc import Iterator
import threading
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker.bus import signs
from tests.functional import caller


class Message:
    """Of a caller who notes when it was told."""

    def __init__(self, client_timeout: Any, gone: bool = False) -> None:
        self.client_timeout = client_timeout
        self.gone = gone
        self.told: list[float] = []

    def heartbeat(self) -> None:
        self.told.append(deadlines.now())
        if self.gone:
            raise OSError('there is no such queue')


@pytest.fixture
def sender() -> Iterator[signs.SignsOfLife]:
    made = signs.SignsOfLife()
    made.start()
    yield made
    made.stop()


def test_each_call_gets_them_at_half_of_its_interval(
    sender: signs.SignsOfLife,
) -> None:
    # Given a call that has much time, and then one that has little
    patient, hurried = Message(600), Message(2)
    began = deadlines.now()
    sender.begin(patient)
    sender.begin(hurried)
    # When that has been told twice
    caller.until(lambda: len(hurried.told) == 2)
    # Then each time was in time, and the other one was left alone
    assert 1 <= hurried.told[0] - began < 2
    assert 1 <= hurried.told[1] - hurried.told[0] < 2
    assert patient.told == []


def test_who_waits_for_longer_than_there_is_time_hinders_nobody(
    sender: signs.SignsOfLife,
) -> None:
    # Given a call that wants a sign of life in more time than a clock has,
    # and nobody else who waits
    gone, hurried = Message(2, gone=True), Message(2)
    sender.begin(Message(2**63))
    sender.begin(gone)
    caller.until(lambda: gone.told)
    # When somebody comes, then he has his
    sender.begin(hurried)
    caller.until(lambda: hurried.told)


def test_all_of_them_come_from_one_thread(sender: signs.SignsOfLife) -> None:
    before = threading.active_count()
    messages = [Message(2) for _ in range(100)]
    for message in messages:
        sender.begin(message)
    assert threading.active_count() == before
    caller.until(lambda: all(message.told for message in messages))
    assert threading.active_count() == before


def test_an_answered_call_gets_none(sender: signs.SignsOfLife) -> None:
    answered, waiting = Message(2), Message(2)
    sender.begin(answered).end()
    sender.begin(waiting)
    caller.until(lambda: waiting.told)
    assert answered.told == []


def test_a_caller_that_is_gone_costs_nobody_else(
    sender: signs.SignsOfLife,
) -> None:
    gone, waiting = Message(2, gone=True), Message(2)
    sender.begin(gone)
    sender.begin(waiting)
    caller.until(lambda: len(waiting.told) == 2)
    assert len(gone.told) == 1


@pytest.mark.parametrize(
    'timeout', [None, 0, 1, -5, 'soon', [], {}, float('inf'), float('nan')]
)
def test_an_interval_that_cannot_be_kept_is_none(
    sender: signs.SignsOfLife, timeout: Any
) -> None:
    message = Message(timeout)
    waiting = Message(2)
    sender.begin(message)
    sender.begin(waiting)
    caller.until(lambda: waiting.told)
    assert message.told == []


def test_signs_of_answered_calls_do_not_pile_up(
    sender: signs.SignsOfLife,
) -> None:
    waiting = Message(2)
    sender.begin(waiting)
    for _ in range(3 * signs._MANY):
        sender.begin(Message(10**6)).end()
    assert len(sender._due) <= signs._MANY
    caller.until(lambda: waiting.told)
