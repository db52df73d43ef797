# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker that pretends: the RPC side of one, and no host behind it."""

import datetime
import threading
from typing import Any

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker.bus import replies
from attachworker.bus import serializer
from attachworker.bus import transport as bus

#: What an attach to this volume takes, in seconds.
SLOW = {'slow': 5.0}

#: oslo.messaging holds a thread for a minute, and so would the end of a
#: worker, where who called is gone before the answer.
_FORGET_CALLERS_SOON = 'kombu_missing_consumer_retry_timeout=2'

CHAP_SECRET = 'CANARY-chap-secret'


def connection_info(name: str = 'volume-1') -> dict[str, Any]:
    """What a driver sends; the name tells the worker how to behave."""
    return {
        'driver_volume_type': 'iscsi',
        'data': {
            'target_portal': '127.0.0.1:3260',
            'target_iqn': f'iqn.2010-10.org.openstack:{name}',
            'target_lun': 1,
            'volume_id': name,
            'auth_method': 'CHAP',
            'auth_username': 'user',
            'auth_password': CHAP_SECRET,
        },
    }


class FakeWorker:
    """Answers as a worker would.

    :ivar attached: attachments by id.
    :ivar seen: the requests, in the order of their arrival.

    """

    target = messaging.Target(version='1.0')

    def __init__(self, url: str, host: str) -> None:
        self.host = host
        self.attached: dict[str, objects.Attachment] = {}
        self.seen: list[Any] = []
        self.release = threading.Event()
        self.transport = bus.get_transport(
            cfg.CONF, f'{url}?{_FORGET_CALLERS_SOON}'
        )
        self.delivered: list[str] = []
        self.results: dict[str, objects.OperationResult] = {}
        self._stopped = False
        self.replies = replies.ReplySender(
            self.transport,
            self.results.get,
            lambda request_id, receiver: self.delivered.append(request_id),
            retention=60.0,
            timeout=2.0,
            retry_first=0.1,
        )
        self.server = messaging.get_rpc_server(
            self.transport,
            bus.get_target(host),
            [self],
            serializer=serializer.WorkerSerializer(),
        )
        self.server.start()
        self.replies.start()

    def reset(self) -> None:
        """Forget what was; for the next test."""
        self.release.clear()
        self.attached.clear()
        self.seen.clear()
        self.delivered.clear()

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self.release.set()
        self.replies.stop()
        self.server.stop()
        self.server.wait()
        self.transport.cleanup()

    def ping(self, ctxt: Any) -> dict[str, Any]:
        return {'version': '0', 'host': self.host, 'ready': True}

    def get_connector_properties(
        self,
        ctxt: Any,
        multipath: bool | None = None,
        enforce_multipath: bool = False,
    ) -> dict[str, Any]:
        return {
            'host': self.host,
            'initiator': 'iqn.1993-08.org.debian:1',
            'multipath': bool(multipath),
            'attachworker': {'protocols': {'iscsi': None}},
        }

    def attach_volume(self, ctxt: Any, request: Any) -> Any:
        decoded = serializer.from_wire(
            request, objects.AttachRequest, 'request'
        )
        decoded.validate()
        self.seen.append(decoded)
        volume = decoded.volume_id or ''
        if volume.startswith('slow'):
            self.release.wait(SLOW['slow'])
        result = self._result(decoded, volume)
        if decoded.reply_to is not None:
            self.results[decoded.request_id] = result
            self.replies.deliver(decoded.request_id, decoded.reply_to, result)
        return result

    def _result(self, request: Any, volume: str) -> objects.OperationResult:
        ids = {
            'request_id': request.request_id,
            'operation': 'attach',
            'attachment_id': request.attachment_id,
        }
        if volume.startswith('bad'):
            return objects.OperationResult(
                **ids,
                status='failed',
                error=objects.OperationError(
                    code='target_unreachable',
                    step='ConnectTarget:1',
                    message='Portal does not answer.',
                    retryable=True,
                ),
            )
        device = objects.DeviceInfo(
            path='/dev/sda',
            size=4096,
            scsi_wwn='360014050123456789abcdef012345678',
        )
        now = datetime.datetime.now(datetime.UTC)
        self.attached[request.attachment_id] = objects.Attachment(
            attachment_id=request.attachment_id,
            protocol='iscsi',
            state='attached',
            device=device,
            created_at=now,
            updated_at=now,
        )
        return objects.OperationResult(
            **ids,
            status='attached',
            device=device,
            timings={'GetConnector': 0.001},
        )

    def detach_volume(self, ctxt: Any, request: Any) -> Any:
        decoded = serializer.from_wire(
            request, objects.DetachRequest, 'request'
        )
        self.attached.pop(decoded.attachment_id, None)
        return objects.OperationResult(
            request_id=decoded.request_id,
            operation='detach',
            attachment_id=decoded.attachment_id,
            status='detached',
        )

    def list_attachments(self, ctxt: Any) -> Any:
        return list(self.attached.values())

    def audit(self, ctxt: Any) -> Any:
        return objects.AuditReport(attachments=[], findings=[])

    def get_attachment(self, ctxt: Any, attachment_id: str) -> Any:
        if attachment_id not in self.attached:
            raise exception.AttachmentNotFound(attachment_id=attachment_id)
        return self.attached[attachment_id]

    def get_result(self, ctxt: Any, request_id: str) -> Any:
        raise exception.RequestNotFound(request_id=request_id)
