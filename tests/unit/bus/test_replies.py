# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Results of casts: whom they wait for."""

from collections.abc import Callable
from collections.abc import Iterator
import threading
import time
import tracemalloc
from typing import Any

import oslo_messaging as messaging
import pytest

from attachworker import exception
from attachworker import objects
from attachworker.bus import replies
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from tests import harness

PATIENCE = 20.0
#: Seconds that a receiver has for its receipt.
SILENCE = 0.5


class Receivers:
    """Some answer at once, those that are called 'gone…' never do.

    :ivar raising: requests whose results are not taken
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempts: list[str] = []
        self.asked: dict[str, int] = {}
        self.most_at_once = 0
        self.gone = True
        self.raising: set[str] = set()

    def begin_call(
        self,
        transport: None,
        target: messaging.Target,
        method: str,
        arguments: dict[str, Any],
        answered: Callable[[BaseException | None], None],
    ) -> Callable[[], None]:
        assert (method, target.version) == ('operation_finished', '1.0')
        with self.lock:
            self.attempts.append(target.server)
            asked = self.asked.get(target.server, 0) + 1
            self.asked[target.server] = asked
            self.most_at_once = max(self.most_at_once, asked)

        def end() -> None:
            with self.lock:
                self.asked[target.server] -= 1

        if not (target.server.startswith('gone') and self.gone):
            end()
            raises = arguments['result'] in self.raising
            answered(messaging.RemoteError() if raises else None)
        return end


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Receivers:
    made = Receivers()
    monkeypatch.setattr(replies.bus, 'begin_call', made.begin_call)
    return made


class Sender(replies.ReplySender):
    """:ivar settled: requests that have a receipt, in this order"""

    def __init__(self, retry_first: float = 60) -> None:
        self.settled: list[str] = []
        self.unreadable = iter([True, False])
        super().__init__(
            None,
            self.find,
            lambda request_id, receiver: self.settled.append(request_id),
            retention=600,
            timeout=SILENCE,
            retry_first=retry_first,
            threads=2,
        )

    def find(self, request_id: str) -> Any:
        if request_id == 'forgotten':
            raise exception.RequestNotFound(request_id=request_id)
        if request_id == 'unreadable' and next(self.unreadable):
            raise exception.JournalUnavailable(reason='the disk is full')
        return request_id

    def send(self, request_id: str, server: str, final: bool = True) -> None:
        reply_to = objects.ReplyTo(exchange='e', topic='t', server=server)
        self.deliver(request_id, reply_to, request_id, final)


@pytest.fixture
def sender(receivers: Receivers) -> Iterator[Sender]:
    made = Sender()
    yield made
    made.stop()


@pytest.fixture
def quick(receivers: Receivers) -> Iterator[Sender]:
    """One whose pauses are short."""
    made = Sender(retry_first=0.2)
    yield made
    made.stop()


def wait_for(sender: Sender, *request_ids: str) -> None:
    end = time.monotonic() + PATIENCE
    while not set(request_ids) <= set(sender.settled):
        assert time.monotonic() < end, 'it was not sent'
        time.sleep(0.01)


def test_nobody_waits_for_receivers_that_are_gone(
    receivers: Receivers, sender: Sender
) -> None:
    # Given many results for receivers that are gone
    for number in range(60):
        sender.send(f'{number}', f'gone-{number % 6}')
    sender.start()
    time.sleep(3 * SILENCE)
    # When there is one for somebody who answers
    sender.send('good', 'here')
    wait_for(sender, 'good')
    # Then it has not waited for all of them
    assert len(receivers.attempts) < 20
    # And each of them was asked for one at a time
    assert receivers.most_at_once == 1


def test_a_receiver_that_is_new_waits_for_no_other(
    receivers: Receivers, sender: Sender
) -> None:
    # Given many receivers of which nobody knows yet that they are gone
    for number in range(500):
        sender.send(f'{number}', f'gone-{number}')
    # When there is one more, which is not
    sender.send('good', 'here')
    began = time.monotonic()
    sender.start()
    wait_for(sender, 'good')
    # Then its result has not waited until the others were given up
    assert time.monotonic() - began < SILENCE
    assert sender.settled == ['good']


def test_a_receiver_that_is_gone_is_left_alone_until_it_is_back(
    receivers: Receivers, quick: Sender
) -> None:
    # Given a thousand results for a receiver that is gone
    for number in range(1000):
        quick.send(f'{number}', 'gone')
    quick.start()
    time.sleep(4 * SILENCE)
    # Then it has been asked a few times, in all
    assert 2 <= len(receivers.attempts) <= 4
    # And when it is back, it gets all of them
    receivers.gone = False
    wait_for(quick, *map(str, range(1000)))
    assert len(receivers.attempts) <= 1005


def test_a_result_that_is_not_taken_holds_up_no_other(
    receivers: Receivers, sender: Sender
) -> None:
    receivers.raising = {'bad'}
    for request_id in ('bad', 'good', 'better'):
        sender.send(request_id, 'here')
    sender.start()
    wait_for(sender, 'good', 'better')
    assert sender.settled == ['good', 'better']
    assert len(receivers.attempts) == 3


def test_a_refusal_is_kept_once_and_not_for_long(
    receivers: Receivers, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a receiver that is gone, and whose requests are refused
    monkeypatch.setattr(replies, '_MOST_REFUSALS', 3)
    for _ in range(2):
        for number in range(10):
            sender.send(f'{number}', 'gone', final=False)
    sender.start()
    time.sleep(3 * SILENCE)
    # Then all are given up that would be sent too late
    assert receivers.attempts == ['gone']
    # And there is room again for others
    sender.send('other', 'here', final=False)
    sender.send('good', 'here')
    wait_for(sender, 'good')
    assert receivers.attempts.count('here') == 2


def test_a_receiver_with_one_refusal_is_told_beside_one_with_many(
    receivers: Receivers, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given as many refusals as there may be, most of them for one receiver
    monkeypatch.setattr(replies, '_MOST_REFUSALS', 10)
    for number in range(20):
        sender.send(f'{number}', 'gone', final=False)
    # When others are refused, too
    for number in range(6):
        sender.send('one', f'here-{number}', final=False)
    sender.start()
    sender.send('good', 'here')
    wait_for(sender, 'good')
    # Then these are told
    told = {name for name in receivers.attempts if name.startswith('here-')}
    assert len(told) == 6


def test_a_result_that_is_not_to_be_had_holds_up_no_other(
    receivers: Receivers, quick: Sender
) -> None:
    for request_id in ('forgotten', 'unreadable', 'good'):
        quick.send(request_id, 'here')
    quick.start()
    wait_for(quick, 'unreadable', 'good')
    assert quick.settled == ['good', 'unreadable']
    assert receivers.attempts == ['here', 'here']


def test_what_waits_for_a_silent_receiver_takes_little_memory(
    sender: Sender,
) -> None:
    tracemalloc.start()
    try:
        for number in range(10_000):
            sender.send(f'{number:036}', 'gone')
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f'{used / 10_000:.0f} bytes a result that waits')
    assert used < 10_000 * 1024


def test_a_journal_that_takes_no_receipt_is_told_again(
    receivers: Receivers, quick: Sender
) -> None:
    settle = quick._settle
    failing = iter([True, False])

    def fail_once(request_id: str, receiver: dict[str, str]) -> None:
        if next(failing):
            raise exception.JournalUnavailable(reason='the disk is full')
        settle(request_id, receiver)

    quick._settle = fail_once  # type: ignore[method-assign]
    quick.send('good', 'here')
    quick.start()
    wait_for(quick, 'good')
    assert receivers.attempts == ['here', 'here']


# -- over the bus within one process


class Service:
    """A caller that listens; it raises at first."""

    target = messaging.Target(version='1.0')

    def __init__(self) -> None:
        self.got: list[str] = []
        self.raises = 1

    def operation_finished(self, ctxt: Any, result: Any) -> None:
        if self.raises:
            self.raises -= 1
            raise RuntimeError('not now')
        self.got.append(result.request_id)


def test_a_call_that_nobody_waits_for_is_answered_or_forgotten() -> None:
    """This relies on the inside of oslo.messaging's driver."""
    # Given a receiver that answers, and a queue that nobody reads
    transport = bus.get_transport(harness.configuration())
    bus.declare_queue(transport, 'nobody')
    service = Service()
    there = {'exchange': bus.EXCHANGE, 'topic': 'service', 'server': 'here'}
    server = messaging.get_rpc_server(
        transport,
        messaging.Target(**there),
        [service],
        serializer=serializer.ObjectSerializer(),
    )
    server.start()
    settled: list[str] = []
    sender = replies.ReplySender(
        transport,
        lambda request_id: objects.OperationResult(
            request_id=request_id, operation='detach', status='detached'
        ),
        lambda request_id, receiver: settled.append(request_id),
        retention=600,
        timeout=SILENCE,
        retry_first=0.1,
    )
    sender.start()
    # When each is to get a result
    sender.deliver('good', objects.ReplyTo(**there), None)
    nobody = objects.ReplyTo(
        exchange=bus.EXCHANGE, topic=bus.TOPIC, server='nobody'
    )
    sender.deliver('lost', nobody, None)
    # Then that which answers gets it once it does not raise
    end = time.monotonic() + PATIENCE
    while settled != ['good']:
        assert time.monotonic() < end, 'it was not confirmed'
        time.sleep(0.01)
    assert service.got == ['good']
    # And the call to the other one is forgotten, until it is made again
    waiting = transport._driver._waiter.waiters._queues
    while waiting:
        assert time.monotonic() < end, 'a call was not forgotten'
        time.sleep(0.01)
    sender.stop()
    server.stop()
    server.wait()
    transport.cleanup()
