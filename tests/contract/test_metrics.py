# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a Prometheus server is told."""

from collections.abc import Iterator
import functools
import urllib.error
import urllib.request

from prometheus_client import parser
import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract.test_iscsi import one_portal
from tests.functional import caller
from tests.functional import rabbitmq

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def watched(bed: beds.Bed) -> Iterator[harness.Harness]:
    """A worker that shows its metrics."""
    port = rabbitmq.free_port()
    with harness.Harness(bed, metrics__port=port) as worker:
        yield worker


def scrape(worker: harness.Harness) -> Samples:
    """All samples, by name and labels."""
    port = worker.conf.metrics.port
    url = f'http://127.0.0.1:{port}/metrics'
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(worker: harness.Harness, path: str) -> tuple[int, str]:
    """What is answered at a path."""
    url = f'http://127.0.0.1:{worker.conf.metrics.port}{path}'
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(
        number
        for (found, those), number in samples.items()
        if found == f'attachworker_{name}'
        and labels.items() <= dict(those).items()
    )


def test_what_happens_is_counted(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    volume = bed.create_volume()
    before = scrape(watched)
    assert value(before, 'ready') == 1
    assert value(before, 'operations_total') == 0
    assert value(before, 'attachments') == 0
    # What an alert waits for is there from the beginning
    internal = {'protocol': 'iscsi', 'code': 'internal'}
    assert any(
        internal.items() <= dict(labels).items() for _, labels in before
    )
    assert value(before, 'journal_bytes') > 0
    # When one attach fails and one does not
    result = watched.attach(volume, 'wrong', expected_wwn='another')
    assert result.error.code == 'identity_mismatch', result.as_dict()
    result = watched.attach(volume)
    assert result.status == 'attached', result.as_dict()
    # Then each is counted, by how it ended
    there = scrape(watched)
    of_attach = {'operation': 'attach', 'protocol': 'iscsi'}
    assert (
        value(
            there,
            'operations_total',
            status='failed',
            code='identity_mismatch',
            **of_attach,
        )
        == 1
    )
    assert (
        value(
            there, 'operations_total', status='attached', code='', **of_attach
        )
        == 1
    )
    assert value(there, 'operation_seconds_count', **of_attach) == 2
    assert value(there, 'queue_wait_seconds_count', operation='attach') == 2
    took = value(there, 'step_seconds_sum', step='ConnectTarget')
    (in_result,) = (
        seconds
        for step, seconds in result.timings.items()
        if step.startswith('ConnectTarget:')
    )
    assert took >= in_result > 0
    assert value(there, 'step_seconds_count', step='ConnectTarget') == 2
    # And what is there is seen
    assert value(there, 'attachments', protocol='iscsi', state='attached') == 1
    for name, labels in (
        ('links', {'kind': 'session'}),
        ('paths', {'state': 'running'}),
    ):
        assert (
            value(there, name, **labels) == value(before, name, **labels) + 1
        )
    # And when it is detached, it is gone
    result = watched.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    gone = scrape(watched)
    assert (
        value(
            gone,
            'operations_total',
            operation='detach',
            protocol='iscsi',
            status='detached',
        )
        == 1
    )
    assert value(gone, 'attachments') == 0
    assert value(gone, 'links') == value(before, 'links')
    assert value(gone, 'paths') == value(before, 'paths')


def test_an_attach_with_discovery_waits_once(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    # Given a request that names one target of a volume that is to have a map
    volume = bed.create_volume(portals=2)
    result = watched.attach(
        volume, connection_info=one_portal(volume), multipath=True
    )
    assert result.status == 'attached', result.as_dict()
    # Then two flows have found the others and attached it, in one operation
    assert 'DiscoverTargets' in result.timings
    there = scrape(watched)
    assert value(there, 'queue_wait_seconds_count', operation='attach') == 1
    assert watched.detach(volume.name).status == 'detached'


def test_a_map_is_counted(bed: beds.Bed, watched: harness.Harness) -> None:
    volume = bed.create_volume(portals=2)
    before = scrape(watched)
    result = watched.attach(volume, multipath=True, min_paths=2)
    assert result.status == 'attached', result.as_dict()
    there = scrape(watched)
    assert (
        value(there, 'maps', state='usable')
        == value(before, 'maps', state='usable') + 1
    )
    assert value(there, 'paths') == value(before, 'paths') + 2
    result = watched.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert value(scrape(watched), 'maps') == value(before, 'maps')


def test_what_the_host_has_lost_does_not_count_as_attached(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    # Given an attachment whose device somebody takes away
    volume = bed.create_volume()
    result = watched.attach(volume)
    assert result.status == 'attached', result.as_dict()
    before = scrape(watched)
    assert value(before, 'attachments_on_host', state='ok') == 1
    assert value(before, 'attachments_on_host', state='missing') == 0
    assert value(before, 'audit_findings', kind='orphan') == 0
    bed.drop_session(volume, volume.portals[0])
    # Then it is missing, whatever the journal says
    there = scrape(watched)
    assert value(there, 'attachments_on_host', state='ok') == 0
    assert value(there, 'attachments_on_host', state='missing') == 1
    assert watched.detach(volume.name).status == 'detached'
    gone = scrape(watched)
    assert value(gone, 'attachments_on_host') == 0


def test_how_long_requests_take_is_seen_before_they_end(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    idle = scrape(watched)
    assert value(idle, 'unfinished_oldest_seconds') == 0
    assert value(idle, 'queue_oldest_seconds') == 0
    # Given an attach that hangs, and one of the same volume behind it
    volume = bed.create_volume()
    bed.hang_portal(volume.portals[0])
    calls = [
        caller.Background(functools.partial(watched.attach, volume, name))
        for name in ('first', 'second')
    ]
    caller.until(lambda: value(scrape(watched), 'queue_length') == 1)
    # Then both ages grow
    first = scrape(watched)
    caller.until(
        lambda: all(
            value(scrape(watched), name) > value(first, name) > 0
            for name in ('unfinished_oldest_seconds', 'queue_oldest_seconds')
        )
    )
    bed.start_portal(volume.portals[0])
    for call in calls:
        call.result()
    for name in ('first', 'second'):
        assert watched.detach(name).status == 'detached'
    assert value(scrape(watched), 'unfinished_oldest_seconds') == 0


def test_probes_are_told_what_is_wrong(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    assert page(watched, '/healthz') == (200, 'ok\n')
    assert page(watched, '/readyz') == (200, 'ok\n')
    assert page(watched, '/healthcheck')[0] == 404
    # Given a worker that takes no requests any more
    watched.worker.ready.clear()
    code, text = page(watched, '/readyz')
    assert (code, 'starting or stopping' in text) == (503, True)
    # Then it is not to be killed for that
    assert page(watched, '/healthz') == (200, 'ok\n')
    watched.worker.ready.set()


def test_no_labels_name_anybody(
    bed: beds.Bed, watched: harness.Harness
) -> None:
    """Or there would be more and more series, and secrets in some."""
    series = []
    for _ in range(2):
        volume = bed.create_volume()
        result = watched.attach(volume)
        assert result.status == 'attached', result.as_dict()
        assert watched.detach(volume.name).status == 'detached'
        series.append(scrape(watched).keys())
    assert series[0] == series[1]
    values = {text for _, labels in series[1] for _, text in labels}
    for identifier in (volume.name, volume.target, volume.portals[0]):
        assert not any(identifier in text for text in values)
