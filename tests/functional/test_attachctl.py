# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl as people run it: a process, its output, its exit code."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading
from typing import Any

from oslo_config import cfg
import pytest

from attachworker.bus import transport as bus
from tests.functional import caller
from tests.functional import conftest
from tests.functional import fake_worker
from tests.functional import rabbitmq

COMMAND = [sys.executable, '-m', 'attachworker.cmd.attachctl']


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


@pytest.fixture
def where(broker: rabbitmq.RabbitMQNode, start: conftest.Start) -> list[str]:
    start('one')
    return ['--transport-url', broker.url, '--host', 'one']


@pytest.fixture
def volume(tmp_path: pathlib.Path) -> str:
    path = tmp_path / 'volume.json'
    path.write_text(json.dumps(fake_worker.connection_info()))
    return str(path)


def test_attach_list_show_detach(where: list[str], volume: str) -> None:
    attached = run(
        *where, 'attach', volume, '--attachment-id', 'a-1', '--format', 'json'
    )
    assert (attached.returncode, attached.stderr) == (0, '')
    assert json.loads(attached.stdout)['device']['path'] == '/dev/sda'

    listed = run(*where, 'list')
    assert '| a-1 ' in listed.stdout
    shown = run(*where, 'show', 'a-1', '--format', 'json')
    assert json.loads(shown.stdout)['state'] == 'attached'

    detached = run(*where, 'detach', 'a-1')
    assert detached.returncode == 0
    assert 'detached' in detached.stdout
    gone = run(*where, 'show', 'a-1')
    assert gone.returncode == 1
    assert gone.stderr.count('\n') == 1
    assert 'a-1' in gone.stderr


def test_configuration_names_bus_and_host(
    where: list[str], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / 'worker.conf'
    path.write_text(f'[DEFAULT]\ntransport_url = {where[1]}\nhost = one\n')
    answer = run('ping', '--config-file', str(path), '--format', 'json')
    assert json.loads(answer.stdout)['host'] == 'one'


def test_no_worker_and_no_bus_are_3(
    broker: rabbitmq.RabbitMQNode, volume: str
) -> None:
    nobody = run(
        '--transport-url', broker.url, '--host', 'nobody', 'attach', volume
    )
    assert nobody.returncode == 3
    assert nobody.stderr.startswith('attachctl: No attachworker serves')
    assert nobody.stderr.count('\n') == 1
    no_bus = run(
        '--transport-url',
        f'rabbit://u:SECRET@127.0.0.1:{rabbitmq.free_port()}/',
        'ping',
    )
    assert no_bus.returncode == 3
    assert no_bus.stderr.count('\n') == 1
    assert 'SECRET' not in no_bus.stderr


def test_stopped_worker_is_3(
    broker: rabbitmq.RabbitMQNode, start: conftest.Start, volume: str
) -> None:
    start('stopped').stop()
    answer = run(
        '--transport-url',
        broker.url,
        '--host',
        'stopped',
        '--timeout',
        '1',
        'attach',
        volume,
    )
    assert answer.returncode == 3
    assert 'did not answer' in answer.stderr


def test_interrupt_leaves_no_traceback(
    where: list[str], start: conftest.Start
) -> None:
    worker = start('one')
    process = subprocess.Popen(
        [*COMMAND, *where, 'attach', '-'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(fake_worker.connection_info('slow-1')))
    process.stdin.close()
    process.stdin = None
    caller.until(lambda: worker.seen)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=20)
    # Then that is all that it says, and how to go on
    request_id = worker.seen[0].request_id
    assert (process.returncode, error) == (
        130,
        'attachctl: interrupted; what the worker has begun goes on: '
        f'attachctl result --wait {request_id}\n',
    )
    assert output == f'Request {request_id}\n'


def test_steps_are_shown_live_on_a_terminal(
    where: list[str], start: conftest.Start
) -> None:
    transport = bus.get_notification_transport(cfg.CONF, where[1])
    worker = start('steps')
    attach = worker.attach_volume

    def notify(ctxt: Any, request: Any) -> Any:
        result = attach(ctxt, request)
        for request_id in (result.request_id, 'of somebody else'):
            payload = {
                'request_id': request_id,
                'status': 'done',
                'step': f'Step-of-{request_id}',
                'elapsed': 0.25,
            }
            transport._driver.send_notification(
                bus.messaging.Target(topic=f'{bus.NOTIFICATION_TOPIC}.info'),
                {},
                {'event_type': 'attach.step', 'payload': payload},
                2.0,
            )
        return result

    worker.attach_volume = notify  # type: ignore[method-assign]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, where[0], where[1], '--host', 'steps', 'attach', '-'],
        stdin=subprocess.PIPE,
        stdout=slave,
    )
    os.close(slave)
    printed: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 4096):
                printed.append(data)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process.communicate(
        json.dumps(fake_worker.connection_info()).encode(), timeout=30
    )
    reader.join()
    os.close(master)
    transport.cleanup()
    text = b''.join(printed).decode()
    assert process.returncode == 0
    assert '0.250 s Step-of-' in text
    assert 'somebody else' not in text
