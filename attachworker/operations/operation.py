# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""One request while it waits and runs."""

from collections.abc import Callable
import math
import threading
from typing import Any
from typing import Protocol

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects

LOG = logging.getLogger(__name__)

Request = objects.AttachRequest | objects.DetachRequest | objects.ExtendRequest


class Handler(Protocol):
    """Runs the operations of one kind."""

    def attachment_id(self, request: Any) -> str: ...

    def info(self, request: Any) -> objects.ConnectionInfo | None:
        """What it is about; None if that is not known."""

    def run(self, operation: 'Operation') -> None:
        """Ends with :meth:`Operation.finish`."""

    def abandon(self, operation: 'Operation') -> None:
        """Likewise, where ``abandoned`` says why it is not tried again."""

    def expire(self, operation: 'Operation') -> None:
        """Likewise, where its time was over before it was begun."""

    def fail(
        self, operation: 'Operation', error: exception.AttachWorkerError
    ) -> None:
        """Likewise, where :meth:`run` has broken down."""


class Operation:
    """An accepted request until it has its final result.

    :ivar kind: attach, detach or extend
    :ivar attachment_id: operations with the same one run one after another
    :ivar keys: see :class:`attachworker.dispatcher.Job`
    :ivar backend: see :class:`attachworker.dispatcher.Job`; the address of
        the volume's first portal
    :ivar protocol: of the volume; empty if that is not known
    :ivar started: seconds since boot, when it was accepted here
    :ivar deadline: counted from the acceptance
    :ivar abandoned: why an operation that an earlier worker began, or that
        was cancelled, is not gone on with; None otherwise
    :ivar resumed: whether an earlier worker began it
    :ivar reply_to: everybody who is to be told the result of a cast: a
        request may be sent again from elsewhere
    """

    def __init__(
        self,
        kind: str,
        request: Any,
        handler: Handler,
        deadline: deadlines.Deadline,
        on_finish: Callable[['Operation'], None],
    ) -> None:
        self.kind = kind
        self.request = request
        self.reply_to = [request.reply_to] if request.reply_to else []
        self.attachment_id = handler.attachment_id(request)
        self.keys = frozenset({self.attachment_id})
        info = handler.info(request)
        self.protocol = str(info.protocol) if info else ''
        self.backend = (
            str(info.targets[0].portal.rpartition(':')[0]) if info else ''
        )
        self._cancelled = threading.Event()
        self.deadline = deadlines.Deadline(deadline.at, self._cancelled)
        self.resumed = False
        self.started = deadlines.now()
        self.abandoned: exception.AttachWorkerError | None = None
        self._handler = handler
        self._on_finish = on_finish
        self._finished = threading.Event()
        self._ending = threading.Lock()
        self._on_end: list[Callable[[], None]] = []
        self._hurried = threading.Event()
        self._on_hurry: Callable[[], None] = self._hurried.set
        self._on_cancel: Callable[[], None] = self._cancelled.set
        self._broken: exception.JournalUnavailable | None = None
        self.result: objects.OperationResult | None = None

    @property
    def expires(self) -> float:
        """Its deadline; what an earlier worker began is to be ended."""
        return math.inf if self.resumed else self.deadline.at

    def expire(self) -> None:
        self._conclude(lambda: self._handler.expire(self))

    def run(self) -> None:
        LOG.info(
            '%s of %s starts (request %s)',
            self.kind,
            self.attachment_id,
            self.request.request_id,
        )
        self._conclude(self._run)

    def _conclude(self, body: Callable[[], None]) -> None:
        try:
            body()
        except exception.JournalUnavailable as error:
            # There can be no final result now; the next start finds out.
            LOG.error('Request %s: %s', self.request.request_id, error)
            self._broken = error
            self._end()

    def _run(self) -> None:
        if self.deadline.cancelled:
            self.abandoned = exception.OperationCancelled(
                step='its first step'
            )
        try:
            if self.abandoned is None:
                self._handler.run(self)
            else:
                self._handler.abandon(self)
        except exception.JournalUnavailable:
            raise
        except OSError as error:
            LOG.warning('Request %s: %s', self.request.request_id, error)
            self._fail(
                exception.HostToolFailed.from_os_error(
                    error, f'The {self.kind}'
                )
            )
        except Exception:
            LOG.exception('Request %s', self.request.request_id)
            self._fail(exception.AttachWorkerError())

    def _fail(self, error: exception.AttachWorkerError) -> None:
        if self.result is None:
            self._handler.fail(self, error)

    def cancel(self) -> None:
        """Stop it at its next step; the journal knows already."""
        self._cancelled.set()
        self._on_cancel()

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """Call ``act`` once somebody cancels it."""
        self._on_cancel = act
        if self._cancelled.is_set():
            act()

    def hurry(self) -> None:
        """Somebody waits for the end of this operation."""
        self._hurried.set()
        self._on_hurry()

    def when_hurried(self, act: Callable[[], None]) -> None:
        """Call ``act`` once somebody waits for the end of it."""
        self._on_hurry = act
        if self._hurried.is_set():
            act()

    def finish(self, result: objects.OperationResult) -> None:
        """Give the final result, which is in the journal, to who waits."""
        error = result.error
        LOG.info(
            '%s of %s: %s in %.3f s (request %s)%s%s',
            self.kind,
            self.attachment_id,
            result.status,
            deadlines.now() - self.started,
            self.request.request_id,
            f'; {error.code} in {error.step}: {error.message}'
            if error
            else '',
            f'; left over: {", ".join(result.leftovers)}'
            if result.leftovers
            else '',
        )
        self.result = result
        try:
            self._on_finish(self)
        finally:
            self._end()

    def _end(self) -> None:
        with self._ending:
            self._finished.set()
            acts, self._on_end = self._on_end, []
        for act in acts:
            act()

    def when_finished(self, act: Callable[[], None]) -> None:
        """Call ``act`` once :meth:`wait` does not block any more."""
        with self._ending:
            if not self._finished.is_set():
                self._on_end.append(act)
                return
        act()

    def wait(self) -> objects.OperationResult:
        """Block until there is a final result.

        :raises JournalUnavailable: there can be none before the worker has
            been started again
        """
        self._finished.wait()
        if self.result is None:
            assert self._broken is not None
            raise self._broken
        return self.result
