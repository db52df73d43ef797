# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The order of things when a message comes in.

On the real driver, with the bus in memory: when oslo.messaging moves one of
the private names that the listener relies on, these tests fail.
"""

from collections.abc import Iterator
import threading
from typing import Any
import uuid

import oslo_messaging as messaging
from oslo_messaging._drivers import amqpdriver
import pytest

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.bus import server
from attachworker.bus import transport as bus
from attachworker.journal import Call
from attachworker.worker.operation import Operation
from tests import harness
from tests.functional import caller
from tests.unit.worker import fakes

PATIENCE = 10.0


class Api:
    target = messaging.Target(version='1.0')

    def __init__(self) -> None:
        self.ran = threading.Event()
        self.gate = threading.Event()

    @messaging.expose
    def attach_volume(self, ctxt: Any, number: int = 0) -> Any:
        self.ran.set()
        assert self.gate.wait(PATIENCE)
        outcome = ctxt[server._OUTCOME]
        if isinstance(outcome, Operation):
            return outcome.wait().status
        return outcome


class Acceptance:
    """Notes what it is asked, and in which state the message is then."""

    def __init__(self) -> None:
        self.accepted: list[tuple[Any, Call | None, bool]] = []
        self.acknowledged: list[bool] = []
        self.came = threading.Event()
        self.left: list[tuple[Call, str, Any]] = []
        self.outcome: Any = 'outcome'
        self.done: list[Call] = []
        self.all_done = threading.Event()

    def accept(self, message: Any, call: Call | None) -> Any:
        self.accepted.append((dict(message), call))
        self.acknowledged.append(message._raw_message.acknowledged)
        self.came.set()
        return self.outcome

    def answered(self, call: Call) -> None:
        self.done.append(call)
        self.all_done.set()

    def unanswered(self) -> list[tuple[Call, str, Any]]:
        return self.left


class Bench:
    """A server on the bus in memory, and somebody who sends."""

    def __init__(self) -> None:
        self.host = f'host-{uuid.uuid4()}'
        conf = harness.configuration(host=self.host)
        self.transport = bus.get_transport(conf)
        self.api = Api()
        self.acceptance = Acceptance()
        self.server = server.Server(
            self.transport,
            bus.get_target(self.host),
            server.RPCDispatcher(
                [self.api], None, messaging.ExplicitRPCAccessPolicy
            ),
            self.acceptance,
        )
        self.client = messaging.get_rpc_client(
            self.transport, bus.get_target(self.host), timeout=PATIENCE
        )

    def close(self) -> None:
        self.api.gate.set()
        self.server.stop()
        self.server.wait()
        self.transport.cleanup()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_message_is_accepted_first_and_acknowledged_then(
    bench: Bench,
) -> None:
    bench.server.start()
    bench.client.cast({}, 'attach_volume', number=5)
    assert bench.api.ran.wait(PATIENCE)
    ((message, call),) = bench.acceptance.accepted
    assert (message['method'], message['args']) == (
        'attach_volume',
        {'number': 5},
    )
    assert call is None
    assert bench.acceptance.acknowledged == [False]


def test_a_call_is_known_until_it_is_answered(bench: Bench) -> None:
    bench.server.start()
    answer: list[Any] = []
    asking = threading.Thread(
        target=lambda: answer.append(
            bench.client.prepare(call_monitor_timeout=7).call(
                {}, 'attach_volume'
            )
        )
    )
    asking.start()
    assert bench.api.ran.wait(PATIENCE)
    # Given a call that waits
    ((_message, call),) = bench.acceptance.accepted
    assert call is not None
    assert call.reply_queue.startswith('reply_')
    assert call.client_timeout == 7
    assert bench.acceptance.done == []
    # When it has its answer
    bench.api.gate.set()
    asking.join(PATIENCE)
    assert answer == ['outcome']
    # Then nobody waits any more
    assert bench.acceptance.all_done.wait(PATIENCE)
    assert bench.acceptance.done == [call]


def test_a_call_to_an_earlier_worker_is_answered(bench: Bench) -> None:
    # Given a caller that waits, and a worker that is not there any more
    driver = bench.transport._driver
    answer: list[Any] = []
    sent = threading.Event()
    original = amqpdriver.ReplyWaiter.listen

    def listen(self: Any, msg_id: str) -> None:
        original(self, msg_id)
        bench.acceptance.left.append(
            (Call(msg_id, driver._reply_q), 'attach_volume', 'the outcome')
        )
        sent.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amqpdriver.ReplyWaiter, 'listen', listen)
        asking = threading.Thread(
            target=lambda: answer.append(bench.client.call({}, 'no_method'))
        )
        asking.start()
        assert sent.wait(PATIENCE)
    # When the next one starts, which knows of the call from its journal
    bench.api.gate.set()
    bench.server.start()
    asking.join(PATIENCE)
    # Then the caller has its answer
    assert answer == ['the outcome']


def test_a_call_waits_for_its_operation_without_a_thread(bench: Bench) -> None:
    # Given an operation that goes on, and whoever has called for it
    operation = bench.acceptance.outcome = fakes.FakeKind(None)(
        fakes.attach(), deadlines.Deadline.after(60), lambda operation: None
    )
    bench.api.gate.set()
    bench.server.start()
    answers: list[Any] = []

    def call() -> None:
        answers.append(bench.client.call({}, 'attach_volume'))

    callers = [threading.Thread(target=call) for _ in range(5)]
    for one in callers:
        one.start()
    caller.until(lambda: len(bench.acceptance.accepted) == len(callers))
    # Then the method is not called before it has ended
    assert not bench.api.ran.is_set()
    assert bench.acceptance.done == []
    # And all are answered when it has
    operation.finish(
        objects.OperationResult(
            request_id='request', operation='attach', status='attached'
        )
    )
    for one in callers:
        one.join(PATIENCE)
    assert answers == ['attached'] * len(callers)
    caller.until(lambda: len(bench.acceptance.done) == len(callers))


def test_an_answer_ends_the_signs_of_life(bench: Bench) -> None:
    # Given calls with monitoring: one that is served, and one that is not
    beats: list[Any] = []
    bench.api.gate.set()
    bench.server.start()
    client = bench.client.prepare(call_monitor_timeout=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            server._Incoming, 'heartbeat', lambda self: beats.append(self)
        )
        assert client.call({}, 'attach_volume') == 'outcome'
        with pytest.raises(messaging.NoSuchMethod):
            client.call({}, 'no_such_method')
        # When the time for signs of both has come
        bench.api.gate.clear()
        waiting = caller.Background(client.call, {}, 'attach_volume')
        caller.until(lambda: beats)
        bench.api.gate.set()
        assert waiting.result() == 'outcome'
    # Then nobody says that they are being worked on, but of the last one
    assert {beat.message['method'] for beat in beats} == {'attach_volume'}
    assert len({id(beat) for beat in beats}) == 1


@pytest.mark.parametrize(
    'strange',
    [
        {'version': '1'},
        {'version': 1},
        {'version': 'a.b'},
        {'version': None},
        {'version': ['1.0']},
        {'version': '2.0'},
        {'namespace': 'another'},
        {'namespace': ['x']},
        {'method': ['attach_volume']},
        {'method': 'unheard_of'},
    ],
    ids=str,
)
def test_a_message_that_makes_no_sense_is_not_served(
    strange: dict[str, Any],
) -> None:
    """It is answered by oslo.messaging, and must not be begun before."""
    dispatcher = server.RPCDispatcher(
        [Api()], None, messaging.ExplicitRPCAccessPolicy
    )
    good = {'method': 'attach_volume', 'version': '1.0', 'namespace': None}
    assert dispatcher.is_served(good)
    assert not dispatcher.is_served({**good, **strange})


def test_a_sender_cannot_say_what_became_of_its_message(bench: Bench) -> None:
    bench.server.start()
    bench.api.gate.set()
    forged = {server._OUTCOME: 'forged'}
    assert bench.client.call(forged, 'attach_volume') == 'outcome'
