# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Notifications: whoever listens is told, and nobody is told for nothing."""

from collections.abc import Iterator
import threading
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.telemetry import notifications
from tests.functional import caller


class Bus:
    """Takes notifications, and knows whether there is a queue for them."""

    def __init__(self) -> None:
        self.bound = False
        self.heard = True
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.came = threading.Semaphore(0)

    def info(
        self, ctxt: Any, event_type: str, payload: dict[str, Any]
    ) -> None:
        self.sent.append((event_type, payload))
        self.heard = self.bound
        self.came.release()


class Operation:
    kind = 'attach'
    protocol = 'iscsi'
    attachment_id = 'a-1'
    started = 0.0
    request = objects.DetachRequest(request_id='r-1', attachment_id='a-1')
    result = objects.OperationResult(
        request_id='r-1', operation='attach', status='attached'
    )


OPERATION = Operation()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def sender(bus: Bus) -> Iterator[notifications.Notifications]:
    made = notifications.Notifications(bus, 'host', lambda: bus.heard)
    made.start()
    yield made
    made.stop(10.0)


def looked(bus: Bus) -> None:
    assert bus.came.acquire(timeout=10)


def test_who_listens_is_told_everything_in_order(
    bus: Bus, sender: notifications.Notifications
) -> None:
    bus.bound = True

    sender.began(OPERATION, 0.0)
    sender.step_ended(OPERATION, 'FindWwn', 0.1234567, 'internal')
    sender.ended(OPERATION, 1.0)

    caller.until(lambda: len(bus.sent) == 3)
    assert [event for event, _ in bus.sent] == [
        'attach.start',
        'attach.step',
        'attach.end',
    ]
    assert bus.sent[1][1] == {
        'request_id': 'r-1',
        'attachment_id': 'a-1',
        'host': 'host',
        'step': 'FindWwn',
        'elapsed': 0.123457,
        'status': None,
        'error': 'internal',
    }


def test_where_nobody_listens_only_one_is_sent_now_and_then(
    bus: Bus, sender: notifications.Notifications
) -> None:
    began = deadlines.now()
    for _ in range(3):
        for _ in range(100):
            sender.step_ended(OPERATION, 'FindWwn', 0.1, None)
        looked(bus)

    elapsed = deadlines.now() - began
    assert 3 <= len(bus.sent) <= 1 + elapsed / notifications.LOOK_INTERVAL


def test_who_begins_to_listen_misses_nothing_from_then_on(
    bus: Bus, sender: notifications.Notifications
) -> None:
    # Given that it is known that nobody listens
    sender.began(OPERATION, 0.0)
    looked(bus)
    caller.until(lambda: not bus.heard)
    sent = len(bus.sent)
    # When somebody does, right before an operation
    bus.bound = True
    sender.began(OPERATION, 0.0)
    sender.step_ended(OPERATION, 'FindWwn', 0.1, None)
    sender.ended(OPERATION, 1.0)
    # Then all of it is told
    caller.until(lambda: len(bus.sent) == sent + 3)
    assert [event for event, _ in bus.sent[sent:]] == [
        'attach.start',
        'attach.step',
        'attach.end',
    ]


def test_what_waits_is_sent_before_the_end(
    bus: Bus, sender: notifications.Notifications
) -> None:
    sender.began(OPERATION, 0.0)
    looked(bus)
    bus.bound = True
    sender.ended(OPERATION, 1.0)

    sender.stop(10.0)

    assert bus.sent[-1][0] == 'attach.end'
