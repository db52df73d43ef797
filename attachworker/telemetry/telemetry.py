# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
    :param is_heard: see :class:`notifications.Notifications`
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
        is_heard: Callable[[], bool],
        protocols: Iterable[str],
        look: Callable[[], Iterable[metrics.Gauge]],
        otlp_endpoint: str | None,
    ) -> None:
        self._notifications = notifications.Notifications(
            notifier, host, is_heard
        )
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
