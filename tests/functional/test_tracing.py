# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Traces as a collector gets them, over OTLP."""

from collections.abc import Iterator
import gzip
import http.server
import sys
import threading
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
import pytest

from attachworker import exception
from attachworker.telemetry import tracing
from tests import harness
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

#: Seconds for a worker to stop whose collector is dead.
_SOON = 40.0
_ERROR = 2


class Collector:
    """Takes traces on loopback."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: dict[str, str] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers['Content-Length']))
                if self.headers.get('Content-Encoding') == 'gzip':
                    body = gzip.decompress(body)
                assert self.path == '/v1/traces'
                outer.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, body: bytes) -> None:
        request = trace_service_pb2.ExportTraceServiceRequest()
        request.ParseFromString(body)
        for part in request.resource_spans:
            self.resources |= attributes(part.resource)
            for scope in part.scope_spans:
                self.spans += scope.spans

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(thing: Any) -> dict[str, Any]:
    return {
        one.key: one.value.string_value
        or one.value.double_value
        or one.value.int_value
        for one in thing.attributes
    }


def test_an_operation_is_a_trace(
    bed: SimulatedBed, collector: Collector
) -> None:
    volume = bed.create_volume()
    with harness.Harness(bed, tracing__otlp_endpoint=collector.url) as worker:
        failed = worker.attach(volume, 'wrong', expected_wwn='another')
        result = worker.attach(volume)
        assert result.status == 'attached', result.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        name = worker.name
    # Then, at the end at the latest, the collector has three traces
    assert collector.resources['service.name'] == 'attachworker'
    assert collector.resources['host.name'] == name
    tops = {
        attributes(span)['attachworker.request_id']: span
        for span in collector.spans
        if not span.parent_span_id
    }
    assert len(tops) == 3
    assert len({span.trace_id for span in tops.values()}) == 3
    # And each of an attach has its steps below it, within its time
    top = tops[result.request_id]
    assert top.name == 'attach'
    assert attributes(top)['attachworker.status'] == 'attached'
    assert attributes(top)['attachworker.attachment_id'] == volume.name
    assert top.status.code != _ERROR
    below = [
        span for span in collector.spans if span.parent_span_id == top.span_id
    ]
    assert {attributes(span)['attachworker.step'] for span in below} == set(
        result.timings
    )
    assert {span.name for span in below} >= {'ConnectTarget', 'FindWwn'}
    for span in below:
        assert span.trace_id == top.trace_id
        assert span.end_time_unix_nano <= top.end_time_unix_nano
        seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        step = attributes(span)['attachworker.step']
        assert seconds == pytest.approx(result.timings[step], abs=0.001)
    # And one that failed says how
    top = tops[failed.request_id]
    assert (top.status.code, top.status.message) == (
        _ERROR,
        'identity_mismatch',
    )


def test_a_collector_that_is_dead_harms_nobody(bed: SimulatedBed) -> None:
    volume = bed.create_volume()
    url = f'http://127.0.0.1:{rabbitmq.free_port()}'
    with harness.Harness(bed, tracing__otlp_endpoint=url) as worker:
        result = worker.attach(volume)
        assert result.status == 'attached', result.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        began = time.monotonic()
    assert time.monotonic() - began < _SOON


def test_the_libraries_are_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'opentelemetry.sdk', None)
    with pytest.raises(exception.ConfigurationError, match=r'\[tracing\]'):
        tracing.Tracing('http://127.0.0.1:1', 'host', '1.0')
