# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's side: results of casts go to who asked, until confirmed.

What is unsent survives the worker in the journal, not here: whoever starts
the worker hands the unsent results over again.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import heapq
import itertools
import threading
import time
from typing import Any

from oslo_log import log
import oslo_messaging as messaging

from attachworker.bus import serializer
from attachworker.bus import transport as bus

LOG = log.getLogger(__name__)

#: Version of the interface that a caller has to offer.
REPLY_VERSION = '1.0'

#: What a reply_to consists of.
_RECEIVER = ('exchange', 'topic', 'server')


@dataclasses.dataclass(eq=False)
class _Reply:
    request_id: str
    target: messaging.Target
    result: Any
    expires: float
    pause: float
    final: bool
    attempts: int = 0

    @property
    def receiver(self) -> dict[str, str]:
        return {name: getattr(self.target, name) for name in _RECEIVER}

    @property
    def key(self) -> tuple[str, str]:
        """One result may go to several receivers, once to each."""
        return self.request_id, str(self.target)


class ReplySender:
    """Calls ``operation_finished(ctxt, result)`` where a request says so.

    A normal return is the receipt. Otherwise the result is sent again with
    growing pauses. A result that nobody confirms within ``retention`` is
    dropped with a log line; it can still be fetched with get_result.

    :param transport: the worker's RPC transport.
    :param settle: called with the request_id and the receiver after the
        receipt, or when its result is given up; from a thread of this object,
        never after stop().
    :param retention: seconds.
    :param timeout: seconds that the receiver has for its receipt.
    :param retry_first: seconds before the second attempt.
    :param retry_max: seconds that a pause never exceeds.
    :param threads: how many results are sent at the same time.
    :param level: version of the interface that the receivers know; None: ours.
    """

    def __init__(
        self,
        transport: Any,
        settle: Callable[[str, dict[str, str]], None],
        *,
        retention: float,
        timeout: float = 10.0,
        retry_first: float = 1.0,
        retry_max: float = 300.0,
        threads: int = 4,
        level: str | None = None,
    ) -> None:
        self._transport = transport
        self._serializer = serializer.ObjectSerializer(level=level)
        self._settle = settle
        self._retention = retention
        self._timeout = timeout
        self._retry_first = retry_first
        self._retry_max = retry_max
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, _Reply]] = []
        self._known: set[tuple[str, str]] = set()
        self._order = itertools.count()
        self._stopped = False
        self._threads = [
            threading.Thread(
                target=self._run, name=f'replies-{number}', daemon=True
            )
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start sending; results may have been handed over before."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Send nothing more; what is unsent stays unmarked.

        :param timeout: seconds to wait for receipts that are on their way.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def deliver(
        self,
        request_id: str,
        reply_to: Any,
        result: Any,
        final: bool = True,
    ) -> None:
        """Have a result sent; returns at once.

        :param reply_to: a ReplyTo, or a mapping with the same keys. One
            that names no receiver is logged and otherwise ignored.
        :param final: whether it is the one result of an accepted request.
            A refusal is not: it must neither stand for that result nor be
            taken for delivered.
        """
        target = _target(reply_to)
        if target is None:
            LOG.warning(
                'Request %s: its reply_to names no receiver; the '
                'result can be fetched with get_result.',
                request_id,
            )
            return
        now = time.monotonic()
        reply = _Reply(
            request_id,
            target,
            result,
            pause=self._retry_first,
            expires=now + self._retention,
            final=final,
        )
        with self._changed:
            if final and reply.key in self._known:
                return
            if final:
                self._known.add(reply.key)
            self._push(now, reply)

    def _push(self, due: float, reply: _Reply) -> None:
        heapq.heappush(self._waiting, (due, next(self._order), reply))
        self._changed.notify()

    def _run(self) -> None:
        while (reply := self._next()) is not None:
            try:
                self._attempt(reply)
            except Exception:  # nothing may end this thread
                LOG.exception(
                    'Request %s: sending its result failed.', reply.request_id
                )
                self._again(reply)

    def _next(self) -> _Reply | None:
        """Wait for the next reply that is due; None: stopped."""
        with self._changed:
            while not self._stopped:
                if not self._waiting:
                    self._changed.wait()
                    continue
                remaining = self._waiting[0][0] - time.monotonic()
                if remaining <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(remaining)
        return None

    def _attempt(self, reply: _Reply) -> None:
        reply.attempts += 1
        client = messaging.get_rpc_client(
            self._transport,
            reply.target,
            timeout=self._timeout,
            serializer=self._serializer,
            retry=bus.PUBLISH_RETRIES,
            transport_options=bus.TRANSPORT_OPTIONS,
        )
        try:
            client.call({}, 'operation_finished', result=reply.result)
        except Exception as error:  # whatever the receiver raised
            # Only the type: the text is the receiver's and may be anything.
            log_at = LOG.warning if reply.attempts == 1 else LOG.debug
            log_at(
                'Request %s: no receipt for its result (%s, attempt %d).',
                reply.request_id,
                type(error).__name__,
                reply.attempts,
            )
            self._again(reply)
            return
        if not reply.final:
            return
        with self._changed:
            self._known.discard(reply.key)
            if self._stopped:
                return
        self._settle(reply.request_id, reply.receiver)

    def _again(self, reply: _Reply) -> None:
        due = time.monotonic() + reply.pause
        reply.pause = min(reply.pause * 2, self._retry_max)
        with self._changed:
            if due < reply.expires:
                self._push(due, reply)
                return
            if reply.final:
                self._known.discard(reply.key)
        if reply.final and not self._stopped:
            self._settle(reply.request_id, reply.receiver)
        LOG.error(
            'Request %s: its result was not confirmed in %d attempts '
            'and is not sent any more; it can be fetched with '
            'get_result.',
            reply.request_id,
            reply.attempts,
        )


def _target(reply_to: Any) -> messaging.Target | None:
    """Return where to send to; None if ``reply_to`` does not tell."""
    values = {}
    for key in _RECEIVER:
        try:
            value = (
                reply_to.get(key)
                if isinstance(reply_to, Mapping)
                else getattr(reply_to, key, None)
            )
        except NotImplementedError:  # a field that was never set
            return None
        if not isinstance(value, str) or not value:
            return None
        values[key] = value
    return messaging.Target(version=REPLY_VERSION, **values)
