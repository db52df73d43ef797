# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The worker's RPC methods; this module belongs to the worker.

Only what carries ``expose`` can be called. Requests were taken by the listener
before they come here, and a call comes once its operation has ended: their
methods say what has become of it.
"""

from collections.abc import Callable
import functools
import threading
from typing import Any

import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker.rpc import serializer
from attachworker.rpc import transport
from attachworker.rpc.secrets import WireSecrets
from attachworker.worker.inventory import Inventory
from attachworker.worker.operation import Operation

#: What callers can bring about: answered as an RPC error, not as a bug.
_EXPECTED = (
    exception.AttachmentNotFound,
    exception.HostToolFailed,
    exception.InvalidConnectionInfo,
    exception.JournalUnavailable,
    exception.RequestNotFound,
    exception.UnsupportedProtocol,
)


def _exposed(method: Any) -> Any:
    @functools.wraps(method)
    def answer(self: 'Endpoint', *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise exception.HostToolFailed.from_os_error(
                error, f'Method {method.__name__}'
            ) from error

    return messaging.expose(messaging.expected_exceptions(*_EXPECTED)(answer))


class Endpoint:
    """Version history is that of :class:`attachworker.rpcapi`."""

    target = messaging.Target(version=transport.VERSION)

    def __init__(
        self,
        inventory: Inventory,
        properties: Callable[[bool | None, bool], dict[str, Any]],
        volume_paths: Callable[[objects.ConnectionInfo], list[str]],
        ping: Callable[[], dict[str, Any]],
        cancel: Callable[[str], bool],
        audit: Callable[[], objects.AuditReport],
        secrets: WireSecrets | None = None,
    ) -> None:
        self._inventory = inventory
        self._properties = properties
        self._volume_paths = volume_paths
        self._ping = ping
        self._cancel = cancel
        self._audit = audit
        self._secrets = secrets

    @_exposed
    def attach_volume(self, ctxt: Any, request: Any = None) -> Any:
        return self._outcome()

    @_exposed
    def detach_volume(self, ctxt: Any, request: Any = None) -> Any:
        return self._outcome()

    @_exposed
    def extend_volume(self, ctxt: Any, request: Any = None) -> Any:
        return self._outcome()

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
        return self._inventory.attachment(attachment_id)

    @_exposed
    def list_attachments(self, ctxt: Any) -> Any:
        return self._inventory.attachments()

    @_exposed
    def get_result(self, ctxt: Any, request_id: str) -> Any:
        return self._inventory.result(request_id)

    @_exposed
    def cancel(self, ctxt: Any, request_id: str) -> Any:
        return self._cancel(request_id)

    @_exposed
    def audit(self, ctxt: Any) -> Any:
        return self._audit()

    @_exposed
    def ping(self, ctxt: Any) -> Any:
        return self._ping()

    @staticmethod
    def _outcome() -> Any:
        """What the listener has done with the running message."""
        outcome = _message.outcome
        if isinstance(outcome, exception.AttachWorkerError):
            raise outcome
        if not is_call():
            return None
        return outcome.wait() if isinstance(outcome, Operation) else outcome


_message = threading.local()


def is_call() -> bool:
    """Whether somebody waits for what the running method returns."""
    return bool(getattr(_message, 'is_call', True))


class CallAwareDispatcher(messaging.RPCDispatcher):
    """Tells endpoint methods what is known of their message besides.

    That is whether it was called or cast, and what the listener has done.
    """

    def dispatch(self, incoming: Any) -> Any:
        # Not msg_id: oslo.messaging makes one up for a cast.
        _message.is_call = getattr(incoming, 'orig_msg_id', None) is not None
        _message.outcome = getattr(incoming.message, 'outcome', None)
        return super().dispatch(incoming)

    def is_served(self, message: dict[str, Any]) -> bool:
        """Whether there is such a method, in such a version."""
        method = message.get('method')
        version = message.get('version', '1.0')
        return any(
            self._is_compatible(endpoint.target, version)
            and isinstance(method, str)
            and hasattr(endpoint, method)
            and self.access_policy.is_allowed(endpoint, method)
            for endpoint in self.endpoints
        )
