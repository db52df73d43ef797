# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations as notifications on the bus, for who watches."""

import queue
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import objects
from attachworker.telemetry import progress

LOG = logging.getLogger(__name__)

_QUEUE_LENGTH = 1000
#: Consumers see it as ``_context_payload_version``.
_CONTEXT = {'payload_version': objects.NotificationPayload.VERSION}


class Notifications:
    """Sends notifications from a thread of its own.

    Nobody waits for them and nothing depends on them: if the bus is slow or
    away, some are dropped.

    :param notifier: an oslo.messaging Notifier
    :param host: the worker's name on the bus
    """

    def __init__(self, notifier: Any, host: str) -> None:
        self._notifier = notifier
        self._host = host
        self._queue: queue.Queue[tuple[str, dict[str, Any]] | None] = (
            queue.Queue(_QUEUE_LENGTH)
        )
        self._thread = threading.Thread(
            target=self._run, name='notifications', daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def began(self, operation: progress.Operation, waited: float) -> None:
        self._send(operation, 'start', 0.0)

    def step_ended(
        self,
        operation: progress.Operation,
        step: str,
        elapsed: float,
        code: str | None,
    ) -> None:
        self._send(operation, 'step', elapsed, step=step, error=code)

    def ended(self, operation: progress.Operation, elapsed: float) -> None:
        result = operation.result
        error = result.error
        self._send(
            operation,
            'error' if error else 'end',
            elapsed,
            step=error.step if error else None,
            status=result.status,
            error=error.code if error else None,
        )

    def _send(
        self,
        operation: progress.Operation,
        event: str,
        elapsed: float,
        **values: str | None,
    ) -> None:
        payload = objects.NotificationPayload(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            host=self._host,
            elapsed=round(elapsed, 6),
            **values,
        ).as_dict()
        try:
            self._queue.put_nowait((f'{operation.kind}.{event}', payload))
        except queue.Full:
            LOG.debug('A notification was dropped')

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            event_type, payload = item
            try:
                self._notifier.info(_CONTEXT, event_type, payload)
            except Exception as error:
                LOG.debug('Notification %s: %s', event_type, error)
