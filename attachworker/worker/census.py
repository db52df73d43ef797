# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How much there is of everything: from the journal and the kernel."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging
from prometheus_client import core
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import GaugeMetricFamily

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import Connectors
from attachworker.connectors.base import Link
from attachworker.host import Host
from attachworker.journal import DATA
from attachworker.journal import Records
from attachworker.worker import audit
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.dispatcher import Job
from attachworker.worker.operation import Operation

LOG = logging.getLogger(__name__)


class Census:
    """Reads only; what cannot be read is left out.

    :param ready: whether requests are taken
    :param connected: whether messages have a way from the broker to here
    :param boot_id: of the running kernel
    :param refused: by reason, how many messages were put aside
    """

    def __init__(
        self,
        records: Records,
        connectors: Connectors,
        host: Host,
        dispatcher: Dispatcher,
        cleanup: Cleanup,
        ready: Callable[[], bool],
        connected: Callable[[], bool],
        boot_id: str,
        refused: Mapping[str, int],
    ) -> None:
        self._records = records
        self._connectors = connectors
        self._host = host
        self._dispatcher = dispatcher
        self._cleanup = cleanup
        self._ready = ready
        self._connected = connected
        self._boot_id = boot_id
        self._refused = refused

    def gauges(self) -> Iterator[core.Metric]:
        for part in (self._work, self._journal, self._kernel):
            try:
                yield from part()
            except (exception.AttachWorkerError, OSError) as error:
                LOG.warning('Some metrics are left out: %s', error)

    def _work(self) -> Iterator[core.Metric]:
        yield _one(
            'attachworker_ready',
            '1 while requests are taken.',
            self._ready(),
        )
        yield _one(
            'attachworker_broker_connected',
            '1 while messages come from the broker.',
            self._connected(),
        )
        waiting, running = self._dispatcher.jobs()
        yield _one(
            'attachworker_queue_length', 'Operations that wait.', len(waiting)
        )
        yield _one(
            'attachworker_queue_oldest_seconds',
            'How long the oldest operation has waited; 0 if none waits.',
            max(map(_age, waiting), default=0.0),
        )
        yield _one(
            'attachworker_running', 'Operations that run.', len(running)
        )
        yield _one(
            'attachworker_leftovers',
            'Attachments of which a failed attach has left something that '
            'the worker tries to put back.',
            self._cleanup.pending(),
        )
        yield _one(
            'attachworker_stuck_calls',
            'Calls of kernel and tools that have not returned in time.',
            len(self._host.verbs.stuck()),
        )
        refused = CounterMetricFamily(
            'attachworker_messages_refused',
            'Messages that were put aside and not decoded.',
            labels=('reason',),
        )
        for reason, count in self._refused.items():
            refused.add_metric((reason,), count)
        yield refused

    def _journal(self) -> Iterator[GaugeMetricFamily]:
        yield _one(
            'attachworker_journal_bytes',
            'Size of the journal.',
            self._records.size(),
        )
        yield _one(
            'attachworker_results_unsent',
            'Results of casts that nobody has confirmed yet.',
            self._records.owed(),
        )
        yield _one(
            'attachworker_unfinished_oldest_seconds',
            'How long ago the oldest request was accepted that has no result; '
            '0 if all have one.',
            self._records.longest_unfinished(),
        )
        yield _by(
            'attachworker_attachments',
            'Attachments that the journal has.',
            ('protocol', 'state'),
            (
                (one[DATA]['protocol'], one[DATA]['state'])
                for one in self._records.shown()
            ),
        )

    def _kernel(self) -> Iterator[GaugeMetricFamily]:
        multipath = self._host.multipath
        seen = audit.look(self._records, self._connectors, self._host)
        yield _by(
            'attachworker_maps',
            'Multipath maps of this host, whoever made them.',
            ('state',),
            (
                ('usable' if multipath.ready(one, False) else 'unusable',)
                for one in seen.maps
            ),
            always=[('usable',), ('unusable',)],
        )
        links = seen.links
        yield _by(
            'attachworker_links',
            'Connections of this host to storage (kind: session, controller, '
            'mapping, ...), whoever made them; state: as the kernel says.',
            ('kind', 'state'),
            ((one.name.partition(' ')[0], one.state) for one in links),
        )
        yield _by(
            'attachworker_paths',
            'Block devices that come through these connections; state: as '
            'the kernel says.',
            ('state',),
            ((device.state,) for one in links for device in one.devices),
        )
        found = audit.compare(seen, self._boot_id)
        yield _by(
            'attachworker_attachments_on_host',
            'Attachments by what this host has of them, as an audit says.',
            ('state',),
            ((one.state,) for one in found.attachments),
            always=[('ok',), ('degraded',), ('missing',)],
        )
        yield _by(
            'attachworker_audit_findings',
            'What an audit finds beside the attachments.',
            ('kind',),
            ((one.kind,) for one in found.findings),
            always=[('orphan',), ('stale',), ('foreign',)],
        )

    def sections(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """The same in detail, for a report that people read."""
        return {
            'Operations': self._operations,
            'Connections': self._connections,
        }

    def _operations(self) -> dict[str, Any]:
        waiting, running = self._dispatcher.jobs()
        return {
            'running': [_describe(job) for job in running],
            'waiting': [_describe(job) for job in waiting],
            'calls that do not return': [
                f'{call.name} of {call.about}, {call.seconds:.0f} s'
                for call in self._host.verbs.stuck()
            ],
            'attachments to clean up': self._cleanup.pending(),
        }

    def _links(self) -> list[Link]:
        return self._connectors.links(self._records.contents().path_keys)

    def _connections(self) -> dict[str, Any]:
        return {
            f'{link.name}, {link.state}, {link.target}': [
                f'{device.disk or device.address} {device.state}'
                for device in link.devices
            ]
            for link in self._links()
        }


def _age(job: Job) -> float:
    """Seconds since it was accepted; a clean-up was not."""
    if not isinstance(job, Operation):
        return 0.0
    return deadlines.now() - job.started


def _describe(job: Job) -> str:
    if not isinstance(job, Operation):
        return f'clean-up of {job.attachment_id}'
    return (
        f'{job.kind} of {job.attachment_id}, {job.protocol}, for '
        f'{deadlines.now() - job.started:.1f} s, request '
        f'{job.request.request_id}'
    )


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, float(value))


def _by(
    name: str,
    text: str,
    labels: tuple[str, ...],
    found: Iterable[tuple[str, ...]],
    always: Iterable[tuple[str, ...]] = (),
) -> GaugeMetricFamily:
    """:param always: what is told even if there is none"""
    family = GaugeMetricFamily(name, text, labels=labels)
    counts = dict.fromkeys(always, 0) | collections.Counter(found)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
