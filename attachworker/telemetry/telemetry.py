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

"""All listeners of a worker, made, started and ended together."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from attachworker.telemetry import metrics
from attachworker.telemetry import notifications
from attachworker.telemetry import progress
from attachworker.telemetry import tracing

#: Seconds for notifications that are still in the queue.
_STOP_TIMEOUT = 1.0


class Telemetry:
    """Tells of operations: notifications, metrics, traces.

    :param host: the worker's name on the bus
    :param version: of the worker
    :param notifier: an oslo.messaging Notifier
    :param protocols: that it knows
    :param look: see :class:`metrics.Metrics`
    :param otlp_endpoint: see :meth:`tracing.Tracing.to`; None: no traces
    :raises ConfigurationError: traces are wanted and cannot be had
    """

    def __init__(
        self,
        host: str,
        version: str,
        notifier: Any,
        protocols: Iterable[str],
        look: Callable[[], Iterable[metrics.Gauge]],
        otlp_endpoint: str | None,
    ) -> None:
        self._notifications = notifications.Notifications(notifier, host)
        self._metrics = metrics.Metrics(version, protocols, look)
        self._tracing = (
            [tracing.Tracing.to(otlp_endpoint, host, version)]
            if otlp_endpoint
            else []
        )
        self._listeners: list[progress.Listener] = [
            self._metrics,
            self._notifications,
            *self._tracing,
        ]

    def start(self, address: str, port: int | None) -> None:
        """:param address: for metrics
        :param port: for metrics; None: nobody can ask for them
        :raises ConfigurationError: the port cannot be had
        """
        self._metrics.start(address, port)
        self._notifications.start()

    def stop(self) -> None:
        self._notifications.stop(_STOP_TIMEOUT)
        self._metrics.stop()
        for each in self._tracing:
            each.stop()

    def observe(self, operation: progress.Operation) -> progress.Progress:
        """An operation comes to its first step."""
        return progress.Progress(self._listeners, operation)

    def tell_end(self, operation: progress.Operation) -> None:
        """An operation has its result."""
        progress.tell_end(self._listeners, operation)
