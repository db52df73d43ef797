# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's side: results of casts go to who asked, until confirmed.

What is unsent survives the worker in the journal, not here: whoever starts
the worker hands the unsent results over again.
"""

from collections.abc import Callable
import dataclasses
import functools
import heapq
import itertools
import math
import operator
import threading
import time
from typing import Any

from oslo_log import log
import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus import transport as bus

LOG = log.getLogger(__name__)

#: Version of the interface that a caller has to offer.
REPLY_VERSION = '1.0'

#: Seconds for which a refusal is sent, and how many have no receipt at most.
_REFUSED = 60.0
_MOST_REFUSALS = 1000
#: What does not mean that a receiver is gone: it has raised, or the journal
#: does not give the result.
_NOT_SILENT = (messaging.RemoteError, exception.AttachWorkerError)


@dataclasses.dataclass(eq=False, slots=True)
class _Reply:
    request_id: str
    #: None: the journal has it. A receiver may be silent for days, and what
    #: waits for it be much.
    result: Any
    expires: float
    final: bool
    #: Seconds after which it is sent again if its receiver raises.
    pause: float
    attempts: int = 0


_Entry = tuple[float, int, _Reply]


@dataclasses.dataclass(eq=False)
class _Receiver:
    """Who gets results, one after another.

    Of all that is to be sent to it, one is sent at a time.
    """

    reply_to: dict[str, str]
    #: What is to be sent, by when and by order of arrival.
    waiting: list[_Entry] = dataclasses.field(default_factory=list)
    #: After it did not answer: when it is tried again, and for how long it is
    #: left alone the next time.
    due: float = 0.0
    pause: float = 0.0
    #: What it has been sent and not answered, and until when it may.
    asked: _Reply | None = None
    until: float = math.inf
    #: What it has answered: an error, or None for a receipt.
    answer: BaseException | None = None
    #: Has the bus forget what it was asked.
    end_call: Callable[[], None] = lambda: None
    #: Whether a thread is at it.
    busy: bool = False
    #: How many refusals there are for it.
    refusals: int = 0

    @property
    def next(self) -> float:
        """When there is something to do for it."""
        if self.busy:
            return math.inf
        if self.asked is not None:
            return self.until
        return max(self.due, self.waiting[0][0]) if self.waiting else math.inf


class ReplySender:
    """Calls ``operation_finished(ctxt, result)`` where a request says so.

    A normal return is the receipt. Otherwise the result is sent again with
    growing pauses. A result that nobody confirms within ``retention`` is
    dropped with a log line; it can still be fetched with get_result.

    A receiver gets one result at a time, and one that does not answer is left
    alone for growing pauses, whatever there is for it. No thread waits for an
    answer: however many receivers are silent, the others wait for none of
    them.

    :param transport: the worker's RPC transport.
    :param find: the final result of a request, by its request_id; raises
        RequestNotFound if it was kept for long enough.
    :param settle: called with the request_id and the receiver after the
        receipt, or when its result is given up; from a thread of this object,
        never after stop().
    :param retention: seconds.
    :param timeout: seconds that the receiver has for its receipt.
    :param retry_first: seconds before the second attempt.
    :param retry_max: seconds that a pause never exceeds.
    :param threads: how many results are given to the broker at the same time.
    :param level: version of the interface that the receivers know; None: ours.
    """

    def __init__(
        self,
        transport: Any,
        find: Callable[[str], objects.OperationResult | None],
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
        self._find = find
        self._settle = settle
        self._retention = retention
        self.set_pauses(timeout, retry_first, retry_max)
        self._changed = threading.Condition()
        self._receivers: dict[tuple[str, ...], _Receiver] = {}
        self._known: set[tuple[str, tuple[str, ...], bool]] = set()
        self._refusals = 0
        #: When there is something to do for whom; what a receiver does not
        #: say any more (``next``) counts for nothing.
        self._agenda: list[tuple[float, int, _Receiver]] = []
        self._order = itertools.count()
        self._stopped = False
        self._threads = [
            threading.Thread(
                target=self._run, name=f'replies-{number}', daemon=True
            )
            for number in range(threads)
        ]

    def set_pauses(
        self, timeout: float, retry_first: float, retry_max: float
    ) -> None:
        """Change how long receivers have, and are left alone, from now on."""
        self._timeout = timeout
        self._retry_first = retry_first
        self._retry_max = retry_max

    def start(self) -> None:
        """Start sending; results may have been handed over before."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Send nothing more; what is unsent stays unmarked.

        :param timeout: seconds to wait for what is being sent.
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

        :param result: a final one is read from the journal once it is sent.
        :param final: whether it is the one result of an accepted request.
            A refusal is not: it must neither stand for that result nor be
            taken for delivered, and it is not sent for long.
        """
        now = time.monotonic()
        where = reply_to.as_dict()
        reply = _Reply(
            request_id,
            None if final else result,
            expires=now + (self._retention if final else _REFUSED),
            final=final,
            pause=self._retry_first,
        )
        with self._changed:
            key = _key(reply, where)
            if key in self._known:
                return
            address = tuple(where.values())
            receiver = self._receivers.get(address) or _Receiver(where)
            if not final and not self._make_room(receiver):
                LOG.warning(
                    'Request %s: its refusal is not sent: %d others have no '
                    'receipt.',
                    request_id,
                    self._refusals,
                )
                return
            self._receivers[address] = receiver
            self._known.add(key)
            self._refusals += not final
            receiver.refusals += not final
            self._push(receiver, now, reply)
            self._schedule(receiver)

    def _push(self, receiver: _Receiver, due: float, reply: _Reply) -> None:
        heapq.heappush(receiver.waiting, (due, next(self._order), reply))

    def _schedule(self, receiver: _Receiver) -> None:
        """Note when there is something to do for a receiver, if ever."""
        if receiver.asked is None and not (receiver.waiting or receiver.busy):
            self._receivers.pop(tuple(receiver.reply_to.values()), None)
        elif receiver.next < math.inf:
            entry = (receiver.next, next(self._order), receiver)
            heapq.heappush(self._agenda, entry)
            self._changed.notify()

    def _forget(self, receiver: _Receiver, reply: _Reply) -> None:
        self._known.discard(_key(reply, receiver.reply_to))
        self._refusals -= not reply.final
        receiver.refusals -= not reply.final

    def _make_room(self, receiver: _Receiver) -> bool:
        """See that there is room for one more refusal.

        The last one goes of the receiver that is silent, or has most of them.

        :returns: False: that is this one
        """
        if self._refusals < _MOST_REFUSALS:
            return True
        most = max(self._receivers.values(), key=_claims)
        waiting = [one for one in most.waiting if not one[2].final]
        if _claims(most) <= _claims(receiver) or not waiting:
            return False
        last = max(waiting, key=operator.itemgetter(1))
        most.waiting.remove(last)
        heapq.heapify(most.waiting)
        self._forget(most, last[2])
        self._schedule(most)
        return True

    def _run(self) -> None:
        while (receiver := self._next()) is not None:
            try:
                if receiver.asked is None:
                    self._ask(receiver)
                else:
                    self._conclude(receiver, receiver.asked)
            except Exception as error:  # nothing may end this thread
                LOG.exception('Sending a result failed.')
                self._again(receiver, error)
            finally:
                with self._changed:
                    receiver.busy = False
                    self._schedule(receiver)

    def _next(self) -> _Receiver | None:
        """Wait until there is something to do for a receiver; None: stopped.

        It is this thread's alone then.
        """
        with self._changed:
            while not self._stopped:
                if not self._agenda:
                    self._changed.wait()
                    continue
                due, _, receiver = self._agenda[0]
                remaining = due - time.monotonic()
                if due == receiver.next and remaining > 0:
                    self._changed.wait(remaining)
                    continue
                heapq.heappop(self._agenda)
                if due == receiver.next:
                    receiver.busy = True
                    return receiver
        return None

    def _ask(self, receiver: _Receiver) -> None:
        with self._changed:
            _, _, reply = heapq.heappop(receiver.waiting)
            receiver.asked, receiver.until = reply, math.inf
        reply.attempts += 1
        target = messaging.Target(version=REPLY_VERSION, **receiver.reply_to)
        try:
            result = reply.result or self._find(reply.request_id)
            receiver.end_call = bus.begin_call(
                self._transport,
                target,
                'operation_finished',
                {'result': self._serializer.serialize_entity({}, result)},
                functools.partial(self._answered, receiver, reply),
            )
        except exception.RequestNotFound:
            with self._changed:
                receiver.asked = None
                self._forget(receiver, reply)
        except Exception as error:  # whatever the broker says
            self._answered(receiver, reply, error)
        with self._changed:
            receiver.until = min(
                receiver.until, time.monotonic() + self._timeout
            )

    def _answered(
        self,
        receiver: _Receiver,
        reply: _Reply,
        error: BaseException | None,
    ) -> None:
        """Take what a receiver has answered, from whatever thread."""
        with self._changed:
            if receiver.asked is reply and receiver.until > 0:
                receiver.answer, receiver.until = error, 0.0
                self._schedule(receiver)

    def _conclude(self, receiver: _Receiver, reply: _Reply) -> None:
        if receiver.until > 0:
            receiver.end_call()
            self._again(receiver, messaging.MessagingTimeout())
        elif receiver.answer is not None:
            self._again(receiver, receiver.answer)
        else:
            if reply.final and not self._stopped:
                self._settle(reply.request_id, receiver.reply_to)
            with self._changed:
                receiver.asked, receiver.pause = None, 0.0
                self._forget(receiver, reply)

    def _again(self, receiver: _Receiver, error: BaseException) -> None:
        """See that what has no receipt is sent again, as far as it matters."""
        with self._changed:
            reply, receiver.asked = receiver.asked, None
            now = due = time.monotonic()
            if isinstance(error, _NOT_SILENT):
                # Others for it may be confirmed.
                receiver.pause = 0.0
                if reply is not None:
                    due += reply.pause
                    reply.pause = min(reply.pause * 2, self._retry_max)
            else:
                # While the broker is away nobody knows who is silent.
                grown = receiver.pause * (
                    1 if isinstance(error, bus.UNREACHABLE) else 2
                )
                receiver.pause = min(
                    max(grown, self._retry_first), self._retry_max
                )
                receiver.due = now + receiver.pause
            if reply is not None:
                self._push(receiver, due, reply)
            kept: list[_Entry] = []
            dropped: list[_Entry] = []
            for entry in receiver.waiting:
                at = max(receiver.due, entry[0])
                (kept if at < entry[2].expires else dropped).append(entry)
            heapq.heapify(kept)
            receiver.waiting = kept
            for _, _, each in dropped:
                self._forget(receiver, each)
        if reply is not None:
            # Only the type: the text is the receiver's and may be anything.
            log_at = LOG.warning if reply.attempts == 1 else LOG.debug
            log_at(
                'Request %s: no receipt for its result (%s, attempt %d).',
                reply.request_id,
                type(error).__name__,
                reply.attempts,
            )
        for _, _, each in dropped:
            self._give_up(receiver, each)

    def _give_up(self, receiver: _Receiver, reply: _Reply) -> None:
        if reply.final and not self._stopped:
            try:
                self._settle(reply.request_id, receiver.reply_to)
            except exception.JournalUnavailable as error:
                LOG.error('%s', error)  # it is sent after the next start
        if not reply.final:
            LOG.debug('Request %s: nobody took its refusal.', reply.request_id)
            return
        LOG.error(
            'Request %s: its result was not confirmed in %d attempts '
            'and is not sent any more; it can be fetched with '
            'get_result.',
            reply.request_id,
            reply.attempts,
        )


def _claims(receiver: _Receiver) -> tuple[bool, int]:
    """How much a receiver takes of what all have for refusals."""
    return receiver.pause > 0 < receiver.refusals, receiver.refusals


def _key(
    reply: _Reply, where: dict[str, str]
) -> tuple[str, tuple[str, ...], bool]:
    """One result may go to several receivers, once to each."""
    return reply.request_id, tuple(where.values()), reply.final
