# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""One request while it waits and runs, and what those of all kinds share."""

from collections.abc import Callable
import contextlib
import math
import threading
from typing import Any
from typing import TypeVar

from oslo_log import log as logging
from taskflow.flow import Flow

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import Records
from attachworker.tasks.run import Run
from attachworker.telemetry import progress
from attachworker.worker import engine
from attachworker.worker.cleanup import Cleanup

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to write a result down: it doubles.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
#: Seconds until who waits is told that there is no result for now.
_PATIENCE = 1.0

T = TypeVar('T')

Request = objects.AttachRequest | objects.DetachRequest | objects.ExtendRequest


class Operation:
    """An accepted request until it has its final result.

    :ivar kind: attach, detach or extend
    :ivar attachment_id: operations with the same one run one after another
    :ivar keys: see :class:`attachworker.worker.dispatcher.Job`
    :ivar backend: likewise; the address of the volume's first portal
    :ivar protocol: of the volume; empty if that is not known
    :ivar started: seconds since boot, when it was accepted here
    :ivar deadline: counted from the acceptance
    :ivar abandoned: why an operation that an earlier worker began, or that
        was cancelled, is not resumed; None otherwise
    :ivar resumed: whether an earlier worker began it
    :ivar reply_to: everybody who is to be told the result of a cast: a
        request may be sent again from elsewhere
    """

    def __init__(
        self,
        kind: str,
        request: Any,
        handler: 'Handler',
        deadline: deadlines.Deadline,
        on_finish: Callable[['Operation'], None],
        stopping: threading.Event | None = None,
    ) -> None:
        self.kind = kind
        self.request = request
        self.reply_to = [request.reply_to] if request.reply_to else []
        self.attachment_id = handler.attachment_id(request)
        info = handler.info(request)
        # Operations on one volume, as the storage calls it, run one after
        # another; where it has several names, the volume's lock sees to it.
        names = {one.volume_name for one in info.targets} if info else set()
        self.keys = frozenset(
            {self.attachment_id, *(f'volume {name}' for name in names)}
        )
        self.protocol = str(info.protocol) if info else ''
        self.backend = str(info.targets[0].backend) if info else ''
        self._cancelled = threading.Event()
        self.deadline = deadlines.Deadline(deadline.at, self._cancelled)
        self.resumed = False
        self.started = deadlines.now()
        self.abandoned: exception.AttachWorkerError | None = None
        self._handler = handler
        self._stopping = stopping or threading.Event()
        self._on_finish = on_finish
        #: What the operation holds until its end: locks.
        self.held = contextlib.ExitStack()
        self._finished = threading.Event()
        self._ending = threading.Lock()
        self._on_end: list[Callable[[], None]] = []
        self._wrapping_up = threading.Event()
        self._on_wrap_up: Callable[[], None] = self._wrapping_up.set
        self._on_cancel: Callable[[], None] = self._cancelled.set
        #: Called as one begins that an earlier worker began.
        self.when_begun: Callable[[], None] = lambda: None
        self._broken: exception.AttachWorkerError | None = None
        self.result: objects.OperationResult | None = None

    @property
    def expires(self) -> float:
        """Its deadline; what an earlier worker began is to be ended."""
        return math.inf if self.resumed else self.deadline.at

    def expire(self) -> None:
        self.refuse(exception.DeadlineExceeded(step='queue'))

    def refuse(self, error: exception.AttachWorkerError) -> None:
        """End it before it was begun, outside of the dispatcher."""
        try:
            self._handler.refuse(self, error)
        except exception.JournalUnavailable as broken:
            self._tell_broken(broken)

    def run(self) -> None:
        LOG.info(
            '%s of %s starts (request %s)',
            self.kind,
            self.attachment_id,
            self.request.request_id,
        )
        try:
            self._run()
        except BaseException as error:
            self._break_down(self._failure(error))
        finally:
            self.held.close()

    def persist(self, act: Callable[[], T]) -> T:
        """Do something with the journal as soon as that is possible.

        Who waits for the result is told if it takes long.

        :raises JournalUnavailable: it never will be, or the worker is
            stopped: the next start goes on
        """
        began = deadlines.now()
        pause = _FIRST_PAUSE
        while True:
            try:
                return act()
            except exception.JournalUnavailable as error:
                if not error.passing or self._stopping.is_set():
                    raise
                LOG.error(
                    'Request %s: %s It is tried again.',
                    self.request.request_id,
                    error,
                )
                if deadlines.now() - began > _PATIENCE:
                    self._tell_broken(error)
                if self._stopping.wait(pause):
                    raise
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _failure(self, error: BaseException) -> exception.AttachWorkerError:
        """What a result says of an error that nobody has expected."""
        if isinstance(error, OSError):
            error = exception.HostToolFailed.from_os_error(
                error, f'The {self.kind}'
            )
        if isinstance(error, exception.AttachWorkerError):
            LOG.warning('Request %s: %s', self.request.request_id, error)
            return error
        LOG.error('Request %s', self.request.request_id, exc_info=error)
        return exception.AttachWorkerError()

    def _break_down(self, error: exception.AttachWorkerError) -> None:
        """Whatever was raised, and wherever: there is one result."""
        try:
            if self.result is None:
                self.persist(lambda: self._handler.fail(self, error))
            else:
                self._handler.mend_later(self)
        except exception.JournalUnavailable as broken:
            self._tell_broken(broken)
        except BaseException:
            LOG.exception('Request %s', self.request.request_id)
            self._tell_broken(exception.AttachWorkerError())

    def _tell_broken(self, error: exception.AttachWorkerError) -> None:
        """There can be no final result now."""
        self._broken = error
        self._end()

    def _run(self) -> None:
        if self.deadline.cancelled:
            self.abandoned = exception.OperationCancelled(
                step='its first step'
            )
        self.persist(self.when_begun)
        if self.abandoned is None:
            self._handler.run(self)
        else:
            self._handler.abandon(self)

    def cancel(self) -> None:
        """Stop it at its next step; the journal knows already."""
        self._cancelled.set()
        self._on_cancel()

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """Call ``act`` once somebody cancels it."""
        self._on_cancel = act
        if self._cancelled.is_set():
            act()

    def add_receiver(self, reply_to: objects.ReplyTo) -> None:
        """One more is to be told the result; the journal knows already."""
        known = [each.as_dict() for each in self.reply_to]
        if reply_to.as_dict() not in known:
            self.reply_to.append(reply_to)

    def wrap_up(self) -> None:
        """Somebody waits for the end of this operation."""
        self._wrapping_up.set()
        self._on_wrap_up()

    def when_to_wrap_up(self, act: Callable[[], None]) -> None:
        """Call ``act`` once somebody waits for the end of it."""
        self._on_wrap_up = act
        if self._wrapping_up.is_set():
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

        :raises JournalUnavailable: there can be none before the journal can
            be written again
        """
        self._finished.wait()
        if self.result is None:
            assert self._broken is not None
            raise self._broken
        return self.result


class Handler:
    """Runs the operations of one kind and writes down how they ended.

    :param make_run: makes what the tasks of an operation share, from the
        attachment_id, the connection and further fields of a Run
    :param cleanup: puts back later what cannot be put back now
    :param listeners: are told how operations go on
    :cvar status: of a result that is a success
    """

    status = 'failed'

    def __init__(
        self,
        records: Records,
        make_run: Callable[..., Run],
        cleanup: Cleanup,
        listeners: list[progress.Listener],
    ) -> None:
        self._records = records
        self._make_run = make_run
        self._cleanup = cleanup
        self._listeners = listeners

    def attachment_id(self, request: Any) -> str:
        return str(request.attachment_id)

    def info(self, request: Any) -> objects.ConnectionInfo | None:
        """What it is about; None if that is not known."""
        raise NotImplementedError

    def run(self, operation: Operation) -> None:
        """Ends with :meth:`conclude`."""
        raise NotImplementedError

    def make_run(
        self,
        operation: Operation,
        info: objects.ConnectionInfo,
        **values: Any,
    ) -> Run:
        return self._make_run(
            operation.attachment_id,
            info,
            held=operation.held,
            deadline=operation.deadline,
            **values,
        )

    def run_flow(
        self, operation: Operation, flow: Flow, run: Run
    ) -> engine.Outcome:
        return engine.run(
            flow,
            progress.Progress(self._listeners, operation),
            several=len(run.targets) > 1,
        )

    def succeeded(
        self,
        operation: Operation,
        outcome: engine.Outcome,
        run: Run,
        device: objects.DeviceInfo | None = None,
    ) -> objects.OperationResult:
        return objects.OperationResult(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            operation=operation.kind,
            status=self.status,
            device=device,
            warnings=run.warnings,
            timings=outcome.timings,
        )

    def failed(
        self,
        operation: Operation,
        error: BaseException,
        step: str | None = None,
    ) -> objects.OperationResult:
        return objects.OperationResult(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            operation=operation.kind,
            status='failed',
            error=objects.OperationError.from_exception(error, step),
        )

    def undone(
        self, operation: Operation, outcome: engine.Outcome, run: Run
    ) -> objects.OperationResult:
        """The result of a flow that failed."""
        assert outcome.error is not None
        result = self.failed(operation, outcome.error, outcome.step)
        result.warnings = run.warnings
        result.leftovers = run.leftovers
        result.timings = outcome.timings
        return result

    def conclude(
        self,
        operation: Operation,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None = None,
        gone: str | None = None,
    ) -> bool:
        """Make the result final, then tell it.

        :returns: False if it is a success, and the journal says that the
            request was cancelled before
        """
        if not self._finish(operation, result, attachment, gone):
            if result.error is None:
                return False
            result.error = cancelled(result.error.step)
            if not self._finish(operation, result, attachment, gone):
                result = self._written(operation) or result
        operation.finish(result)
        return True

    def _written(self, operation: Operation) -> objects.OperationResult | None:
        """The result that somebody has broken down after writing it."""
        found = operation.persist(
            lambda: self._records.request(operation.request.request_id)
        )
        return found.result_object() if found else None

    def _finish(
        self,
        operation: Operation,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None,
        gone: str | None,
    ) -> bool:
        error = result.error
        primitive = result.obj_to_primitive()
        return operation.persist(
            lambda: self._records.finish(
                operation.request.request_id,
                primitive,
                attachment,
                gone,
                error is not None
                and error.code == exception.OperationCancelled.code,
            )
        )

    def abandon(self, operation: Operation) -> None:
        """End one of which ``abandoned`` says why it is not tried again."""
        assert operation.abandoned is not None
        self.conclude(operation, self.failed(operation, operation.abandoned))

    def refuse(
        self, operation: Operation, error: exception.AttachWorkerError
    ) -> None:
        """End one that has not been begun."""
        self.conclude(operation, self.failed(operation, error))

    def fail(
        self, operation: Operation, error: exception.AttachWorkerError
    ) -> None:
        """End one that has broken down, wherever that was."""
        result = self.failed(operation, error)
        known = self._records.readable(operation.attachment_id)
        if known is None:
            self.conclude(operation, result)
            return
        left = known.with_state(known.state.when_broken_off())
        if left.state.is_left_over:
            result.leftovers = [f'what was done for {known.attachment_id}']
            self._cleanup.later(known.attachment_id)
        self.conclude(operation, result, left)

    def mend_later(self, operation: Operation) -> None:
        """Put right what was left undone after the result."""
        self._cleanup.later(operation.attachment_id)


def cancelled(step: str | None) -> objects.OperationError:
    """The error of a request that was cancelled in, or before, a step."""
    return objects.OperationError.from_exception(
        exception.OperationCancelled(step=step or 'its first step'), step
    )
