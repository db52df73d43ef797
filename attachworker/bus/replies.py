# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's side: results of casts go to who asked, until confirmed.

What is unsent survives the worker in the journal, not here: whoever starts
the worker hands the unsent results over again.
"""

from collections.abc import Callable
import dataclasses
import heapq
import itertools
import threading
import time
from typing import Any

from oslo_log import log
import oslo_messaging as messaging

from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus import transport as bus

LOG = log.getLogger(__name__)

#: Version of the interface that a caller has to offer.
REPLY_VERSION = '1.0'

#: Seconds for which a refusal is sent, and how many have no receipt at most.
_REFUSED = 60.0
_MOST_REFUSALS = 1000


@dataclasses.dataclass(eq=False)
class _Reply:
    request_id: str
    receiver: dict[str, str]
    result: Any
    expires: float
    pause: float
    final: bool
    attempts: int = 0

    @property
    def address(self) -> str:
        """The receiver, as one word."""
        return '/'.join(self.receiver.values())

    @property
    def key(self) -> tuple[str, str, bool]:
        """One result may go to several receivers, once to each."""
        return self.request_id, self.address, self.final


class ReplySender:
    """Calls ``operation_finished(ctxt, result)`` where a request says so.

    A normal return is the receipt. Otherwise the result is sent again with
    growing pauses. A result that nobody confirms within ``retention`` is
    dropped with a log line; it can still be fetched with get_result.

    A receiver gets one result at a time, and one thread is only for receivers
    that answer: others wait for nobody whose receiver is gone.

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
        #: By receiver: what is to be sent to it, and when.
        self._waiting: dict[str, list[tuple[float, int, _Reply]]] = {}
        self._known: set[tuple[str, str, bool]] = set()
        self._refusals = 0
        #: Receivers that something is sent to now, and those of them all that
        #: did not answer the last time.
        self._busy: set[str] = set()
        self._silent: set[str] = set()
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
        reply_to: objects.ReplyTo,
        result: Any,
        final: bool = True,
    ) -> None:
        """Have a result sent; returns at once.

        :param final: whether it is the one result of an accepted request.
            A refusal is not: it must neither stand for that result nor be
            taken for delivered, and it is not sent for long.
        """
        now = time.monotonic()
        reply = _Reply(
            request_id,
            reply_to.as_dict(),
            result,
            pause=self._retry_first,
            expires=now + (self._retention if final else _REFUSED),
            final=final,
        )
        with self._changed:
            if reply.key in self._known:
                return
            if not final:
                if self._refusals >= _MOST_REFUSALS:
                    LOG.warning(
                        'Request %s: its refusal is not sent: %d others have '
                        'no receipt.',
                        request_id,
                        self._refusals,
                    )
                    return
                self._refusals += 1
            self._known.add(reply.key)
            self._push(now, reply)

    def _push(self, due: float, reply: _Reply) -> None:
        waiting = self._waiting.setdefault(reply.address, [])
        heapq.heappush(waiting, (due, next(self._order), reply))
        self._changed.notify()

    def _forget(self, reply: _Reply) -> None:
        self._known.discard(reply.key)
        self._refusals -= not reply.final

    def _run(self) -> None:
        while (reply := self._next()) is not None:
            try:
                self._attempt(reply)
            except Exception:  # nothing may end this thread
                LOG.exception(
                    'Request %s: sending its result failed.', reply.request_id
                )
                self._again(reply)
            finally:
                with self._changed:
                    self._busy.discard(reply.address)
                    self._changed.notify_all()

    def _next(self) -> _Reply | None:
        """Wait for the next reply that is due; None: stopped."""
        with self._changed:
            while not self._stopped:
                free = [
                    (waiting[0], receiver)
                    for receiver, waiting in self._waiting.items()
                    if self._may_have(receiver)
                ]
                if not free:
                    self._changed.wait()
                    continue
                (due, *_), receiver = min(free)
                remaining = due - time.monotonic()
                if remaining <= 0:
                    return self._pop(receiver)
                self._changed.wait(remaining)
        return None

    def _may_have(self, receiver: str) -> bool:
        """Whether a thread may send something to a receiver now."""
        if receiver in self._busy:
            return False
        at_work = len(self._busy & self._silent)
        return receiver not in self._silent or at_work < max(
            1, len(self._threads) - 1
        )

    def _pop(self, receiver: str) -> _Reply:
        waiting = self._waiting[receiver]
        _, _, reply = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[receiver]
        self._busy.add(receiver)
        return reply

    def _attempt(self, reply: _Reply) -> None:
        reply.attempts += 1
        client = messaging.get_rpc_client(
            self._transport,
            messaging.Target(version=REPLY_VERSION, **reply.receiver),
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
            if not isinstance(error, messaging.RemoteError):
                with self._changed:
                    self._silent.add(reply.address)
            self._again(reply)
            return
        with self._changed:
            self._silent.discard(reply.address)
            self._forget(reply)
            if self._stopped or not reply.final:
                return
        self._settle(reply.request_id, reply.receiver)

    def _again(self, reply: _Reply) -> None:
        due = time.monotonic() + reply.pause
        reply.pause = min(reply.pause * 2, self._retry_max)
        with self._changed:
            if due < reply.expires:
                self._push(due, reply)
                return
            self._forget(reply)
            if reply.address not in self._waiting:
                self._silent.discard(reply.address)
        if reply.final and not self._stopped:
            self._settle(reply.request_id, reply.receiver)
        LOG.error(
            'Request %s: its result was not confirmed in %d attempts '
            'and is not sent any more; it can be fetched with '
            'get_result.',
            reply.request_id,
            reply.attempts,
        )
