# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""The worker's RPC methods; this module belongs to the worker.

Only what carries ``expose`` can be called. Each method looks up or submits,
and waits or returns.
"""

from collections.abc import Callable
import threading
from typing import Any

from oslo_log import log as logging
import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker.operations.intake import Operations
from attachworker.operations.inventory import Inventory
from attachworker.operations.operation import Operation
from attachworker.operations.operation import Request
from attachworker.rpc import serializer
from attachworker.rpc import transport

LOG = logging.getLogger(__name__)

#: What callers can bring about: answered as an RPC error, not as a bug.
_EXPECTED = (
    exception.AttachmentNotFound,
    exception.InvalidConnectionInfo,
    exception.JournalUnavailable,
    exception.RequestNotFound,
    exception.UnsupportedProtocol,
)


def _exposed(method: Any) -> Any:
    return messaging.expose(messaging.expected_exceptions(*_EXPECTED)(method))


class Endpoint:
    """Version history is that of :class:`attachworker.rpcapi`.

    :param waiting_calls: how many calls may wait for their operation; more
        are told that the worker is busy, so that other methods always find
        a thread
    :param deliver: see :meth:`attachworker.rpc.replies.ReplySender.deliver`
    """

    target = messaging.Target(version=transport.VERSION)

    def __init__(
        self,
        operations: Operations,
        inventory: Inventory,
        properties: Callable[[bool | None, bool], dict[str, Any]],
        volume_paths: Callable[[objects.ConnectionInfo], list[str]],
        ping: Callable[[], dict[str, Any]],
        deliver: Callable[..., None],
        waiting_calls: int,
    ) -> None:
        self._operations = operations
        self._inventory = inventory
        self._properties = properties
        self._volume_paths = volume_paths
        self._ping = ping
        self._deliver = deliver
        self._places = threading.BoundedSemaphore(waiting_calls)

    @_exposed
    def attach_volume(self, ctxt: Any, request: Any) -> Any:
        return self._operate('attach', objects.AttachRequest, request)

    @_exposed
    def detach_volume(self, ctxt: Any, request: Any) -> Any:
        return self._operate('detach', objects.DetachRequest, request)

    @_exposed
    def extend_volume(self, ctxt: Any, request: Any) -> Any:
        return self._operate('extend', objects.ExtendRequest, request)

    @_exposed
    def get_volume_paths(self, ctxt: Any, connection_info: Any) -> Any:
        info = serializer.from_wire(
            connection_info, objects.ConnectionInfo, 'connection_info'
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
        return self._inventory.attachment(attachment_id)

    @_exposed
    def list_attachments(self, ctxt: Any) -> Any:
        return self._inventory.attachments()

    @_exposed
    def get_result(self, ctxt: Any, request_id: str) -> Any:
        return self._inventory.result(request_id)

    @_exposed
    def ping(self, ctxt: Any) -> Any:
        return self._ping()

    def _operate(self, kind: str, expected: type[Any], primitive: Any) -> Any:
        request = self._decode(kind, expected, primitive)
        if is_call() and not self._places.acquire(blocking=False):
            return _refused(kind, request, exception.WorkerBusy())
        try:
            accepted = self._operations.submit(kind, request)
            if not is_call():
                # The operation itself tells its end to who sent a cast.
                if not isinstance(accepted, Operation):
                    self._tell(request, accepted, final=True)
                return None
            if not isinstance(accepted, Operation):
                return accepted
            return accepted.wait()
        except exception.JournalUnavailable as error:
            if not is_call():
                result = _refused(kind, request, error)
                self._tell(request, result, final=False)
            raise
        except (exception.WorkerBusy, exception.AttachmentConflict) as error:
            result = _refused(kind, request, error)
            if not is_call():
                self._tell(request, result, final=False)
            return result
        finally:
            if is_call():
                self._places.release()

    def _tell(
        self, request: Request, result: objects.OperationResult, final: bool
    ) -> None:
        if request.reply_to is not None:
            self._deliver(
                request.request_id, request.reply_to, result, final=final
            )

    def _decode(
        self, kind: str, expected: type[Any], primitive: Any
    ) -> Request:
        try:
            request: Request = serializer.from_wire(
                primitive, expected, 'request'
            )
            request.validate()
            return request
        except (
            exception.InvalidConnectionInfo,
            exception.UnsupportedProtocol,
        ) as error:
            self._refuse_cast(kind, primitive, error)
            raise

    def _refuse_cast(
        self, kind: str, primitive: Any, error: exception.AttachWorkerError
    ) -> None:
        """Tell who sent a cast that it cannot be used, if that is legible."""
        LOG.warning('A request to %s cannot be used: %s', kind, error)
        if is_call():
            return
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


_message = threading.local()


def is_call() -> bool:
    """Whether somebody waits for what the running method returns."""
    return bool(getattr(_message, 'is_call', True))


class CallAwareDispatcher(messaging.RPCDispatcher):
    """Lets endpoint methods know whether they were called or cast."""

    def dispatch(self, incoming: Any) -> Any:
        # Not msg_id: oslo.messaging makes one up for a cast.
        _message.is_call = getattr(incoming, 'orig_msg_id', None) is not None
        if not self._is_served(incoming.message):
            # oslo.messaging 18.3 would send signs of life for ever after it
            # has answered that there is no such method or version.
            incoming.client_timeout = None
        return super().dispatch(incoming)

    def _is_served(self, message: dict[str, Any]) -> bool:
        method = message.get('method')
        version = message.get('version', '1.0')
        return any(
            self._is_compatible(endpoint.target, version)
            and isinstance(method, str)
            and hasattr(endpoint, method)
            and self.access_policy.is_allowed(endpoint, method)
            for endpoint in self.endpoints
        )
