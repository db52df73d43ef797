# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Takes messages off the bus: journals first, acknowledges then.

oslo.messaging acknowledges a message of RPC before it looks at it, so what is
killed in between is gone. Here a request is in the journal before its message
is acknowledged: killed before, the broker delivers it again, and the journal
knows it by its request_id. A call that waits is in the journal too, and is
answered by whichever worker has the result.

This is the one place that relies on the inside of oslo.messaging's driver;
tests/unit/rpc/test_listener.py fails when that moves.
"""

import concurrent.futures
import dataclasses
from typing import Any
from typing import Protocol

from oslo_log import log as logging
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import base as driver_base
from oslo_messaging._drivers import common as driver_common
from oslo_messaging.rpc import server as rpc_server

from attachworker.journal import Call
from attachworker.rpc import signs
from attachworker.rpc import transport as bus
from attachworker.worker.operation import Operation

LOG = logging.getLogger(__name__)


#: What becomes of a message that is left to the next worker: it is not
#: acknowledged, so it is in the queue again once the connection is closed.
LEFT = object()


@dataclasses.dataclass(frozen=True)
class Unanswered:
    """A call to an earlier worker.

    :ivar method: that was called
    :ivar outcome: what the endpoint is to make of it now
    """

    call: Call
    method: str
    outcome: Any


class Acceptance(Protocol):
    """What happens to a message before it is acknowledged."""

    def accept(self, message: dict[str, Any], call: Call | None) -> Any:
        """What became of it, for the endpoint, or LEFT; must not raise."""

    def answered(self, call: Call) -> None:
        """Nobody waits for this call any more."""

    def unanswered(self) -> list[Unanswered]:
        """Calls that an earlier worker has taken and not answered."""


class _Incoming(amqpdriver.AMQPIncomingMessage):
    """A message that tells when its sender has been answered.

    Until then who waits for that gets signs of life.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.call: Call | None = None
        if self.orig_msg_id:
            self.call = Call(
                self.orig_msg_id, self.reply_q, self.client_timeout
            )
            self._sign = self.listener.signs.begin(self)
        # oslo.messaging would have a thread for signs of life.
        self.client_timeout: Any = None

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self.call is None:
            return
        self._sign.end()
        super().reply(reply, failure)
        self.listener.acceptance.answered(self.call)


class JournalingListener(amqpdriver.AMQPListener):
    """Takes messages from a connection and queues them for the server."""

    message_cls = _Incoming
    use_cache = True

    #: Seconds between two looks whether to stop. The stock listener looks a
    #: dozen times after each message, for others to acknowledge, too.
    _current_timeout = property(lambda self: 1.0, lambda self, value: None)

    def __init__(self, driver: Any, conn: Any, acceptance: Acceptance) -> None:
        super().__init__(driver, conn)
        self.acceptance = acceptance
        self.signs = signs.SignsOfLife()
        self.signs.start()
        for one in acceptance.unanswered():
            message = _message(one.method)
            message.outcome = one.outcome
            self._append(one.call, message)

    def __call__(self, message: Any) -> None:
        call = None
        if message.get('_msg_id'):
            call = Call(
                message['_msg_id'],
                message.get('_reply_q'),
                message.get('_timeout'),
            )
        # An attribute, not an item: the items are what was sent.
        message.outcome = self.acceptance.accept(message, call)
        if message.outcome is LEFT:
            return
        try:
            message.acknowledge()
        except Exception as error:
            # The connection is gone. The broker delivers it again, and then
            # it is known; who called is answered then.
            LOG.warning('A message was not acknowledged: %s', error)
            return
        super().__call__(message)

    def cleanup(self) -> None:
        super().cleanup()
        self.signs.stop()

    def _append(self, call: Call, message: Any) -> None:
        self.incoming.append(
            self.message_cls(
                self,
                {},
                message,
                None,
                call.message_id,
                call.reply_queue,
                call.client_timeout,
                self._obsolete_reply_queues,
                self._message_operations_handler,
            )
        )


class _Message(dict[str, Any]):
    """The content of a message, with room for what became of it."""

    outcome: Any = None


def _message(method: str) -> _Message:
    return _Message(method=method, args={}, version=bus.VERSION)


class _Threads(concurrent.futures.ThreadPoolExecutor):
    """Threads that serve calls, of which there is one from the start.

    Should no other be to be had, a call waits for this one, and not for the
    next call to try again. (Not futurist's pool, whose idle threads wake up
    every second.)
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers)
        self.submit(int).result()


class Server(rpc_server.RPCServer):
    """oslo.messaging's server, with our listener.

    It takes what is for this host; nobody sends to any worker or to all.
    """

    def __init__(
        self, transport: Any, target: Any, dispatcher: Any, acceptance: Any
    ) -> None:
        super().__init__(transport, target, dispatcher, executor='threading')
        self._acceptance = acceptance
        self._executor_cls = _Threads

    def _on_incoming(self, incoming: list[_Incoming]) -> None:
        (message,) = incoming
        outcome = message.message.outcome
        if not isinstance(outcome, Operation):
            super()._on_incoming(incoming)
        elif message.call is not None:
            # There is an answer once there is a result, and nobody to wait
            # for it until then.
            outcome.when_finished(lambda: self._answer(incoming))

    def _answer(self, incoming: list[_Incoming]) -> None:
        try:
            super()._on_incoming(incoming)
        except RuntimeError as error:
            # It was stopped: the next worker answers.
            LOG.warning('A call is not answered now: %s', error)

    def _create_listener(self) -> Any:
        driver = self.transport._driver
        conn = driver._get_connection(driver_common.PURPOSE_LISTEN)
        listener = JournalingListener(driver, conn, self._acceptance)
        conn.declare_topic_consumer(
            exchange_name=bus.EXCHANGE,
            topic=f'{self._target.topic}.{self._target.server}',
            callback=listener,
        )
        return driver_base.PollStyleListenerAdapter(listener, 1, None)
