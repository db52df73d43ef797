# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""One request while it waits and runs."""

from collections.abc import Callable
from concurrent import futures
import contextlib
import functools
import math
import threading
from typing import Any
from typing import TypeVar

from oslo_log import log as logging
from taskflow.flow import Flow

from attachworker import context
from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.tasks.run import Run
from attachworker.telemetry import progress
from attachworker.worker import engine
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.dispatcher import Job

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to write a result down: it doubles.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
#: Seconds until who waits is told that there is no result for now.
_PATIENCE = 1.0
#: Where one ends that was never begun.
_QUEUE = 'queue'
_FIRST_STEP = 'its first step'

T = TypeVar('T')


class Operation(Job):
    """An accepted request until it has its final result: one class a kind.

    :param make_run: makes what the tasks of an operation share, from the
        attachment_id, the connection and further fields of a Run
    :param cleanup: puts back later what cannot be put back now
    :param listeners: are told how it goes on
    :param on_finish: is told once it has its final result
    :param stopping: set once the worker is to stop
    :cvar kind: attach, detach, extend or rotate
    :cvar status: of a result that is a success
    :ivar attachment_id: operations with the same one run one after another
    :ivar keys: see :class:`attachworker.worker.dispatcher.Job`
    :ivar backend: likewise; the address of the volume's first portal
    :ivar protocol: of the volume; empty if that is not known
    :ivar started: seconds since boot, when it was accepted here
    :ivar deadline: counted from the acceptance
    :ivar abandoned: why an operation that an earlier worker began, or that
        was cancelled, is not resumed; None otherwise
    :ivar resumed: whether an earlier worker began it
    :ivar adds_key: see :class:`attachworker.journal.RequestRecord`
    :ivar reply_to: everybody who is to be told the result of a cast: a
        request may be sent again from elsewhere
    """

    kind: str
    status: str

    def __init__(
        self,
        records: Records,
        make_run: Callable[..., Run],
        cleanup: Cleanup,
        listeners: list[progress.Listener],
        request: Any,
        deadline: deadlines.Deadline,
        on_finish: Callable[['Operation'], None],
        stopping: threading.Event,
    ) -> None:
        self._records = records
        self._make_run = make_run
        self._cleanup = cleanup
        self._listeners = listeners
        self.request = request
        self.reply_to = [request.reply_to] if request.reply_to else []
        self.context = context.current()
        self.attachment_id = self.find_attachment()
        info = self.find_info()
        self.concerns(self.attachment_id, info)
        self.protocol = str(info.protocol) if info else ''
        self._cancelled = threading.Event()
        self.deadline = deadlines.Deadline(deadline.at, self._cancelled)
        self.resumed = False
        self.adds_key = False
        self.started = deadlines.now()
        self.abandoned: exception.AttachWorkerError | None = None
        self._stopping = stopping
        self._on_finish = on_finish
        #: What the operation holds until its end: locks.
        self.held = contextlib.ExitStack()
        #: For who waits: the result, or why there can be none for now.
        self._answer: futures.Future[objects.OperationResult] = (
            futures.Future()
        )
        self._wrapping_up = threading.Event()
        self._on_wrap_up: Callable[[], None] = self._wrapping_up.set
        self._on_cancel: Callable[[], None] = self._cancelled.set
        #: Whether it waits for a journal that cannot be written.
        self._patient = True
        self.result: objects.OperationResult | None = None

    def find_attachment(self) -> str:
        """The attachment_id, whatever the request says of it."""
        return str(self.request.attachment_id)

    def find_info(self) -> objects.ConnectionInfo | None:
        """What it is about; None if that is not known."""
        raise NotImplementedError

    def perform(self) -> None:
        """Do what was asked for; ends with :meth:`conclude`."""
        raise NotImplementedError

    @property
    def expires(self) -> float:
        """Its deadline; what an earlier worker began is to be ended."""
        return math.inf if self.resumed else self.deadline.at

    def expire(self) -> bool:
        self._patient = False
        return self.refuse(exception.DeadlineExceeded(step=_QUEUE))

    def refuse(self, error: exception.AttachWorkerError) -> bool:
        """End it before it was begun, outside of the dispatcher.

        :returns: False if there may be a result later, but not now
        """
        try:
            self.conclude(self.failed(error))
        except exception.JournalUnavailable as broken:
            self._tell_broken(broken)
            return not broken.passing
        return True

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
            stopped: the next start goes on; or somebody else tries again
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
                if not self._patient:
                    raise
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

    def _break_down(
        self, error: exception.AttachWorkerError, note: bool = True
    ) -> None:
        """Whatever was raised, and wherever: there is one result.

        :param note: whether the attachment is noted to be broken off, too.
            If that cannot be, whoever comes next sees how it stands.
        """
        try:
            if self.result is not None:
                self.mend_later()
            elif note:
                self.persist(lambda: self.fail(error))
            else:
                self.conclude(self.failed(error))
        except BaseException as broken:
            stopped = (
                isinstance(broken, exception.JournalUnavailable)
                and broken.passing
            )
            if not stopped:
                LOG.exception('Request %s', self.request.request_id)
            if note and not stopped and self.result is None:
                self._break_down(error, note=False)
            elif isinstance(broken, exception.AttachWorkerError):
                self._tell_broken(broken)
            else:
                self._tell_broken(exception.AttachWorkerError())

    def _tell_broken(self, error: exception.AttachWorkerError) -> None:
        """There can be no final result now."""
        if not self._answer.done():
            self._answer.set_exception(error)

    def _run(self) -> None:
        if self.deadline.cancelled:
            self.abandoned = exception.OperationCancelled(step=_FIRST_STEP)
        if self.resumed:
            request_id = self.request.request_id
            self.persist(lambda: self._records.count_attempt(request_id))
        if self.abandoned is None:
            self.perform()
        else:
            self.abandon()

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
        LOG.log(
            logging.WARNING if error else logging.INFO,
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
            if not self._answer.done():
                self._answer.set_result(result)

    def when_finished(self, act: Callable[[], None]) -> None:
        """Call ``act`` once :meth:`wait` does not block any more."""
        self._answer.add_done_callback(lambda _: act())

    def wait(self) -> objects.OperationResult:
        """Block until there is a final result.

        :raises JournalUnavailable: there can be none before the journal can
            be written again
        """
        return self._answer.result() if self.result is None else self.result

    # -- what operations of all kinds do

    def make_run(
        self,
        info: objects.ConnectionInfo,
        **values: Any,
    ) -> Run:
        # A detach that was accepted before its attach ran did not know it.
        self.protocol = str(info.protocol)
        return self._make_run(
            self.attachment_id,
            info,
            held=self.held,
            deadline=self.deadline,
            **values,
        )

    def run_flow(self, flow: Flow, run: Run) -> engine.Outcome:
        return engine.run(flow, self._progress, several=len(run.targets) > 1)

    @functools.cached_property
    def _progress(self) -> progress.Progress:
        """Tells of all its flows; it begins with the first one."""
        return progress.Progress(self._listeners, self)

    def result_of(self, status: str, **values: Any) -> objects.OperationResult:
        return objects.OperationResult(
            request_id=self.request.request_id,
            attachment_id=self.request.attachment_id,
            operation=self.kind,
            status=status,
            **values,
        )

    def succeeded(
        self,
        outcome: engine.Outcome,
        run: Run,
        device: objects.DeviceInfo | None = None,
    ) -> objects.OperationResult:
        return self.result_of(
            self.status,
            device=device,
            warnings=run.warnings,
            timings=outcome.timings,
        )

    def failed(
        self, error: BaseException, step: str | None = None
    ) -> objects.OperationResult:
        return failure(self.kind, self.request, error, step)

    def undone(
        self, outcome: engine.Outcome, run: Run
    ) -> objects.OperationResult:
        """The result of a flow that failed."""
        assert outcome.error is not None
        result = self.failed(outcome.error, outcome.step)
        result.warnings = run.warnings
        result.leftovers = run.leftovers
        result.timings = outcome.timings
        return result

    def conclude(
        self,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None = None,
        gone: str | None = None,
    ) -> bool:
        """Make the result final, then tell it.

        :returns: False if it is a success, and the journal says that the
            request was cancelled before
        """
        if not self._write(result, attachment, gone):
            if result.error is None:
                return False
            step = result.error.step
            result.error = objects.OperationError.from_exception(
                exception.OperationCancelled(step=step or _FIRST_STEP), step
            )
            if not self._write(result, attachment, gone):
                result = self._written() or result
        self.finish(result)
        return True

    def _written(self) -> objects.OperationResult | None:
        """The result that somebody has broken down after writing it."""
        found = self.persist(
            lambda: self._records.request(self.request.request_id)
        )
        return found.result_object() if found else None

    def _write(
        self,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None,
        gone: str | None,
    ) -> bool:
        error = result.error
        primitive = result.obj_to_primitive()
        return self.persist(
            lambda: self._records.finish(
                self.request.request_id,
                primitive,
                attachment,
                gone,
                error is not None
                and error.code == exception.OperationCancelled.code,
            )
        )

    def abandon(self) -> None:
        """End it where ``abandoned`` says why it is not tried again."""
        assert self.abandoned is not None
        self.conclude(self.failed(self.abandoned))

    def fail(self, error: exception.AttachWorkerError) -> None:
        """End it where it has broken down, wherever that was."""
        result = self.failed(error)
        known = self._records.readable(self.attachment_id)
        if known is None:
            self.conclude(result)
            return
        left = known.with_state(known.state.when_broken_off())
        if left.state.is_left_over:
            result.leftovers = [f'what was done for {known.attachment_id}']
            self._cleanup.later(known.attachment_id)
        self.conclude(result, left)

    def mend_later(self) -> None:
        """Put right what was left undone after the result."""
        self._cleanup.later(self.attachment_id)


class OfAttached(Operation):
    """An operation on what is attached, in part perhaps."""

    def find_info(self) -> objects.ConnectionInfo | None:
        known = self._known()
        return None if known is None else known.info()

    def perform(self) -> None:
        known = self._known()
        if known is None:
            self.abandoned = exception.AttachmentNotFound(
                attachment_id=self.attachment_id
            )
            self.abandon()
            return
        device = known.device_info()
        assert device is not None  # by its state
        self.change(known, device)

    def change(
        self, known: AttachmentRecord, device: objects.DeviceInfo
    ) -> None:
        """Do what was asked for; ends with :meth:`conclude`.

        :param device: as the caller was told of it last
        """
        raise NotImplementedError

    def _known(self) -> AttachmentRecord | None:
        known = self._records.attachment(self.attachment_id)
        if known is None or not known.state.may_have_device:
            return None
        return known


def has_run(record: RequestRecord) -> bool:
    """Whether a request that has its result may have been begun."""
    try:
        result = record.result_object()
    except exception.RecordUnreadable:
        return True
    error = result and result.error
    return not error or error.step not in (_QUEUE, _FIRST_STEP)


def failure(
    kind: str,
    request: objects.AnyRequest | RequestRecord,
    error: BaseException,
    step: str | None = None,
) -> objects.OperationResult:
    """The result of a request that has failed, before it ran or in a step."""
    return objects.OperationResult(
        request_id=request.request_id,
        attachment_id=request.attachment_id,
        operation=kind,
        status='failed',
        error=objects.OperationError.from_exception(error, step),
    )
