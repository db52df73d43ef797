# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker for people in a hurry: plain values in, a result out."""

from attachworker import threading_backend  # noqa: F401

# isort: split
from collections.abc import Callable
from collections.abc import Mapping
import threading
import time
from typing import Any
from typing import Self
import uuid

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import transport as bus
from attachworker.bus.secrets import WireSecrets

OperationFailed = exception.OperationFailed

_PAUSE_FIRST = 1.0
_PAUSE_MAX = 10.0


class AttachWorkerClient:
    """Attaches volumes to one host, in three lines::

        with AttachWorkerClient('rabbit://user:pw@broker/', 'node1') as node:
            result = node.attach_volume(connection_info)
            print(result.device.path)

    A request that gets no answer is sent again with the same request_id,
    until its deadline has passed and the worker has had its time to answer.
    The worker recognises it: nothing is done twice.

    :param transport_url: as of oslo.messaging; rabbit://...
    :param host: name of the host, as its worker is configured.
    :param conf: with more settings of oslo.messaging (TLS); by default
        nothing is read.
    :param timeout: seconds for methods that only look.
    :param key_file: with the keys that seal passwords on the bus, as the
        worker has them; by default passwords travel in the clear.
    :param level: as of AttachWorkerAPI.
    :raises ConfigurationError: the URL or the file makes no sense.
    """

    def __init__(
        self,
        transport_url: str | None,
        host: str,
        conf: cfg.ConfigOpts | None = None,
        timeout: float = rpcapi.TIMEOUT,
        key_file: str | None = None,
        level: str | None = None,
    ) -> None:
        secrets = WireSecrets.read(key_file)
        if conf is None:
            conf = cfg.ConfigOpts()
            conf(
                [],
                project='attachworker',
                default_config_files=[],
                default_config_dirs=[],
            )
        self.host = host
        #: For whoever wants to listen on the same connections.
        self.transport = bus.get_transport(conf, transport_url)
        self._closed = threading.Event()
        #: The full interface, over the same connections.
        self.api = rpcapi.AttachWorkerAPI(
            self.transport, timeout=timeout, secrets=secrets, level=level
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a request that waits is given up."""
        if not self._closed.is_set():
            self._closed.set()
            self.transport.cleanup()

    def attach_volume(
        self,
        connection_info: Mapping[str, Any] | objects.ConnectionInfo,
        *,
        attachment_id: str | None = None,
        **options: Any,
    ) -> objects.OperationResult:
        """Attach a volume and return the result.

        :param connection_info: as Cinder sends it; it is not changed.
        :param attachment_id: by default a new one; it is in the result.
        :param request_id: by default a new one.
        :param raise_on_failure: raise OperationFailed instead of returning
            a result that is a failure.
        :param timeout: seconds to go on trying; by default the deadline of
            the request and the worker's grace.
        :param options: these, and other fields of AttachRequest.
        :raises InvalidConnectionInfo: before anything is sent.
        """
        return self._operate(
            'attach',
            attachment_id=attachment_id or _new_id(),
            connection_info=connection_info,
            **options,
        )

    def detach_volume(
        self,
        attachment_id: str | None = None,
        *,
        connection_info: Mapping[str, Any]
        | objects.ConnectionInfo
        | None = None,
        **options: Any,
    ) -> objects.OperationResult:
        """Detach a volume: an attachment, or what somebody else attached.

        Options as of :meth:`attach_volume`, and fields of DetachRequest.
        """
        return self._operate(
            'detach',
            attachment_id=attachment_id,
            connection_info=connection_info,
            **options,
        )

    def extend_volume(
        self, attachment_id: str, **options: Any
    ) -> objects.OperationResult:
        """Take over the new size of a volume; bytes are in the result.

        Options as of :meth:`attach_volume`, and fields of ExtendRequest.
        """
        return self._operate(
            'extend',
            attachment_id=attachment_id,
            **options,
        )

    def rotate_encryption_key(
        self, attachment_id: str, old_key: str, new_key: str, **options: Any
    ) -> objects.OperationResult:
        """Give an encrypted volume that is attached another key.

        Options as of :meth:`attach_volume`, and fields of RotateKeyRequest.
        """
        return self._operate(
            'rotate',
            attachment_id=attachment_id,
            old_key=old_key,
            new_key=new_key,
            **options,
        )

    def _operate(
        self,
        kind: str,
        *,
        request_id: str | None = None,
        raise_on_failure: bool = False,
        timeout: float | None = None,
        **fields: Any,
    ) -> objects.OperationResult:
        request = objects.REQUESTS[kind](
            request_id=request_id or _new_id(), **fields
        )
        method = getattr(self.api, objects.METHODS[kind])
        return self.send(method, request, timeout, raise_on_failure)

    def get_connector_properties(self, **options: Any) -> dict[str, Any]:
        """Return what the storage has to know about the host."""
        return self.api.get_connector_properties({}, self.host, **options)

    def list_attachments(self) -> list[objects.Attachment]:
        """Return all attachments of the host."""
        return self.api.list_attachments({}, self.host)

    def get_attachment(self, attachment_id: str) -> objects.Attachment:
        """Return one attachment, or raise AttachmentNotFound."""
        return self.api.get_attachment({}, self.host, attachment_id)

    def get_result(self, request_id: str) -> objects.OperationResult | None:
        """Return a result, None under way, or raise RequestNotFound."""
        return self.api.get_result({}, self.host, request_id)

    def cancel(self, request_id: str) -> bool:
        """Stop an attach and have it rolled back; False: it is decided."""
        return self.api.cancel({}, self.host, request_id)

    def audit(self) -> objects.AuditReport:
        """Compare the journal of the worker with the host; reads only."""
        return self.api.audit({}, self.host)

    def ping(self) -> dict[str, Any]:
        """Return ``{version, host, ready}``."""
        return self.api.ping({}, self.host)

    def send(
        self,
        method: Callable[..., objects.OperationResult],
        request: Any,
        timeout: float | None = None,
        raise_on_failure: bool = False,
    ) -> objects.OperationResult:
        """Send a request, again if need be, and return its result.

        :param method: one of ``api`` that takes such a request.
        :raises InvalidConnectionInfo: before anything is sent.
        """
        request.validate()
        until = time.monotonic() + (timeout or rpcapi.answer_time(request))
        result = self._until_answered(method, request, until)
        if raise_on_failure and result.status == 'failed':
            error = result.as_dict()['error'] or {}
            raise OperationFailed(
                f'{result.operation} failed in step {error.get("step")}: '
                f'{error.get("message")} ({error.get("code")})',
                result=result,
            )
        return result

    def _until_answered(
        self,
        method: Callable[..., objects.OperationResult],
        request: Any,
        until: float,
    ) -> objects.OperationResult:
        pause = _PAUSE_FIRST
        sent = False
        while True:
            remaining = max(1.0, until - time.monotonic())
            try:
                return method({}, self.host, request, timeout=remaining)
            except (
                messaging.MessagingTimeout,
                exception.BusUnavailable,
                exception.HostNotFound,
            ) as error:
                # The worker may have what was sent before.
                if isinstance(error, exception.HostNotFound) and not sent:
                    raise
                sent = True
                left = until - time.monotonic()
                if left <= pause or self._closed.wait(pause):
                    raise
                pause = min(pause * 2, _PAUSE_MAX)


def _new_id() -> str:
    return str(uuid.uuid4())
