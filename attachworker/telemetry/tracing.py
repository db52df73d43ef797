# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations as traces of OpenTelemetry, a span a step."""

import time
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.telemetry import progress

_NANOSECONDS = 1_000_000_000


class _Anchor:
    """A moment of the wall clock, from which the clock of the boot goes on.

    A host whose clock is set while an operation runs would have spans that
    take decades, or end before they begin.
    """

    def __init__(self) -> None:
        self._wall = time.time_ns()
        self._boot = deadlines.now()

    def now(self, before: float = 0.0) -> int:
        """Nanoseconds since 1970, so many seconds ago."""
        seconds = deadlines.now() - self._boot - before
        return self._wall + int(seconds * _NANOSECONDS)


class Tracing(progress.Listener):
    """Exports spans over OTLP, from a thread of the library.

    :param endpoint: http://host:4318, of a collector's OTLP receiver for HTTP
    :param host: the worker's name on the bus
    :param version: of the worker
    :raises ConfigurationError: the libraries are not installed
    """

    def __init__(self, endpoint: str, host: str, version: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http import trace_exporter
            from opentelemetry.sdk import resources
            from opentelemetry.sdk import trace as sdk
            from opentelemetry.sdk.trace import export
        except ImportError as error:
            raise exception.ConfigurationError(
                option='otlp_endpoint of group tracing',
                reason=f'{error}; pip install attachworker[tracing]',
            ) from error
        self._trace: Any = trace
        self._provider = sdk.TracerProvider(
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
        url = f'{endpoint.rstrip("/")}/v1/traces'
        self._provider.add_span_processor(
            export.BatchSpanProcessor(trace_exporter.OTLPSpanExporter(url))
        )
        self._tracer = self._provider.get_tracer('attachworker', version)
        #: By request; single operations of a dictionary need no lock.
        self._spans: dict[str, Any] = {}

    def stop(self) -> None:
        """Export what is left; bounded by the library."""
        self._provider.shutdown()

    def began(self, operation: Any, waited: float) -> None:
        anchor = _Anchor()
        span = self._tracer.start_span(
            operation.kind,
            start_time=anchor.now(before=waited),
            attributes={
                'attachworker.request_id': operation.request.request_id,
                'attachworker.attachment_id': operation.attachment_id,
                'attachworker.protocol': operation.protocol,
                'attachworker.queue_wait': waited,
            },
        )
        self._spans[operation.request.request_id] = (span, anchor)

    def step_ended(
        self, operation: Any, step: str, elapsed: float, code: str | None
    ) -> None:
        parent, anchor = self._spans.get(
            operation.request.request_id, (None, _Anchor())
        )
        context = self._trace.set_span_in_context(parent) if parent else None
        # One look at the clock: a span is as long as the step was, however
        # long this thread then waits for the processor.
        end = anchor.now()
        span = self._tracer.start_span(
            step.partition(':')[0],
            context=context,
            start_time=end - int(elapsed * _NANOSECONDS),
            attributes={'attachworker.step': step},
        )
        self._end(span, code, end)

    def ended(self, operation: Any, elapsed: float) -> None:
        span, anchor = self._spans.pop(
            operation.request.request_id, (None, None)
        )
        if span is None:
            return  # refused, or over before its first step
        error = operation.result.error
        span.set_attribute('attachworker.status', operation.result.status)
        self._end(span, error.code if error else None, anchor.now())

    def _end(self, span: Any, code: str | None, when: int) -> None:
        if code is not None:
            span.set_attribute('attachworker.code', code)
            span.set_status(self._trace.StatusCode.ERROR, code)
        span.end(when)
