# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Debian's Prometheus, a live worker, and what etc/ has for both."""

from collections.abc import Iterator
import json
import math
import pathlib
import re
import subprocess
import time
from typing import Any
import urllib.parse
import urllib.request

import pytest
import yaml

from attachworker.objects import fields
from tests import harness
from tests.contract import bed as beds
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.functional import test_dashboard
from tests.simulator.bed import SimulatedBed

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_RULES = _PROJECT / 'etc/prometheus/attachworker.rules.yml'
_RUNBOOKS = _PROJECT / 'doc/source/admin/runbooks.rst'

#: Seconds that all queries may take to have data.
_TIMEOUT = 30.0


class Prometheus:
    """A server on loopback that scrapes one worker each second."""

    def __init__(self, directory: pathlib.Path, port: int) -> None:
        self._port = rabbitmq.free_port()
        configuration = directory / 'prometheus.yml'
        configuration.write_text(
            yaml.safe_dump(
                {
                    'global': {
                        'scrape_interval': '1s',
                        'evaluation_interval': '1s',
                    },
                    'rule_files': [str(_RULES)],
                    'scrape_configs': [
                        {
                            'job_name': 'attachworker',
                            'static_configs': [
                                {'targets': [f'127.0.0.1:{port}']}
                            ],
                        }
                    ],
                }
            )
        )
        self._log = directory / 'prometheus.log'
        with open(self._log, 'wb') as log:
            self._process = subprocess.Popen(
                [
                    'prometheus',
                    f'--config.file={configuration}',
                    f'--storage.tsdb.path={directory / "data"}',
                    f'--web.listen-address=127.0.0.1:{self._port}',
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def ask(self, path: str, **values: str) -> Any:
        """What its API answers; None while it is not up."""
        assert self._process.poll() is None, self._log.read_text()
        query = urllib.parse.urlencode(values)
        url = f'http://127.0.0.1:{self._port}/api/v1/{path}?{query}'
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)['data']
        except ConnectionRefusedError:
            return None
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is starting
                return None
            pytest.fail(f'{values}: {error.read().decode()}')
        except urllib.error.URLError:
            return None

    def has_data(self, query: str) -> bool:
        found = self.ask('query', query=query)
        return found is not None and any(
            not math.isnan(float(one['value'][1])) for one in found['result']
        )


@pytest.fixture(scope='module')
def watched(
    broker: rabbitmq.RabbitMQNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[daemon.Daemon, SimulatedBed, int]]:
    """A daemon on a simulated host, and the port of its metrics."""
    port = rabbitmq.free_port()
    directory = tmp_path_factory.mktemp('watched')
    bed = SimulatedBed()
    bed.set_multipathd()
    try:
        with daemon.Daemon(
            directory,
            broker.url,
            bed.root,
            options=('[metrics]', f'port = {port}'),
        ) as one:
            yield one, bed, port
    finally:
        bed.close()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(_RULES.read_text())['groups']
    found: list[dict[str, Any]] = group['rules']
    return found


def queries() -> list[str]:
    """Those of the dashboard, as Grafana would send them."""
    return [
        target['expr']
        .replace('$__rate_interval', '1m')
        .replace('$instance', '.*')
        for panel in test_dashboard.dashboard()['panels']
        for target in panel['targets']
    ]


def promtool(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ['promtool', *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def use(one: daemon.Daemon, bed: SimulatedBed) -> None:
    """A bit of everything; a map is left."""
    volume = bed.create_volume()
    wrong = harness.attach_request(volume, expected_wwn='another')
    result = one.api.attach_volume({}, one.name, wrong)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    attach(one, volume)
    gone = harness.detach_request(volume.name)
    result = one.api.detach_volume({}, one.name, gone)
    assert result.status == 'detached', result.as_dict()
    attach(one, bed.create_volume(portals=2), multipath=True, min_paths=2)


def attach(one: daemon.Daemon, volume: beds.Volume, **values: object) -> None:
    request = harness.attach_request(volume, **values)
    result = one.api.attach_volume({}, one.name, request)
    assert result.status == 'attached', result.as_dict()


def test_metrics_are_as_prometheus_wants_them(
    watched: tuple[daemon.Daemon, SimulatedBed, int],
) -> None:
    one, bed, port = watched
    use(one, bed)
    url = f'http://127.0.0.1:{port}/metrics'
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    assert 'attachworker_operations_total' in text
    assert promtool('check', 'metrics', text=text) == ''


def test_every_query_of_the_dashboard_has_data(
    watched: tuple[daemon.Daemon, SimulatedBed, int],
    tmp_path: pathlib.Path,
) -> None:
    one, bed, port = watched
    server = Prometheus(tmp_path, port)
    try:
        end = time.monotonic() + _TIMEOUT
        while not server.has_data('attachworker_ready'):
            assert time.monotonic() < end
            time.sleep(0.2)
        # Rates need something to happen between two looks.
        missing = queries()
        assert len(missing) > 10
        while missing:
            assert time.monotonic() < end, missing
            use(one, bed)
            time.sleep(1)
            missing = [one for one in missing if not server.has_data(one)]
        # And the rules are evaluated, without an error
        (group,) = server.ask('rules')['groups']
        assert {one['name'] for one in group['rules']} == {
            one['alert'] for one in rules()
        }
        states = {one['health'] for one in group['rules']}
        assert states == {'ok'}, group
    finally:
        server.stop()


#: What raises each alert, and how long after it is there.
_RAISED_BY = {
    'AttachworkerDown': ('up{job="attachworker"}', '0x20', '3m'),
    'AttachworkerNotReady': ('attachworker_ready', '0x20', '6m'),
    'AttachworkerBrokerLost': ('attachworker_broker_connected', '0x20', '3m'),
    'AttachworkerQueueStalls': (
        'attachworker_queue_oldest_seconds',
        '121x20',
        '2m',
    ),
    'AttachworkerRequestUnfinished': (
        'attachworker_unfinished_oldest_seconds',
        '901x20',
        '2m',
    ),
    'AttachworkerAttachmentMissing': (
        'attachworker_attachments_on_host{state="missing"}',
        '1x20',
        '6m',
    ),
    'AttachworkerOrphan': (
        'attachworker_audit_findings{kind="orphan"}',
        '1x20',
        '16m',
    ),
    'AttachworkerInternalError': (
        'attachworker_operations_total{operation="attach", protocol="iscsi",'
        ' status="failed", code="internal"}',
        '0 0 1 1 1',
        '4m',
    ),
    'AttachworkerOperationsFail': (
        'attachworker_operations_total{operation="attach", protocol="iscsi",'
        ' status="failed", code="login_failed", instance="one"}',
        '0 1 2 3 4 5 6 7 8 9 10',
        '9m',
    ),
    'AttachworkerQueueLong': ('attachworker_queue_length', '51x20', '6m'),
    'AttachworkerStuckCall': ('attachworker_stuck_calls', '1x20', '2m'),
    'AttachworkerLeftovers': ('attachworker_leftovers', '1x20', '11m'),
    'AttachworkerMapUnusable': (
        'attachworker_maps{state="unusable"}',
        '1x20',
        '2m',
    ),
    'AttachworkerPathsDown': (
        'attachworker_paths{state="offline", instance="one"}',
        '1x20',
        '6m',
    ),
    'AttachworkerMessagesRefused': (
        'attachworker_messages_refused_total{reason="size"}',
        '0 0 1 1 1',
        '4m',
    ),
    'AttachworkerResultsUnsent': (
        'attachworker_results_unsent',
        '1x20',
        '16m',
    ),
    'AttachworkerJournalLarge': (
        'attachworker_journal_bytes',
        '2000000000x90',
        '62m',
    ),
}

#: What raises none.
_QUIET = (
    ('up{job="attachworker"}', '1x90'),
    ('attachworker_ready', '1x90'),
    ('attachworker_broker_connected', '1x90'),
    ('attachworker_queue_oldest_seconds', '30x90'),
    ('attachworker_unfinished_oldest_seconds', '330x90'),
    ('attachworker_attachments_on_host{state="missing"}', '0x90'),
    ('attachworker_attachments_on_host{state="degraded"}', '1x90'),
    ('attachworker_audit_findings{kind="orphan"}', '0x90'),
    ('attachworker_audit_findings{kind="foreign"}', '3x90'),
    ('attachworker_leftovers', '0x90'),
    ('attachworker_stuck_calls', '0x90'),
    ('attachworker_queue_length', '3x90'),
    ('attachworker_results_unsent', '0x90'),
    ('attachworker_messages_refused_total{reason="size"}', '3x90'),
    ('attachworker_maps{state="usable"}', '7x90'),
    ('attachworker_paths{state="running"}', '7x90'),
    ('attachworker_journal_bytes', '100000x90'),
    (
        'attachworker_operations_total{status="failed", code="in_use"}',
        '0+10x90',
    ),
    ('attachworker_operations_total{status="attached", code=""}', '0+10x90'),
)


def test_each_alert_is_raised_and_none_without_need(
    tmp_path: pathlib.Path,
) -> None:
    found = {rule['alert']: rule for rule in rules()}
    assert found.keys() == _RAISED_BY.keys()

    def case(
        series: list[tuple[str, str]], at: str, alert: str, raised: bool
    ) -> dict[str, Any]:
        return {
            'interval': '1m',
            'input_series': [
                {'series': name, 'values': values} for name, values in series
            ],
            # How often, not with which labels
            'promql_expr_test': [
                {
                    'expr': f'count(ALERTS{{alertname="{alert}",'
                    ' alertstate="firing"})',
                    'eval_time': at,
                    'exp_samples': [{'labels': '{}', 'value': 1}]
                    if raised
                    else [],
                }
            ],
        }

    cases = [
        case([(series, values)], at, alert, True)
        for alert, (series, values, at) in _RAISED_BY.items()
    ]
    cases += [case(list(_QUIET), '80m', alert, False) for alert in found]
    file = tmp_path / 'tests.yml'
    file.write_text(
        yaml.safe_dump(
            {
                'rule_files': [str(_RULES)],
                'evaluation_interval': '1m',
                'tests': cases,
            }
        )
    )
    assert 'SUCCESS' in promtool('test', 'rules', str(file))


def test_each_alert_has_a_runbook() -> None:
    titles = re.findall(
        r'^(\S.*)\n[=-]{3,}$', _RUNBOOKS.read_text(), flags=re.MULTILINE
    )
    anchors = {
        re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')
        for title in titles
    }
    for rule in rules():
        page, _, anchor = rule['annotations']['runbook'].partition('#')
        assert page == 'admin/runbooks.html'
        assert anchor in anchors, rule['alert']


def test_the_alerts_know_all_codes() -> None:
    """A code that is renamed would otherwise be let through."""
    (rule,) = (
        one for one in rules() if one['alert'] == 'AttachworkerOperationsFail'
    )
    (left_out,) = re.findall(r'code!~"([^"]+)"', rule['expr'])
    assert set(left_out.split('|')) <= set(fields.ERROR_CODES)
