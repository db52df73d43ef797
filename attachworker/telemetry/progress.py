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


"""How operations go on: in the log, and as notifications for who watches."""

import queue
import threading
from typing import Any
from typing import Protocol

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception

LOG = logging.getLogger(__name__)

_QUEUE_LENGTH = 1000


class _Operation(Protocol):
    kind: str
    attachment_id: str
    request: Any
    started: float


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

    def send(
        self,
        operation: _Operation,
        event: str,
        elapsed: float,
        step: str | None = None,
        status: str | None = None,
        error: str | None = None,
    ) -> None:
        """Queue one notification; never blocks.

        :param event: start, step, end or error
        :param elapsed: seconds, of the step or of the whole operation
        :param error: an error code
        """
        payload = {
            'request_id': operation.request.request_id,
            'attachment_id': operation.request.attachment_id,
            'host': self._host,
            'step': step,
            'elapsed': round(elapsed, 6),
            'status': status,
            'error': error,
        }
        try:
            self._queue.put_nowait((f'{operation.kind}.{event}', payload))
        except queue.Full:
            LOG.debug('A notification was dropped')

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            event_type, payload = item
            try:
                self._notifier.info({}, event_type, payload)
            except Exception as error:
                LOG.debug('Notification %s: %s', event_type, error)


class Progress:
    """Observes the steps of one operation."""

    def __init__(
        self, notifications: Notifications, operation: _Operation
    ) -> None:
        self._notifications = notifications
        self._operation = operation
        notifications.send(operation, 'start', 0.0)

    def step_started(self, step: str) -> None:
        LOG.debug('%s: %s', self._operation.attachment_id, step)

    def step_ended(
        self, step: str, elapsed: float, error: BaseException | None
    ) -> None:
        code = None
        if error is not None:
            known = isinstance(error, exception.AttachWorkerError)
            code = error.code if known else 'internal'  # type: ignore[attr-defined]
        LOG.debug(
            '%s: %s took %.3f s%s',
            self._operation.attachment_id,
            step,
            elapsed,
            f', {code}' if code else '',
        )
        self._notifications.send(
            self._operation, 'step', elapsed, step, error=code
        )


def send_end(notifications: Notifications, operation: Any) -> None:
    """Tell the final result of an operation."""
    result = operation.result
    error = result.error
    notifications.send(
        operation,
        'error' if error else 'end',
        deadlines.now() - operation.started,
        step=error.step if error else None,
        status=result.status,
        error=error.code if error else None,
    )
