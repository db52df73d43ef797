# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Takes requests, each of them once."""

from collections.abc import Callable
from collections.abc import Mapping
import datetime
import math
import threading

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.journal import Call
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.journal import Sealer
from attachworker.journal import without_secrets
from attachworker.journal.reading import as_object
from attachworker.journal.reading import legible
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.operation import Operation
from attachworker.worker.operation import has_run

LOG = logging.getLogger(__name__)

#: Seconds between two looks for results that are too old to be kept.
_FORGET_INTERVAL = 60.0
#: No request is as old as that: a host without a clock of its own starts in
#: 1970, or on the day when its system was built.
_SURELY_WRONG = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class Operations:
    """Takes requests, each of them once.

    :param sealer: for the secrets of what is unfinished
    :param kinds: by name, what makes an operation of a request, its deadline,
        and the last two parameters of an Operation
    :param boot_id: of the running kernel
    :param default_deadline: seconds
    :param on_finish: is told of each operation that has its final result
    :param retention: seconds that results are kept
    :param max_attempts: how often a request is resumed by a worker that
        was started again
    :param max_results: how many are kept; further ones are forgotten within
        a minute
    """

    def __init__(
        self,
        records: Records,
        sealer: Sealer,
        dispatcher: Dispatcher,
        kinds: Mapping[str, Callable[..., Operation]],
        boot_id: str,
        default_deadline: float,
        on_finish: Callable[[Operation], None],
        retention: float = math.inf,
        max_attempts: int = 3,
        max_results: int = 50_000,
    ) -> None:
        self._records = records
        self._sealer = sealer
        self._max_attempts = max_attempts
        self.max_results = max_results
        self._dispatcher = dispatcher
        self._kinds = kinds
        self._boot_id = boot_id
        self.default_deadline = default_deadline
        self._on_finish = on_finish
        self._retention = retention
        self._forgot_at = -math.inf
        self._lock = threading.Lock()
        self._running: dict[str, Operation] = {}

    def submit(
        self, kind: str, request: objects.AnyRequest, call: Call | None = None
    ) -> Operation | objects.OperationResult:
        """Accept a request, or recognise it.

        :param call: who waits on the bus for its result, if somebody does

        :returns: the operation, new or already running; or the result, if
            there is one already
        :raises WorkerBusy: nothing was accepted
        :raises AttachmentConflict: the request_id is known with other content
        :raises JournalUnavailable: nothing was accepted, or nobody can read
            what became of it
        """
        with self._lock:
            known = self._records.request(request.request_id)
            if known is None:
                self._check_receiver(request, accepted=False)
                self._dispatcher.check_room()
                self._forget_old_results()
                return self._accept(kind, request, call)
            if (known.operation, known.digest) != (
                kind,
                request.content_digest(),
            ):
                raise exception.AttachmentConflict(
                    what=f'Request {request.request_id}'
                )
            outcome = self._outcome(known)
            # A caller that was started again may be elsewhere. It is written
            # down before its message is acknowledged, also if there is a
            # result: it may be this worker's end that comes next.
            if call is not None:
                self._records.put_call(call, request.request_id)
            elif request.reply_to is not None:
                self._check_receiver(request, accepted=True)
                self._records.owe(
                    request.request_id, request.reply_to.as_dict()
                )
                if isinstance(outcome, Operation):
                    outcome.add_receiver(request.reply_to)
            return outcome

    def cancel(self, name: str) -> bool:
        """Stop an attach at its next step, and have it undone.

        :param name: its request_id; where no request has it, an
            attachment_id, for the oldest attach of that without a result
        :returns: False if the request is none, or is decided already
        :raises JournalUnavailable: nothing was changed
        """
        with self._lock:
            operation = self._running.get(name)
            if operation is None and self._records.request(name) is None:
                operation = self._attach_of(name)
            if operation is None:
                return False
            request_id = operation.request.request_id
            if not self._records.cancel(request_id):
                return False
        LOG.info('Request %s is cancelled', request_id)
        operation.cancel()
        # There is nothing to undo of what has not begun. What an earlier
        # worker began waits for its turn: there is.
        if not operation.resumed and self._dispatcher.remove(operation):
            operation.refuse(
                exception.OperationCancelled(step='its first step')
            )
        return True

    def _attach_of(self, attachment_id: str) -> Operation | None:
        for operation in self._running.values():
            if (operation.kind, operation.attachment_id) == (
                'attach',
                attachment_id,
            ):
                return operation
        return None

    def find(
        self, request_id: str
    ) -> Operation | objects.OperationResult | None:
        """What became of a request; None if it is not known any more.

        :raises RecordUnreadable: the journal does not say
        """
        with self._lock:
            known = self._records.request(request_id)
            return None if known is None else self._outcome(known)

    def _outcome(
        self, record: RequestRecord
    ) -> Operation | objects.OperationResult:
        """:raises RecordUnreadable: it has none that makes sense"""
        with legible(f'request {record.request_id}'):
            return record.result_object() or self._running[record.request_id]

    def _check_receiver(
        self, request: objects.AnyRequest, accepted: bool
    ) -> None:
        """See that results do not pile up for somebody who takes none.

        :raises WorkerBusy: they do
        """
        if request.reply_to is not None and not self._records.may_owe(
            request.request_id, request.reply_to.as_dict(), accepted
        ):
            raise exception.WorkerBusy(
                'Too many results wait for their receipt, so no cast is taken '
                'for this receiver: let it confirm them, or send the request '
                'without reply_to.'
            )

    def _forget_old_results(self) -> None:
        now = deadlines.now()
        if self._retention < math.inf and (
            now - self._forgot_at > _FORGET_INTERVAL
        ):
            self._forgot_at = now
            self._records.forget_results(
                self._retention, self._boot_id, now, self.max_results
            )

    def recall(self, record: RequestRecord) -> Operation:
        """The operation of a request that an earlier worker accepted.

        :raises RecordUnreadable: the request makes no sense
        """
        what = f'request {record.request_id}'
        with legible(what):
            kind = record.operation
            request = as_object(record.body, objects.REQUESTS[kind], what)
            operation = self._operation(kind, request, self._remaining(record))
            operation.reply_to = [
                objects.ReplyTo(**each) for each in record.receivers
            ]
        try:
            self._sealer.restore(operation.request, record.sealed)
        except exception.SecretsLost as error:
            operation.abandoned = error
        if record.attempts >= self._max_attempts:
            operation.abandoned = exception.WorkerRestarted(
                times=record.attempts + 1
            )
        # They run one after another: it had run, and lacks its result only.
        if any(map(has_run, self._records.ended_after(record))):
            operation.abandoned = exception.LaterRequestEnded()
        operation.resumed = True
        operation.adds_key = record.adds_key
        if record.cancelled:
            operation.cancel()
        return operation

    def resume(self, operation: Operation) -> None:
        """Go on with what :meth:`recall` has found."""
        with self._lock:
            self._queue(operation)

    def attach_again(self, request: objects.AttachRequest) -> None:
        """Accept a request of the worker itself, however much waits."""
        with self._lock:
            self._accept('attach', request, None)

    def _remaining(self, record: RequestRecord) -> deadlines.Deadline:
        deadline = self._deadline(record)
        if record.operation != 'attach' and not deadline.remaining():
            # A detach is not undone but finished, late as it is.
            return deadlines.Deadline.after(self.default_deadline)
        return deadline

    def _deadline(self, record: RequestRecord) -> deadlines.Deadline:
        if record.boot_id == self._boot_id:
            return deadlines.Deadline(record.deadline)
        # It counts from a boot that is over; all that is left is the clock,
        # which may not be set now, or not have been set then: nobody gets
        # more than was granted, and nobody less because of a wrong clock.
        accepted = datetime.datetime.fromisoformat(record.created_at)
        age = datetime.datetime.now(datetime.UTC) - accepted
        seconds = record.deadline - record.accepted
        if accepted > _SURELY_WRONG:
            seconds -= max(0.0, age.total_seconds())
        return deadlines.Deadline.after(seconds)

    def _accept(
        self, kind: str, request: objects.AnyRequest, call: Call | None
    ) -> Operation:
        accepted = deadlines.now()
        seconds = request.deadline_seconds or self.default_deadline
        deadline = deadlines.Deadline(accepted + seconds)
        # Made first: once accepted, nothing may keep it from being queued.
        operation = self._operation(kind, request, deadline)
        self._records.accept(
            RequestRecord(
                request_id=request.request_id,
                operation=kind,
                attachment_id=operation.attachment_id,
                digest=request.content_digest(),
                body=without_secrets(request),
                sealed=self._sealer.seal(request),
                boot_id=self._boot_id,
                accepted=accepted,
                deadline=deadline.at,
                receivers=tuple(one.as_dict() for one in operation.reply_to),
            ),
            call,
        )
        return self._queue(operation)

    def _operation(
        self,
        kind: str,
        request: objects.AnyRequest,
        deadline: deadlines.Deadline,
    ) -> Operation:
        return self._kinds[kind](
            request, deadline, self._finished, self._dispatcher.stopping
        )

    def _queue(self, operation: Operation) -> Operation:
        self._running[operation.request.request_id] = operation
        self._dispatcher.add(operation)
        return operation

    def _finished(self, operation: Operation) -> None:
        with self._lock:
            self._running.pop(operation.request.request_id, None)
        self._dispatcher.give_up_place(operation)
        self._on_finish(operation)
