# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Metrics of the worker, for a Prometheus server to fetch."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import prometheus_client
from prometheus_client import core
from prometheus_client import registry

from attachworker import exception
from attachworker import objects
from attachworker.telemetry import progress

#: Seconds: from what a step takes to the longest deadlines.
_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Metrics(registry.Collector, progress.Listener):
    """Counts what happens; what is, is looked at when somebody asks.

    :param version: of the worker
    :param protocols: that it knows
    :param look: what is; asked for each answer, from any thread
    :param address: where the metrics can be had
    :param port: None: nowhere
    :param probes: by path, what asks how the worker is: None if all is well,
        or what is not. Who asks gets 200 or 503.
    """

    def __init__(
        self,
        version: str,
        protocols: Iterable[str],
        look: Callable[[], Iterable[core.Metric]],
        address: str,
        port: int | None,
        probes: Mapping[str, Callable[[], str | None]],
    ) -> None:
        self._look = look
        self._probes = probes
        self._address = address
        self._port = port
        self.registry = prometheus_client.CollectorRegistry()
        self._operations = prometheus_client.Counter(
            'attachworker_operations',
            'Operations that have ended; code: of the error, empty if none.',
            ('operation', 'protocol', 'status', 'code'),
            registry=self.registry,
        )
        # A series that begins at 1 never grows: nobody would be alerted.
        for protocol in protocols:
            for operation in objects.REQUESTS:
                self._operations.labels(
                    operation, protocol, 'failed', 'internal'
                )
        self._seconds = self._histogram(
            'attachworker_operation_seconds',
            'From the acceptance of an operation to its result.',
            ('operation', 'protocol'),
        )
        self._waits = self._histogram(
            'attachworker_queue_wait_seconds',
            'From the acceptance of an operation to its first step.',
            ('operation',),
        )
        self._steps = self._histogram(
            'attachworker_step_seconds',
            'Duration of a step.',
            ('operation', 'step'),
        )
        prometheus_client.Info(
            'attachworker_build',
            'The worker.',
            registry=self.registry,
        ).info({'version': version})
        prometheus_client.ProcessCollector(registry=self.registry)
        self.registry.register(self)
        self._server: Any = None
        self._metrics: Any = None

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...]
    ) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            name, text, labels, buckets=_BUCKETS, registry=self.registry
        )

    def collect(self) -> Iterable[core.Metric]:
        return self._look()

    def start(self) -> None:
        """Answer at the port, if there is one.

        :raises ConfigurationError: it cannot be had
        """
        if self._port is None:
            return
        try:
            self._server, _ = prometheus_client.start_http_server(
                self._port, self._address, self.registry
            )
            self._metrics = self._server.get_app()
            self._server.set_app(self._answer)
        except OSError as error:
            raise exception.ConfigurationError(
                option='port of group metrics',
                reason=f'{self._address}:{self._port}: '
                f'{error.strerror or error}; choose another one',
            ) from error

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = environ.get('PATH_INFO', '')
        if path == '/metrics':
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        status, text = '404 Not Found', 'There is /metrics'
        if path in self._probes:
            wrong = self._probes[path]()
            status = '503 Service Unavailable' if wrong else '200 OK'
            text = wrong or 'ok'
        else:
            text += ''.join(f', {name}' for name in self._probes)
        start_response(status, [('Content-Type', 'text/plain; charset=utf-8')])
        return [f'{text}\n'.encode()]

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def began(self, operation: Any, waited: float) -> None:
        self._waits.labels(operation.kind).observe(waited)

    def step_ended(
        self, operation: Any, step: str, elapsed: float, code: str | None
    ) -> None:
        # Those of one target have it in their name.
        name = step.partition(':')[0]
        self._steps.labels(operation.kind, name).observe(elapsed)

    def ended(self, operation: Any, elapsed: float) -> None:
        result = operation.result
        self._operations.labels(
            operation.kind,
            operation.protocol,
            result.status,
            result.error.code if result.error else '',
        ).inc()
        self._seconds.labels(operation.kind, operation.protocol).observe(
            elapsed
        )
