# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's side of the bus: takes messages, answers them.

oslo.messaging acknowledges a message of RPC before it looks at it, so what is
killed in between is gone. Here a request is decoded, validated and in the
journal, and its operation is queued, before its message is acknowledged:
killed before, the broker delivers it again, and the journal knows it by its
request_id. A call that waits is in the journal too, and is answered by
whichever worker has the result. Its method comes once its operation has ended
and says what has become of it.

What of this relies on the inside of oslo.messaging is in
:mod:`attachworker.bus.transport`.
"""

from collections.abc import Callable
from collections.abc import Mapping
import concurrent.futures
import contextlib
import functools
import inspect
import re
import threading
from typing import Any

from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_messaging.rpc import dispatcher as rpc_dispatcher

from attachworker import context
from attachworker import exception
from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus import signs
from attachworker.bus import transport as bus
from attachworker.bus.admission import Refused
from attachworker.bus.secrets import WireSecrets
from attachworker.journal import Call
from attachworker.journal import Records
from attachworker.objects import rules
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from attachworker.worker.operation import failure

LOG = logging.getLogger(__name__)

#: What becomes of a message that is left to the next worker: it is not
#: acknowledged, so it is in the queue again once the connection is closed.
LEFT = object()

#: Where the context of a method has what became of its message.
_OUTCOME = 'attachworker.outcome'

#: How often a request may be called for once all calls wait that may.
_MOST_CALLS = 8

#: An operation that was taken, a result that there is already or a refusal,
#: or the error that a call is to raise.
Outcome = Operation | objects.OperationResult | exception.AttachWorkerError

_METHOD = re.compile('[a-z_]{1,64}', re.ASCII)
_VERSION = re.compile(r'[0-9]{1,4}\.[0-9]{1,4}', re.ASCII)
#: What the driver of a caller writes beside the message itself.
_NAMES = ('_msg_id', '_reply_q', '_unique_id')
#: Messages that are taken and wait for a thread that answers them.
_MOST_BACKLOG = 1000
#: Seconds; nobody waits for longer.
_LONGEST_TIMEOUT = 86400


#: By method that takes a request, the kind of operation that it asks for.
_KINDS = {method: kind for kind, method in objects.METHODS.items()}


def _optional_flag(value: object) -> bool | None:
    return None if value is None else rules.flag(value)


#: Rules for the arguments of methods that are no objects.
_ARGUMENTS: dict[str, Callable[[object], Any]] = {
    'attachment_id': rules.identifier,
    'request_id': rules.identifier,
    'multipath': _optional_flag,
    'enforce_multipath': rules.flag,
}


class RequestAcceptance:
    """What happens to a request before its message is acknowledged.

    It is taken, or refused. Who sent a cast is told of a refusal from here,
    who called by the endpoint.

    :param is_served: whether the endpoint serves a message
    :param deliver: see :meth:`attachworker.bus.replies.ReplySender.deliver`
    :param waiting_calls: how many calls may wait for their operation; more
        are told that the worker is busy, so that there is always a thread to
        answer with. Who calls again for what is accepted is not
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
        """Take a request; it must not raise.

        :returns: what became of it, for the endpoint; LEFT; or None if the
            message is none, or is not served
        """
        kind = _KINDS.get(str(message.get('method')))
        if kind is None or not self._is_served(message):
            return None
        arguments = message.get('args')
        primitive = (
            arguments.get('request') if isinstance(arguments, dict) else None
        )
        try:
            with self._accepting:
                if self._draining:
                    return LEFT
                return self._accept(kind, primitive, call)
        except exception.AttachWorkerError as error:
            return error
        except Exception:  # oslo.messaging would drop the message
            LOG.exception('A request to %s', kind)
            return exception.AttachWorkerError()

    def answered(self, call: Call) -> None:
        """Nobody waits for this call any more."""
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

    def unanswered(self) -> list[tuple[Call, str, Outcome]]:
        """Calls that an earlier worker has taken and not answered.

        Each with the method that was called, and what this is to make of it
        now.
        """
        found: list[tuple[Call, str, Outcome]] = []
        for call, request_id in self._records.calls():
            outcome: Outcome | None
            try:
                outcome = self._operations.find(request_id)
            except exception.RecordUnreadable as error:
                outcome = error
            if outcome is None:  # its result was kept long enough
                self._records.forget_call(call)
                continue
            with self._changed:
                self._waiting[call.message_id] = outcome
            # Each method that takes a request gives what there is.
            found.append((call, 'attach_volume', outcome))
        return found

    def _accept(self, kind: str, primitive: Any, call: Call | None) -> Outcome:
        request = self._decode(kind, primitive, call)
        with contextlib.ExitStack() as on_refusal:
            try:
                if call is not None and self._take_place(
                    call, request.request_id
                ):
                    on_refusal.callback(self._leave_place, call)
                outcome = self._operations.submit(kind, request, call)
            except (
                exception.WorkerBusy,
                exception.AttachmentConflict,
                exception.JournalUnavailable,
            ) as error:
                LOG.warning(
                    'Request %s is refused: %s', request.request_id, error
                )
                outcome = failure(kind, request, error)
                self._tell(request, outcome, call, final=False)
                if isinstance(error, exception.JournalUnavailable):
                    raise
            else:
                on_refusal.pop_all()  # its answer is waited for
                if call is not None:
                    self._waiting[call.message_id] = outcome
                elif not isinstance(outcome, Operation):
                    self._tell(request, outcome, call, final=True)
            return outcome

    def _take_place(self, call: Call, request_id: str) -> bool:
        """False: it has one, its message was delivered again.

        :raises WorkerBusy: there is none, and the request was not accepted
            yet, or too many wait for it
        """
        with self._changed:
            if call.message_id in self._waiting:
                return False
            if len(self._waiting) >= self._waiting_calls:
                outcome = self._operations.find(request_id)
                same = [
                    one for one in self._waiting.values() if one is outcome
                ]
                if outcome is None or len(same) >= _MOST_CALLS:
                    raise exception.WorkerBusy()
            self._waiting[call.message_id] = None
            return True

    def _leave_place(self, call: Call) -> None:
        with self._changed:
            self._waiting.pop(call.message_id, None)
            self._changed.notify_all()

    def _tell(
        self,
        request: objects.AnyRequest,
        result: objects.OperationResult,
        call: Call | None,
        final: bool,
    ) -> None:
        if call is None and request.reply_to is not None:
            self._deliver(
                request.request_id, request.reply_to, result, final=final
            )

    def _decode(
        self, kind: str, primitive: Any, call: Call | None
    ) -> objects.AnyRequest:
        try:
            request = serializer.from_wire(
                primitive, objects.REQUESTS[kind], 'request', self._secrets
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
            reply_to = serializer.from_wire(
                data['reply_to'], objects.ReplyTo, 'reply_to'
            )
            reply_to.validate()
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


class _Incoming(bus.IncomingMessage):
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
        # For the endpoint; whatever the sender may have called so is gone.
        self.ctxt[_OUTCOME] = self.message.outcome

    @property
    def is_answered_at_once(self) -> bool:
        """Whether it has just come, and waits for no operation."""
        return not isinstance(self.message, Message) and not isinstance(
            self.message.outcome, Operation
        )

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        try:
            if self.call is None:
                return
            self._sign.end()
            failure = failure and _for_callers(failure[1])
            if self.is_answered_at_once:
                self.reply_soon(reply, failure)
            else:
                # The broker may have lost the queue meanwhile, and who waits
                # makes it again.
                super().reply(reply, failure)
            self.listener.acceptance.answered(self.call)
        finally:
            if self.is_answered_at_once:
                self.listener.backlog.release()


def _for_callers(
    error: BaseException,
) -> tuple[type[BaseException], BaseException, None]:
    """An error with its own text only: where it was raised is for the log."""
    if not isinstance(
        error, exception.AttachWorkerError | rpc_dispatcher.RPCDispatcherError
    ):
        error = exception.AttachWorkerError()
    bare = type(error).__new__(type(error), *error.args)
    vars(bare).update(vars(error))
    return type(bare), bare, None


class JournalingListener(bus.Listener):
    """Takes messages from a connection and queues them for the server."""

    message_cls = _Incoming

    def __init__(
        self, driver: Any, conn: Any, acceptance: RequestAcceptance
    ) -> None:
        super().__init__(driver, conn)
        self.acceptance = acceptance
        self.signs = signs.SignsOfLife()
        self.signs.start()
        #: Of messages that are answered at once.
        self.backlog = threading.BoundedSemaphore(_MOST_BACKLOG)
        for call, method, outcome in acceptance.unanswered():
            self.append(
                Message(method, outcome),
                call.message_id,
                call.reply_queue,
                call.client_timeout,
            )

    def __call__(self, message: Any) -> None:
        # Attributes, not items: the items are what was sent.
        message.context = context.of_message(message)
        call = _call(message)
        with context.use(message.context):
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


def _call(message: Any) -> Call | None:
    """Who waits for an answer to a message, if somebody does.

    What the sender has written beside that is taken away, or made harmless.

    :raises Refused: it does not say whom to answer
    """
    for key in [key for key in message if key.startswith('_context_')]:
        del message[key]
    try:
        for name in _NAMES:
            if message.get(name) is not None:
                rules.identifier(message[name])
    except rules.RuleBroken as broken:
        raise Refused('content', f'its {name} {broken}') from None
    timeout = message.get('_timeout')
    if not isinstance(timeout, int) or not 0 < timeout <= _LONGEST_TIMEOUT:
        timeout = message['_timeout'] = None
    number, queue = message.get('_msg_id'), message.get('_reply_q')
    if (number is None) != (queue is None):
        raise Refused('content', 'it does not say whom to answer')
    return None if number is None else Call(number, queue, timeout)


class Message(dict[str, Any]):
    """The content of a message, with room for what became of it."""

    def __init__(self, method: str, outcome: Any = None, **args: Any) -> None:
        super().__init__(method=method, args=args, version=bus.FIRST_VERSION)
        self.outcome = outcome
        self.context = context.NOBODYS


class _Threads(concurrent.futures.ThreadPoolExecutor):
    """Threads that serve calls, of which there is one from the start.

    Should no other be to be had, a call waits for this one, and not for the
    next call to try again. (Not futurist's pool, whose idle threads wake up
    every second.)
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers)
        self.submit(int).result()


class Server(bus.Server):
    """oslo.messaging's server, with our listener."""

    def __init__(
        self, transport: Any, target: Any, dispatcher: Any, acceptance: Any
    ) -> None:
        super().__init__(
            transport,
            target,
            dispatcher,
            lambda driver, connection: JournalingListener(
                driver, connection, acceptance
            ),
            _Threads,
        )

    def take(self, message: _Incoming) -> None:
        outcome = message.message.outcome
        if message.call is None and isinstance(outcome, Outcome):
            return  # who has sent a cast is told from elsewhere
        if isinstance(outcome, Operation):
            # There is an answer once there is a result, and nobody to wait
            # for it until then.
            outcome.when_finished(lambda: self._answer(message))
            return
        if message.is_answered_at_once:
            # What there is no room for stays with the broker.
            message.listener.backlog.acquire()
        super().take(message)

    def _answer(self, message: _Incoming) -> None:
        try:
            super().take(message)
        except RuntimeError as error:
            # It was stopped: the next worker answers.
            LOG.warning('A call is not answered now: %s', error)


def _exposed(method: Any) -> Any:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def answer(self: 'Endpoint', /, *args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError:
            raise rules.invalid(
                'args',
                f'must be those of {method.__name__}'
                f'({", ".join(list(signature.parameters)[2:])})',
            ) from None
        for name, rule in _ARGUMENTS.items():
            if name in kwargs:
                kwargs[name] = rules.check(name, rule, kwargs[name])
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise exception.HostToolFailed.from_os_error(
                error, f'Method {method.__name__}'
            ) from error

    return messaging.expose(
        messaging.expected_exceptions(exception.AttachWorkerError)(answer)
    )


class Endpoint:
    """Version history is that of :class:`attachworker.rpcapi`."""

    target = messaging.Target(version=bus.VERSION)

    def __init__(
        self,
        records: Records,
        properties: Callable[[bool | None, bool], dict[str, Any]],
        volume_paths: Callable[[objects.ConnectionInfo], list[str]],
        ping: Callable[[], dict[str, Any]],
        cancel: Callable[[str], bool],
        audit: Callable[[], objects.AuditReport],
        secrets: WireSecrets | None = None,
    ) -> None:
        self._records = records
        self._properties = properties
        self._volume_paths = volume_paths
        self._ping = ping
        self._cancel = cancel
        self._audit = audit
        self._secrets = secrets

    @_exposed
    def attach_volume(self, ctxt: Any, request: Any = None) -> Any:
        return _answer(ctxt[_OUTCOME])

    @_exposed
    def detach_volume(self, ctxt: Any, request: Any = None) -> Any:
        return _answer(ctxt[_OUTCOME])

    @_exposed
    def extend_volume(self, ctxt: Any, request: Any = None) -> Any:
        return _answer(ctxt[_OUTCOME])

    @_exposed
    def rotate_encryption_key(self, ctxt: Any, request: Any = None) -> Any:
        return _answer(ctxt[_OUTCOME])

    @_exposed
    def get_volume_paths(self, ctxt: Any, connection_info: Any) -> Any:
        info = serializer.from_wire(
            connection_info,
            objects.ConnectionInfo,
            'connection_info',
            self._secrets,
        )
        info.validate()
        return self._volume_paths(info)

    @_exposed
    def get_connector_properties(
        self,
        ctxt: Any,
        multipath: bool | None = None,
        enforce_multipath: bool = False,
    ) -> Any:
        return self._properties(multipath, enforce_multipath)

    @_exposed
    def get_attachment(self, ctxt: Any, attachment_id: str) -> Any:
        return self._records.shown_one(attachment_id)

    @_exposed
    def list_attachments(self, ctxt: Any) -> Any:
        return self._records.shown()

    @_exposed
    def get_result(self, ctxt: Any, request_id: str) -> Any:
        return self._records.result(request_id)

    @_exposed
    def cancel(self, ctxt: Any, request_id: str) -> Any:
        return self._cancel(request_id)

    @_exposed
    def audit(self, ctxt: Any) -> Any:
        return self._audit()

    @_exposed
    def ping(self, ctxt: Any) -> Any:
        return self._ping()


def _answer(outcome: Outcome) -> objects.OperationResult:
    """What a call gets of what the listener has done with its message."""
    if isinstance(outcome, exception.AttachWorkerError):
        raise outcome
    return outcome.wait() if isinstance(outcome, Operation) else outcome


class RPCDispatcher(bus.Dispatcher):
    """oslo.messaging's dispatcher, which can be asked in advance."""

    def is_served(self, message: dict[str, Any]) -> bool:
        """Whether there is such a method, in such a version."""
        try:
            _check(message)
        except exception.InvalidConnectionInfo:
            return False
        method, version = message['method'], message.get('version', '1.0')
        return any(
            self.is_compatible(endpoint.target, version)
            and hasattr(endpoint, method)
            and self.access_policy.is_allowed(endpoint, method)
            for endpoint in self.endpoints
        )

    def dispatch(self, incoming: Any) -> Any:
        """Call the method; that there is none is no fault of ours."""
        try:
            _check(incoming.message)
            with context.use(incoming.message.context):
                return super().dispatch(incoming)
        except (
            exception.InvalidConnectionInfo,
            rpc_dispatcher.RPCDispatcherError,
        ) as error:
            LOG.warning('A message is not served: %s', error)
            raise rpc_dispatcher.ExpectedException from None


def _check(message: Mapping[str, Any]) -> None:
    """See that a message names what oslo.messaging can look for.

    :raises InvalidConnectionInfo: it does not
    """
    method, version = message.get('method'), message.get('version', '1.0')
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise rules.invalid('method', 'must be a name')
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise rules.invalid('version', 'must be two numbers, as in 1.0')
    if message.get('namespace') is not None:
        raise rules.invalid('namespace', 'must not be set')
    if not isinstance(message.get('args', {}), dict):
        raise rules.invalid('args', 'must be an object with keys')
