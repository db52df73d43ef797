# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The daemon on this machine: it starts, and it ends. Nothing is attached."""

from collections.abc import Iterator
import pathlib
import signal
import time

import pytest

from attachworker.cmd import attachctl
from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

pytestmark = pytest.mark.skipif(
    not daemon.is_root(), reason='the privileged helper needs root'
)

#: Seconds in which a daemon with nothing to do ends.
_SOON = 15.0


@pytest.fixture(scope='module')
def running(
    broker: rabbitmq.RabbitMQNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[daemon.Daemon]:
    with daemon.Daemon(tmp_path_factory.mktemp('one'), broker.url) as one:
        yield one


def cannot_start(one: daemon.Daemon) -> str:
    """The line that says why; there is no other."""
    one.start()
    try:
        assert one.wait(daemon.START_TIMEOUT) == 1, one.log
    finally:
        one.kill()
        one.transport.cleanup()
    assert 'Traceback' not in one.log
    lines = [line for line in one.log.splitlines() if ' CRITICAL ' in line]
    assert len(lines) == 1, one.log
    return lines[0]


def test_it_answers_attachctl(
    running: daemon.Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(running.config_file)
    assert attachctl.main(['ping', '--config-file', file]) == 0
    assert running.name in capsys.readouterr().out
    assert attachctl.main(['connector', '--config-file', file]) == 0
    assert 'platform' in capsys.readouterr().out


def test_it_knows_this_host(running: daemon.Daemon) -> None:
    found = running.api.get_connector_properties({}, running.name)
    assert found['os_type'] == 'linux'
    assert found['host'] == running.name
    assert set(found['attachworker']['protocols']) == {
        'fibre_channel',
        'iscsi',
        'local',
        'nfs',
        'nvmeof',
        'rbd',
    }


def test_reload_changes_options(running: daemon.Daemon) -> None:
    text = running.config_file.read_text()
    assert ' DEBUG ' not in running.log
    running.config_file.write_text(
        text.replace(
            '[DEFAULT]',
            '[DEFAULT]\ndebug = true\nmax_results = 2000\nmax_queued = 9\n'
            'max_reslts = 1',
        )
    )
    running.signal(signal.SIGHUP)
    # It says what has changed, what has not, and what nobody knows
    caller.until(lambda: 'DEFAULT.debug changed' in running.log)
    assert 'DEFAULT.max_results changed from [None] to [2000]' in running.log
    assert 'immutable option DEFAULT.max_queued' in running.log
    assert 'did you mean max_results?' in running.log
    running.config_file.write_text(text)
    running.signal(signal.SIGHUP)
    assert running.api.ping({}, running.name)['ready']


@pytest.mark.parametrize('content', ['[no section', 'debug = perhaps', None])
def test_bad_reload_changes_nothing(
    running: daemon.Daemon, content: str | None
) -> None:
    text = running.config_file.read_text()
    if content is None:
        running.config_file.unlink()
    else:
        running.config_file.write_text(
            text.replace('[DEFAULT]', f'[DEFAULT]\n{content}')
        )
    seen = running.log.count(' ERROR ')
    running.signal(signal.SIGHUP)
    caller.until(lambda: running.log.count(' ERROR ') > seen)
    running.config_file.write_text(text)
    assert running.api.ping({}, running.name)['ready']
    assert 'Traceback' not in running.log


def test_journal_of_another_worker(
    running: daemon.Daemon,
    broker: rabbitmq.RabbitMQNode,
    tmp_path: pathlib.Path,
) -> None:
    line = cannot_start(
        daemon.Daemon(tmp_path, broker.url, state_path=running.state_path)
    )
    assert str(running.state_path) in line
    assert 'another worker' in line


def test_name_of_another_worker(
    running: daemon.Daemon,
    broker: rabbitmq.RabbitMQNode,
    tmp_path: pathlib.Path,
) -> None:
    line = cannot_start(daemon.Daemon(tmp_path, broker.url, host=running.name))
    assert running.name in line


@pytest.mark.parametrize('url', ['fake://', 'rabbit://u:SECRET@[::1'])
def test_bad_url(
    broker: rabbitmq.RabbitMQNode, tmp_path: pathlib.Path, url: str
) -> None:
    one = daemon.Daemon(tmp_path, broker.url)
    one.configure(f'transport_url = {url}')
    line = cannot_start(one)
    assert 'transport_url' in line
    assert 'SECRET' not in one.log


@pytest.mark.parametrize(
    ('option', 'named'),
    [
        ('user = no-such-user', 'no-such-user'),
        ('state_path = /proc/no/such', '/proc/no/such'),
        ('max_running = many', 'max_running'),
        ('portal_networks = 192.0.2.1/24', 'portal_networks'),
        ('state_path = /dev/shm', 'chmod go-w /dev/shm'),
        ('runtime_path = /dev/shm', 'chmod go-w /dev/shm'),
        ('runtime_path = /usr/lib', 'not in memory'),
    ],
)
def test_bad_option(
    broker: rabbitmq.RabbitMQNode,
    tmp_path: pathlib.Path,
    option: str,
    named: str,
) -> None:
    one = daemon.Daemon(tmp_path, broker.url, options=(option,))
    assert named in cannot_start(one)


@pytest.mark.parametrize(
    ('line', 'said'), [('[no section', 'no section'), ('debug = x', 'debug')]
)
def test_bad_configuration(
    broker: rabbitmq.RabbitMQNode, tmp_path: pathlib.Path, line: str, said: str
) -> None:
    one = daemon.Daemon(tmp_path, broker.url, options=(line,))
    one.start()
    assert one.wait(_SOON) == 1
    one.transport.cleanup()
    assert one.log.count('\n') == 1
    assert said in one.log


def test_it_stops_while_there_is_no_broker(tmp_path: pathlib.Path) -> None:
    port = rabbitmq.free_port()
    one = daemon.Daemon(tmp_path, f'rabbit://u:SECRET@127.0.0.1:{port}/')
    one.start()
    caller.until(lambda: 'Connection failed' in one.log)
    children = one.children()
    began = time.monotonic()
    one.signal(signal.SIGTERM)
    assert one.wait(_SOON) == 0
    assert time.monotonic() - began < _SOON
    caller.until(lambda: not any(map(daemon.runs, children)))
    one.transport.cleanup()
    assert 'SECRET' not in one.log
    assert 'Traceback' not in one.log


def test_it_ends_cleanly(running: daemon.Daemon) -> None:
    children = running.children()
    assert children, 'the privileged helper is not there'
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    assert running.wait(_SOON) == 0, running.log
    print(f'ended in {time.monotonic() - began:.1f} s')
    assert 'Traceback' not in running.log
    caller.until(lambda: not any(map(daemon.runs, children)))


def test_it_waits_for_what_runs(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    with daemon.Daemon(tmp_path, broker.url, bed.root) as one:
        request = harness.attach_request(volume)
        call = caller.Background(one.api.attach_volume, {}, one.name, request)
        assert fault.wait()
        one.signal(signal.SIGTERM)
        call.join(1.0)
        assert call.is_alive()
        fault.release()
        # It goes when that is done, and who waits has the answer.
        assert call.result().status == 'attached'
        assert one.wait(_SOON) == 0
        one.restart()
        detach = harness.detach_request(volume.name)
        assert one.api.detach_volume({}, one.name, detach).error is None
