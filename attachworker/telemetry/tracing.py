# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations as traces of OpenTelemetry, a span a step."""

import threading
import time
from typing import Any

from attachworker import exception
from attachworker.telemetry import progress

_NANOSECONDS = 1_000_000_000


class Tracing:
    """Exports spans over OTLP, from a thread of the library.

    :param tracer: of opentelemetry.trace
    :param provider: of that; ended with this
    """

    def __init__(self, tracer: Any, provider: Any) -> None:
        self._tracer = tracer
        self._provider = provider
        self._lock = threading.Lock()
        self._spans: dict[str, Any] = {}

    @classmethod
    def to(cls, endpoint: str, host: str, version: str) -> 'Tracing':
        """Export to a collector.

        :param endpoint: http://host:4318, of its OTLP receiver for HTTP
        :raises ConfigurationError: the libraries are not installed
        """
        try:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter
            from opentelemetry.sdk import resources
            from opentelemetry.sdk import trace
            from opentelemetry.sdk.trace import export
        except ImportError as error:
            raise exception.ConfigurationError(
                option='otlp_endpoint of group tracing',
                reason=f'{error}; pip install attachworker[tracing]',
            ) from error
        provider = trace.TracerProvider(
            resource=resources.Resource.create(
                {
                    'service.name': 'attachworker',
                    'service.version': version,
                    'host.name': host,
                }
            ),
            # It would end with the interpreter, which never ends: see cmd.
            shutdown_on_exit=False,
        )
        provider.add_span_processor(
            export.BatchSpanProcessor(
                trace_exporter.OTLPSpanExporter(
                    f'{endpoint.rstrip("/")}/v1/traces'
                )
            )
        )
        return cls(provider.get_tracer('attachworker', version), provider)

    def stop(self) -> None:
        """Export what is left; bounded by the library."""
        self._provider.shutdown()

    def began(self, operation: progress.Operation, waited: float) -> None:
        span = self._tracer.start_span(
            operation.kind,
            start_time=time.time_ns() - int(waited * _NANOSECONDS),
            attributes={
                'attachworker.request_id': operation.request.request_id,
                'attachworker.attachment_id': operation.attachment_id,
                'attachworker.protocol': operation.protocol,
                'attachworker.queue_wait': waited,
            },
        )
        with self._lock:
            self._spans[operation.request.request_id] = span

    def step_ended(
        self,
        operation: progress.Operation,
        step: str,
        elapsed: float,
        code: str | None,
    ) -> None:
        from opentelemetry import trace

        with self._lock:
            parent = self._spans.get(operation.request.request_id)
        now = time.time_ns()
        span = self._tracer.start_span(
            step.partition(':')[0],
            context=trace.set_span_in_context(parent) if parent else None,
            start_time=now - int(elapsed * _NANOSECONDS),
            attributes={'attachworker.step': step},
        )
        _end(span, code, now)

    def ended(self, operation: progress.Operation, elapsed: float) -> None:
        with self._lock:
            span = self._spans.pop(operation.request.request_id, None)
        if span is None:
            return  # refused, or over before its first step
        error = operation.result.error
        span.set_attribute('attachworker.status', operation.result.status)
        _end(span, error.code if error else None, time.time_ns())


def _end(span: Any, code: str | None, when: int) -> None:
    from opentelemetry import trace

    if code is not None:
        span.set_attribute('attachworker.code', code)
        span.set_status(trace.StatusCode.ERROR, code)
    span.end(when)
