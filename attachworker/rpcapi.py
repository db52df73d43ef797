# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's RPC interface, as its callers see it.

Importing this module loads nothing that works on a host.
"""

from attachworker import threading_backend  # noqa: F401

# isort: split
from collections.abc import Iterator
import contextlib
import time
from typing import Any

import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker.bus import secrets as wire_secrets
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from attachworker.bus.secrets import WireSecrets
from attachworker.objects import sealing

#: Seconds that methods which only look may take.
TIMEOUT = 60
#: Seconds without a sign of life after which a worker counts as dead while
#: a caller waits for an operation.
CALL_MONITOR_TIMEOUT = 30
#: What a worker takes as deadline of a request that has none; seconds.
DEFAULT_DEADLINE = 300
#: Seconds that an answer may come after the deadline: the grace for rolling
#: back, and some time on the bus.
ANSWER_GRACE = 60
#: Seconds that a worker has to say whether it takes plain secrets, and after
#: which it is asked again.
_ASK_TIMEOUT = 10.0
_ASK_AGAIN = 60.0

#: What the first version of the interface does not have, and which one does.
_ADDED = {'rotate_encryption_key': '1.1'}

Context = dict[str, Any]


def answer_time(request: Any) -> float:
    """Return the seconds within which a worker has answered a request."""
    return float(request.deadline_seconds or DEFAULT_DEADLINE) + ANSWER_GRACE


class AttachWorkerAPI:
    """Calls the worker of a host.

    Every method takes a context (a dict, may be empty) and the name of the
    host, and blocks until the worker has answered. A ``cast_`` method returns
    as soon as the broker has the request, and the result comes to the
    ``reply_to`` of the request or is fetched by :meth:`get_result`.

    Raised by every method, beside what the worker raises:

    * ``HostNotFound``: nothing was sent, for no worker has ever listened
      under this name, or the broker has just lost what leads to it. The
      worker may have what was sent before;
    * ``InvalidConnectionInfo``: there is a password to send and no key to
      seal it with, and the worker wants it sealed; nothing was sent. The
      worker is asked first, so it must be there to answer;
    * ``BusUnavailable``: the broker cannot be reached; whether it has the
      request is not known, so send it again with the same request_id;
    * ``oslo_messaging.MessagingTimeout``: no answer in time; the same;
    * ``oslo_messaging.UnsupportedVersion``, ``RemoteError``;
    * ``oslo_messaging.RPCVersionCapError``: ``level`` says that workers do
      not know the method; nothing was sent.

    RPC API version history:

    * 1.0 - Initial version.
    * 1.1 - Added rotate_encryption_key.

    :param transport: from :func:`attachworker.bus.transport.get_transport`.
    :param timeout: seconds for methods that only look.
    :param call_monitor_timeout: seconds (whole, at least 2) after which a
        worker that gives no sign of life is given up.
    :param secrets: seals passwords; by default they travel in the clear, to
        workers that take them so.
    :param level: version of this interface that the workers know; by default
        this one.
    :raises ConfigurationError: there is no such version.
    """

    VERSION = bus.VERSION

    def __init__(
        self,
        transport: Any,
        timeout: float = TIMEOUT,
        call_monitor_timeout: int = CALL_MONITOR_TIMEOUT,
        secrets: WireSecrets | None = None,
        level: str | None = None,
    ) -> None:
        self._timeout = timeout
        self._call_monitor_timeout = call_monitor_timeout
        self._transport = transport
        self._secrets = secrets or WireSecrets()
        self._level = level
        self._client('')  # whether there is such a level
        #: By host, until when its worker is known to take plain secrets.
        self._plain_until: dict[str, float] = {}

    def get_connector_properties(
        self,
        ctxt: Context,
        host: str,
        multipath: bool | None = None,
        enforce_multipath: bool = False,
    ) -> dict[str, Any]:
        """Return what the storage has to know about the host.

        :param multipath: whether maps are wanted; None: what the host can.
        """
        return dict(
            self._call(
                ctxt,
                host,
                'get_connector_properties',
                multipath=multipath,
                enforce_multipath=enforce_multipath,
            )
        )

    def attach_volume(
        self,
        ctxt: Context,
        host: str,
        request: objects.AttachRequest,
        timeout: float | None = None,
    ) -> objects.OperationResult:
        """Attach a volume.

        :param timeout: seconds to wait for the answer; by default as long
            as the worker may take by the deadline of the request.
        """
        return self._operate(ctxt, host, 'attach_volume', request, timeout)

    def detach_volume(
        self,
        ctxt: Context,
        host: str,
        request: objects.DetachRequest,
        timeout: float | None = None,
    ) -> objects.OperationResult:
        """Detach a volume; ``timeout`` as in :meth:`attach_volume`."""
        return self._operate(ctxt, host, 'detach_volume', request, timeout)

    def extend_volume(
        self,
        ctxt: Context,
        host: str,
        request: objects.ExtendRequest,
        timeout: float | None = None,
    ) -> objects.OperationResult:
        """Take over a volume's new size; ``timeout`` as in attach_volume."""
        return self._operate(ctxt, host, 'extend_volume', request, timeout)

    def rotate_encryption_key(
        self,
        ctxt: Context,
        host: str,
        request: objects.RotateKeyRequest,
        timeout: float | None = None,
    ) -> objects.OperationResult:
        """Change the key of a volume; ``timeout`` as in attach_volume."""
        return self._operate(
            ctxt, host, 'rotate_encryption_key', request, timeout
        )

    def cast_attach_volume(
        self, ctxt: Context, host: str, request: objects.AttachRequest
    ) -> None:
        """Have a volume attached."""
        self._cast(ctxt, host, 'attach_volume', request)

    def cast_detach_volume(
        self, ctxt: Context, host: str, request: objects.DetachRequest
    ) -> None:
        """Have a volume detached."""
        self._cast(ctxt, host, 'detach_volume', request)

    def cast_extend_volume(
        self, ctxt: Context, host: str, request: objects.ExtendRequest
    ) -> None:
        """Have a volume's new size taken over."""
        self._cast(ctxt, host, 'extend_volume', request)

    def cast_rotate_encryption_key(
        self, ctxt: Context, host: str, request: objects.RotateKeyRequest
    ) -> None:
        """Have the key of a volume changed."""
        self._cast(ctxt, host, 'rotate_encryption_key', request)

    def get_attachment(
        self, ctxt: Context, host: str, attachment_id: str
    ) -> objects.Attachment:
        """Return one attachment.

        :raises AttachmentNotFound: the host does not know it.
        """
        attachment: objects.Attachment = self._call(
            ctxt, host, 'get_attachment', attachment_id=attachment_id
        )
        return attachment

    def list_attachments(
        self, ctxt: Context, host: str
    ) -> list[objects.Attachment]:
        """Return all attachments of the host."""
        return list(self._call(ctxt, host, 'list_attachments'))

    def get_result(
        self, ctxt: Context, host: str, request_id: str
    ) -> objects.OperationResult | None:
        """Return the result of a request; None while it is under way.

        :raises RequestNotFound: the host does not know the request, or its
            result is older than the worker keeps them.
        """
        result: objects.OperationResult | None = self._call(
            ctxt, host, 'get_result', request_id=request_id
        )
        return result

    def get_volume_paths(
        self, ctxt: Context, host: str, connection_info: objects.ConnectionInfo
    ) -> list[str]:
        """Return the paths of the devices of a volume on the host."""
        return list(
            self._call(
                ctxt, host, 'get_volume_paths', connection_info=connection_info
            )
        )

    def cancel(self, ctxt: Context, host: str, request_id: str) -> bool:
        """Stop an attach at its next step and have it rolled back.

        :param request_id: of the attach; a worker of this release or a later
            one takes its attachment_id, too.
        :returns: True if its result will be the error ``cancelled``; False
            if it is decided already, no attach, or not known.
        """
        return bool(self._call(ctxt, host, 'cancel', request_id=request_id))

    def audit(self, ctxt: Context, host: str) -> objects.AuditReport:
        """Compare what is recorded with what is there; changes nothing."""
        report: objects.AuditReport = self._call(
            ctxt, host, 'audit', monitored=True
        )
        return report

    def ping(self, ctxt: Context, host: str) -> dict[str, Any]:
        """Return ``{version, host, ready, sealing}`` of the worker."""
        return dict(self._call(ctxt, host, 'ping'))

    def _operate(
        self,
        ctxt: Context,
        host: str,
        method: str,
        request: Any,
        timeout: float | None,
    ) -> objects.OperationResult:
        result: objects.OperationResult = self._call(
            ctxt,
            host,
            method,
            timeout=answer_time(request) if timeout is None else timeout,
            monitored=True,
            request=request,
        )
        return result

    def _call(
        self,
        ctxt: Context,
        host: str,
        method: str,
        *,
        timeout: float | None = None,
        monitored: bool = False,
        **arguments: Any,
    ) -> Any:
        monitor_timeout = self._call_monitor_timeout if monitored else None
        until = time.monotonic()
        until += self._timeout if timeout is None else timeout
        self._check_plain(ctxt, host, arguments, until)
        with _clear_errors(self._transport, host):
            return (
                self._client(host)
                .prepare(
                    server=host,
                    version=_version_of(method),
                    timeout=max(1.0, until - time.monotonic()),
                    call_monitor_timeout=monitor_timeout,
                )
                .call(ctxt, method, **arguments)
            )

    def _cast(
        self, ctxt: Context, host: str, method: str, request: Any
    ) -> None:
        until = time.monotonic() + self._timeout
        self._check_plain(ctxt, host, {'request': request}, until)
        with _clear_errors(self._transport, host):
            self._client(host).prepare(
                server=host, version=_version_of(method)
            ).cast(ctxt, method, request=request)

    def _client(self, host: str) -> Any:
        """What sends to the worker of a host, which alone opens secrets."""
        return messaging.get_rpc_client(
            self._transport,
            bus.get_target(),
            version_cap=self._level or self.VERSION,
            serializer=serializer.ObjectSerializer(
                self._secrets, self._level, host
            ),
            retry=bus.PUBLISH_RETRIES,
            transport_options=bus.TRANSPORT_OPTIONS,
        )

    def _check_plain(
        self,
        ctxt: Context,
        host: str,
        arguments: dict[str, Any],
        until: float,
    ) -> None:
        """See that no secret goes in the clear to who wants it sealed.

        Once it is sent, it is on the disk of the broker, whatever the worker
        says to it.

        :param until: of time.monotonic()
        :raises InvalidConnectionInfo: it would
        """
        now = time.monotonic()
        if self._secrets.available or now < self._plain_until.get(host, 0.0):
            return
        plain = [
            name
            for value in arguments.values()
            if isinstance(value, objects.AttachWorkerObject)
            and (name := sealing.first_secret(value.obj_to_primitive()))
        ]
        if not plain:
            return
        seconds = min(_ASK_TIMEOUT, self._call_monitor_timeout, until - now)
        answer = self._call(ctxt, host, 'ping', timeout=seconds)
        # The release before this one does not say it in answer to a ping.
        wanted = answer.get('sealing', {})
        if wanted.get('required'):
            raise wire_secrets.must_be_sealed(plain[0], wanted['key_ids'])
        self._plain_until[host] = now + _ASK_AGAIN


def _version_of(method: str) -> str:
    """Of the interface, the first one that has a method."""
    return _ADDED.get(method, bus.FIRST_VERSION)


@contextlib.contextmanager
def _clear_errors(transport: Any, host: str) -> Iterator[None]:
    """Name what is wrong in the words of this project."""
    try:
        yield
    except messaging.MessageUndeliverable:
        # No "from": the exception carries the whole message.
        raise exception.HostNotFound(host=host) from None
    except bus.UNREACHABLE as error:
        raise bus.unavailable(transport, error) from error
