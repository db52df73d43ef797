# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What happens to a request before its message is acknowledged.

It is decoded, validated and journaled, and its operation is queued; or it is
refused. Who sent a cast is told of a refusal from here, who called by the
endpoint.
"""

from collections.abc import Callable
import contextlib
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.journal import Call
from attachworker.journal import Records
from attachworker.rpc import listener
from attachworker.rpc import serializer
from attachworker.rpc.secrets import WireSecrets
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from attachworker.worker.operation import Request

LOG = logging.getLogger(__name__)

#: The methods that ask for an operation.
_REQUESTS: dict[str, type[Request]] = {
    'attach': objects.AttachRequest,
    'detach': objects.DetachRequest,
    'extend': objects.ExtendRequest,
}

#: An operation that was taken, a result that there is already or a refusal,
#: or the error that a call is to raise.
Outcome = Operation | objects.OperationResult | exception.AttachWorkerError


class RequestAcceptance:
    """See :class:`attachworker.rpc.listener.Acceptance`.

    :param is_served: whether the endpoint serves a message
    :param deliver: see :meth:`attachworker.rpc.replies.ReplySender.deliver`
    :param waiting_calls: how many calls may wait for their operation; more
        are told that the worker is busy, so that there is always a thread to
        answer with
    :param secrets: opens those that come in
    """

    def __init__(
        self,
        operations: Operations,
        records: Records,
        is_served: Callable[[dict[str, Any]], bool],
        deliver: Callable[..., None],
        waiting_calls: int,
        secrets: WireSecrets | None = None,
    ) -> None:
        self._operations = operations
        self._records = records
        self._is_served = is_served
        self._deliver = deliver
        self._waiting_calls = waiting_calls
        self._secrets = secrets
        self._changed = threading.Condition()
        #: By message, what an answer waits for; None before that is known.
        self._waiting: dict[str, Outcome | None] = {}
        self._accepting = threading.Lock()
        self._draining = False

    def drain(self) -> None:
        """From now on leave requests to the next worker."""
        with self._accepting:
            self._draining = True

    def wait_until_told(self, timeout: float) -> bool:
        """Wait until all calls are answered that can be.

        :param timeout: seconds
        :returns: whether nobody waits any more
        """
        with self._changed:
            self._changed.wait_for(
                lambda: not any(map(_can_be_told, self._waiting.values())),
                timeout,
            )
            return not self._waiting

    def accept(self, message: dict[str, Any], call: Call | None) -> Any:
        """Take a request; None: the message is none, or is not served."""
        kind = str(message.get('method')).removesuffix('_volume')
        if kind not in _REQUESTS or not self._is_served(message):
            return None
        arguments = message.get('args')
        primitive = (
            arguments.get('request') if isinstance(arguments, dict) else None
        )
        try:
            with self._accepting:
                if self._draining:
                    return listener.LEFT
                return self._accept(kind, primitive, call)
        except exception.AttachWorkerError as error:
            return error
        except Exception:  # oslo.messaging would drop the message
            LOG.exception('A request to %s', kind)
            return exception.AttachWorkerError()

    def answered(self, call: Call) -> None:
        with self._changed:
            if call.message_id not in self._waiting:
                return
            del self._waiting[call.message_id]
            self._changed.notify_all()
        try:
            self._records.forget_call(call)
        except exception.JournalUnavailable as error:
            # It is answered once more after the next start, for nothing.
            LOG.error('%s', error)

    def unanswered(self) -> list[listener.Unanswered]:
        found = []
        for call, request_id in self._records.calls():
            outcome = self._operations.find(request_id)
            if outcome is None:  # its result was kept long enough
                self._records.forget_call(call)
                continue
            with self._changed:
                self._waiting[call.message_id] = outcome
            kind = (
                outcome.kind
                if isinstance(outcome, Operation)
                else outcome.operation
            )
            found.append(listener.Unanswered(call, f'{kind}_volume', outcome))
        return found

    def _accept(self, kind: str, primitive: Any, call: Call | None) -> Outcome:
        request = self._decode(kind, primitive, call)
        with contextlib.ExitStack() as on_refusal:
            try:
                if call is not None and self._take_place(call):
                    on_refusal.callback(self._leave_place, call)
                outcome = self._operations.submit(kind, request, call)
            except (
                exception.WorkerBusy,
                exception.AttachmentConflict,
            ) as error:
                outcome = _refused(kind, request, error)
                self._tell(request, outcome, call, final=False)
            except exception.JournalUnavailable as error:
                refused = _refused(kind, request, error)
                self._tell(request, refused, call, final=False)
                raise
            else:
                if isinstance(outcome, Operation):
                    on_refusal.pop_all()  # it is waited for
                    if call is not None:
                        self._waiting[call.message_id] = outcome
                else:
                    self._tell(request, outcome, call, final=True)
            return outcome

    def _take_place(self, call: Call) -> bool:
        """False: it has one, its message was delivered again.

        :raises WorkerBusy: there is none
        """
        with self._changed:
            if call.message_id in self._waiting:
                return False
            if len(self._waiting) >= self._waiting_calls:
                raise exception.WorkerBusy()
            self._waiting[call.message_id] = None
            return True

    def _leave_place(self, call: Call) -> None:
        with self._changed:
            self._waiting.pop(call.message_id, None)
            self._changed.notify_all()

    def _tell(
        self,
        request: Request,
        result: objects.OperationResult,
        call: Call | None,
        final: bool,
    ) -> None:
        if call is None and request.reply_to is not None:
            self._deliver(
                request.request_id, request.reply_to, result, final=final
            )

    def _decode(self, kind: str, primitive: Any, call: Call | None) -> Request:
        try:
            request: Request = serializer.from_wire(
                primitive, _REQUESTS[kind], 'request', self._secrets
            )
            request.validate()
            return request
        except (
            exception.InvalidConnectionInfo,
            exception.UnsupportedProtocol,
        ) as error:
            LOG.warning('A request to %s cannot be used: %s', kind, error)
            if call is None:
                self._refuse_cast(kind, primitive, error)
            raise

    def _refuse_cast(
        self, kind: str, primitive: Any, error: exception.AttachWorkerError
    ) -> None:
        """Tell who sent a cast that it cannot be used, if that is legible."""
        try:
            data = primitive['versioned_object.data']
            reply_to = data['reply_to']['versioned_object.data']
            result = objects.OperationResult(
                request_id=data['request_id'],
                operation=kind,
                status='failed',
                error=objects.OperationError.from_exception(error),
            )
            request_id = result.request_id
        except (
            LookupError,
            NotImplementedError,  # it was null
            TypeError,
            ValueError,
            exception.InvalidConnectionInfo,
        ):
            return  # it does not say to whom
        self._deliver(request_id, reply_to, result, final=False)


def _can_be_told(outcome: Outcome | None) -> bool:
    return not isinstance(outcome, Operation) or outcome.result is not None


def _refused(
    kind: str, request: Request, error: exception.AttachWorkerError
) -> objects.OperationResult:
    LOG.info('Request %s is refused: %s', request.request_id, error)
    return objects.OperationResult(
        request_id=request.request_id,
        attachment_id=request.attachment_id,
        operation=kind,
        status='failed',
        error=objects.OperationError.from_exception(error),
    )
