# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations as notifications on the bus, for who watches."""

import collections
from collections.abc import Callable
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.telemetry import progress

LOG = logging.getLogger(__name__)

_QUEUE_LENGTH = 1000
#: Seconds between two looks whether somebody has begun to listen.
LOOK_INTERVAL = 0.25
#: Consumers see it as ``_context_payload_version``.
_CONTEXT = {'payload_version': objects.NotificationPayload.VERSION}


class Notifications(progress.Listener):
    """Sends notifications from a thread of its own.

    Nobody waits for them and nothing depends on them: if the bus is slow or
    away, some are dropped. While nobody listens none is even made, but for
    one now and then, to see whether that is still so. What has happened since
    the last look is kept until the next one: who listens misses nothing.

    :param notifier: an oslo.messaging Notifier
    :param host: the worker's name on the bus
    :param is_heard: whether somebody listened to the last one
    """

    def __init__(
        self, notifier: Any, host: str, is_heard: Callable[[], bool]
    ) -> None:
        self._notifier = notifier
        self._host = host
        self._is_heard = is_heard
        self._changed = threading.Condition()
        self._waiting: collections.deque[tuple[str, dict[str, Any]]] = (
            collections.deque(maxlen=_QUEUE_LENGTH)
        )
        self._look_at = 0.0
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name='notifications', daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Send what waits, for so many seconds at most."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def began(self, operation: Any, waited: float) -> None:
        self._send(operation, 'start', 0.0)

    def step_ended(
        self, operation: Any, step: str, elapsed: float, code: str | None
    ) -> None:
        self._send(operation, 'step', elapsed, step=step, error=code)

    def ended(self, operation: Any, elapsed: float) -> None:
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
        operation: Any,
        event: str,
        elapsed: float,
        **values: str | None,
    ) -> None:
        content = {
            'request_id': operation.request.request_id,
            'attachment_id': operation.request.attachment_id,
            'elapsed': round(elapsed, 6),
            **values,
        }
        with self._changed:
            self._waiting.append((f'{operation.kind}.{event}', content))
            if len(self._waiting) == 1:
                self._changed.notify()

    def _run(self) -> None:
        while events := self._take():
            for event_type, content in events:
                self._notify(event_type, content)
                if not self._is_heard():
                    self._look_at = deadlines.now() + LOOK_INTERVAL
                    break

    def _take(self) -> list[tuple[str, dict[str, Any]]]:
        """All events that wait, once it is time; none: it was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._changed.wait_for(
                lambda: self._stopped,
                max(0.0, self._look_at - deadlines.now()),
            )
            events = list(self._waiting)
            self._waiting.clear()
            return events

    def _notify(self, event_type: str, content: dict[str, Any]) -> None:
        try:
            payload = objects.NotificationPayload(host=self._host, **content)
            self._notifier.info(_CONTEXT, event_type, payload.as_dict())
        except Exception as error:
            LOG.debug('Notification %s: %s', event_type, error)
