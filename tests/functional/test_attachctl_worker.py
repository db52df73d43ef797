# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl and the real worker, on a simulated host."""

from collections.abc import Callable
import io
import json
import os
import pathlib
import pty
import subprocess
import sys
import time
from typing import Any

import pytest

from attachworker.cmd import attachctl
from attachworker.cmd import status
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

#: Runs a command and returns its exit code, its output and its errors.
Run = Callable[..., tuple[int, str, str]]

#: For commands that wait in vain.
SOON = ('--timeout', '1')
STEPS = ('GetConnector', 'ConnectTarget', 'GatherPaths', 'VerifyDevice')


@pytest.fixture
def run(
    broker: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    def run_one(*arguments: str) -> tuple[int, str, str]:
        where = ['--transport-url', broker.url, '--host', worker.name]
        code = attachctl.main([*where, *arguments])
        return code, *capsys.readouterr()

    return run_one


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    def run_one(*arguments: str) -> Any:
        code, out, error = run(*arguments, '--format', 'json')
        assert (code, error) == (0, '')
        return json.loads(out)

    return run_one


def write(path: pathlib.Path, volume: beds.Volume) -> str:
    path.write_text(json.dumps(volume.connection_info()))
    return str(path)


def test_ping_and_connector(run: Run, run_json: Callable[..., Any]) -> None:
    assert run_json('ping')['ready'] is True
    connector = run_json('connector')
    assert connector['initiator'].startswith('iqn.')
    protocols = connector['attachworker']['protocols']
    assert '/sys/class/fc_host' in protocols.pop('fibre_channel')
    assert protocols == dict.fromkeys(
        ('iscsi', 'local', 'nfs', 'nvmeof', 'rbd')
    )
    code, out, _ = run('connector')
    assert code == 0
    assert connector['initiator'] in out
    # Protocols that work are told, and not only those that do not
    for protocol in protocols:
        assert f'protocols.{protocol} ' in out
    assert 'assemblers.multipathd ' in out
    # And whether a map is wanted is what somebody says
    assert run_json('connector', '--multipath')['multipath'] is True


def test_life_of_an_attachment(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    run_json: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    volume = bed.create_volume(chap=('user', 'CANARY-secret'), resizable=True)
    file = write(tmp_path / 'volume.json', volume)

    attached = run_json(
        'attach', file, '--attachment-id', 'a-1', '--volume-id', 'v-1'
    )

    assert attached['status'] == 'attached'
    assert bed.read(attached['device']['path']) == volume.pattern
    [listed] = run_json('list')
    shown = run_json('show', 'a-1')
    assert listed == shown
    assert (shown['state'], shown['volume_id']) == ('attached', 'v-1')
    assert shown['last_result'] == attached
    assert run_json('result', attached['request_id']) == attached
    for command in (
        ['list'],
        ['show', 'a-1'],
        ['result', attached['request_id']],
    ):
        code, out, error = run(*command)
        assert (code, error) == (0, '')
        assert 'attached' in out
        assert 'CANARY' not in out
    size = 2 * volume.size
    bed.resize_volume(volume, size)
    extended = run_json('extend', 'a-1', '--expected-size', str(size))
    assert extended['status'] == 'extended'
    assert (extended['old_size'], extended['device']['size']) == (
        volume.size,
        size,
    )
    code, out, _ = run('extend', 'a-1', '--expected-size', str(2 * size))
    assert code == 1
    assert 'extend_failed' in out
    detached = run_json('detach', 'a-1')
    assert detached['status'] == 'detached'
    assert run_json('list') == []
    code, _, error = run('show', 'a-1')
    assert code == 1
    assert 'a-1' in error
    assert error.count('\n') == 1


def test_whatever_format_is_asked_for(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = bed.create_volume()
    file = write(tmp_path / 'volume.json', volume)

    def out(*words: str) -> str:
        code, text, error = run(*words)
        assert (code, error) == (0, '')
        return text

    # The request is named before anything is done
    first, *table = out('attach', file, '--attachment-id', 'a-6').splitlines()
    assert first.startswith('Request ')
    assert any(first.split()[1] in line for line in table)
    assert '32 MiB' in '\n'.join(table)
    assert 'timings' not in '\n'.join(table)
    assert 'timings.GetConnector' in out('-v', 'result', first.split()[1])
    # Scripts take one column of all
    value = ('--format', 'value', '--column')
    assert out('list', *value, 'attachment_id') == 'a-6\n'
    path = out('show', 'a-6', *value, 'device.path').strip()
    assert bed.read(path) == volume.pattern
    # And nothing of a name is cut, however narrow the terminal is
    monkeypatch.setenv('COLUMNS', '40')
    assert volume.target in out('show', 'a-6')
    monkeypatch.delenv('COLUMNS')
    head = out('list').splitlines()[1]
    assert 'SIZE' in head
    assert 'WWN' not in head
    wide = out('list', '-o', 'wide')
    assert ' 1 of 1 ' in wide
    assert 'WWN' in wide
    worker.detach('a-6')


def test_an_encrypted_volume_gets_another_key(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    run_json: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    keys = {name: tmp_path / name for name in ('old', 'new')}
    for name, file in keys.items():
        # A line, as an editor leaves it
        file.write_text(f'the-{name}-passphrase\n')
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', 'the-old-passphrase')
    info = write(tmp_path / 'volume.json', volume)
    attach = ('attach', info, '--attachment-id', 'a-13')
    attach += ('--encryption', 'luks2', '--key-file')
    opened = run_json(*attach, str(keys['old']))
    assert opened['status'] == 'attached'
    rotated = run_json(
        'rotate-key',
        'a-13',
        *('--old-key-file', str(keys['old'])),
        *('--new-key-file', str(keys['new'])),
    )
    assert rotated['status'] == 'rotated'
    # Then the new one opens it, and the old one does not
    assert run('detach', 'a-13')[0] == 0
    code, out, _ = run(*attach, str(keys['old']))
    assert code == 1
    assert 'encryption_failed' in out
    assert run(*attach, str(keys['new']))[0] == 0
    assert run('detach', 'a-13')[0] == 0


def test_an_attach_is_cancelled_by_its_attachment(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    run_json: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    # Given an attach that hangs
    volume = bed.create_volume()
    file = write(tmp_path / 'volume.json', volume)
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    sent = run_json('attach', file, '--cast', '--attachment-id', 'a-11')
    assert fault.wait()
    # When somebody waits for its result, for a time
    code, _, error = run('result', '--wait', sent['request_id'], *SOON)
    assert code == 1
    assert 'still under way' in error
    # And it is cancelled by the name of the attachment
    assert run('cancel', 'a-12')[0] == 1
    waiting = caller.Background(
        lambda: run('result', '--wait', sent['request_id'])
    )
    assert run_json('cancel', 'a-11') is True
    fault.release()
    # Then who waits is told
    code, out, _ = waiting.result()
    assert code == 1
    assert 'cancelled' in out
    # And the name stands for nothing any more
    assert run('cancel', 'a-11')[0] == 1


def test_a_worker_that_takes_nothing_is_not_there(
    worker: harness.Harness, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run('ping')[0] == 0
    monkeypatch.setattr(worker.worker.ready, 'is_set', lambda: False)
    code, out, _ = run('ping')
    assert code == 3
    assert '| ready' in out


def test_attach_from_standard_input(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = bed.create_volume()
    info = json.dumps(volume.connection_info())
    monkeypatch.setattr(sys, 'stdin', io.StringIO(info))
    code, out, _ = run('attach', '-', '--attachment-id', 'a-2')
    assert code == 0
    assert '/dev/sd' in out
    worker.detach('a-2')


def test_failed_operations_are_1(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    tmp_path: pathlib.Path,
) -> None:
    volume = bed.create_volume()
    file = write(tmp_path / 'volume.json', volume)
    bed.stop_portal(volume.portals[0])
    code, out, _ = run('attach', file)
    assert code == 1
    assert 'target_unreachable' in out
    bed.start_portal(volume.portals[0])
    code, out, _ = run('attach', file, '--expected-wwn', '36001405' + 'f' * 25)
    assert code == 1
    assert 'identity_mismatch' in out
    assert run('attach', file, '--attachment-id', 'a-3')[0] == 0
    path = worker.api.get_attachment({}, worker.name, 'a-3').device.path
    bed.mount(path.removeprefix('/dev/'), '/mnt')
    code, out, _ = run('detach', 'a-3')
    assert code == 1
    assert 'in_use' in out
    bed.unmount('/mnt')
    assert run('detach', 'a-3')[0] == 0
    assert run('result', 'no-such-request')[0] == 1
    assert run('show', 'no-such-id')[0] == 1


def test_a_detach_of_what_nobody_knows_is_no_success(
    run: Run,
    bed: SimulatedBed,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
) -> None:
    # Given an attachment whose name somebody types wrongly
    volume = bed.create_volume()
    assert worker.attach(volume, 'a-8').status == 'attached'
    code, _, error = run('detach', 'a-9')
    assert code == 1
    assert 'no attachment a-9' in error
    assert 'did you mean a-8?' in error
    assert error.count('\n') == 1
    # Scripts may say that they do not care
    assert run('detach', 'a-9', '--ignore-not-found')[::2] == (0, '')
    # And it goes by what it is connected to, too
    assert worker.attachments() == ['a-8 attached']
    file = write(tmp_path / 'volume.json', volume)
    assert run('detach', 'a-8', '--connection-info', file)[::2] == (0, '')


def test_cast_and_result(
    bed: SimulatedBed,
    worker: harness.Harness,
    run: Run,
    run_json: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    volume = bed.create_volume()
    file = write(tmp_path / 'volume.json', volume)
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    sent = run_json('attach', file, '--cast')
    assert fault.wait()
    code, out, _ = run('result', sent['request_id'])
    assert (code, out) == (0, 'still under way\n')
    fault.release()
    result = caller.until(lambda: run_json('result', sent['request_id']))
    assert result['status'] == 'attached'
    assert run('detach', sent['attachment_id'])[0] == 0


def test_no_worker_is_3(
    run: Run, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    file = write(tmp_path / 'volume.json', bed.create_volume())
    code, out, error = run('--host', 'nobody', 'attach', file)
    assert (code, out) == (3, '')
    assert error.count('\n') == 1


def test_steps_are_shown_while_they_happen(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
) -> None:
    # Given an attach that somebody looks at on a terminal
    volume = bed.create_volume()
    file = write(tmp_path / 'volume.json', volume)
    fault = bed.arm(Fault.HANG_AFTER, 'scsi.inquiry')
    command = [sys.executable, '-m', 'attachworker.cmd.attachctl']
    command += ['--transport-url', broker.url, '--host', worker.name]
    command += ['attach', file, '--attachment-id', 'a-4']
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdout=slave, stderr=slave)
    os.close(slave)
    printed: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 4096):
                printed.append(data)
        except OSError:
            pass

    def text() -> str:
        return b''.join(printed).decode()

    reader = caller.Background(read)
    # When a step hangs, those before it are on the screen
    assert fault.wait(20)
    caller.until(lambda: 'ConnectTarget' in text())
    assert process.poll() is None
    assert 'FIELD' not in text()
    # And then the others, and the result
    time.sleep(0.2)
    fault.release()
    assert process.wait(20) == 0
    reader.result()
    os.close(master)
    steps, _, table = text().partition('+--')
    for step in STEPS:
        assert step in steps, steps
    assert '/dev/sd' in table
    worker.detach('a-4')


def test_audit(
    run: Run,
    run_json: Callable[..., Any],
    bed: SimulatedBed,
    worker: harness.Harness,
) -> None:
    # Given an attachment whose device somebody has taken away
    volume = bed.create_volume()
    assert worker.attach(volume, 'a-7').status == 'attached'
    state = {'attachment_id': 'a-7', 'state': 'ok', 'detail': ''}
    assert run_json('audit') == {'attachments': [state], 'findings': []}
    assert run('audit', '--exit-code')[0] == 0
    bed.drop_session(volume, volume.portals[0])
    # Then an audit shows it
    assert run('audit', '--exit-code')[0] == 1
    code, out, error = run('audit')
    assert (code, error) == (0, '')
    assert '| a-7 ' in out
    assert 'missing' in out
    # And who lists or shows attachments is told, too
    (listed,) = run_json('list')
    assert (listed['state'], listed['on_host']['state']) == (
        'attached',
        'missing',
    )
    assert run_json('show', 'a-7') == listed
    assert 'missing' in run('list')[1]
    assert 'on_host.detail' in run('show', 'a-7')[1]
    worker.detach('a-7')


def test_check_of_the_bus(
    worker: harness.Harness,
    broker: rabbitmq.RabbitMQNode,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def bus(host: str, url: str = broker.url) -> tuple[str, str]:
        file = tmp_path / 'worker.conf'
        file.write_text(f'[DEFAULT]\ntransport_url = {url}\nhost = {host}\n')
        status.main(['check', '--config-file', str(file), '--format', 'json'])
        found = json.loads(capsys.readouterr().out)
        (one,) = (each for each in found if each['check'] == 'bus')
        return one['state'], one['detail']

    version = worker.worker.ping()['version']
    rabbitmq_version = broker.control('version').strip()
    name = f'RabbitMQ {rabbitmq_version}'
    assert bus(worker.name) == ('ok', f'{name}, worker {version}')
    assert bus('nobody') == ('ok', f'{name}, no worker has started yet')
    # And what does not fit is named
    state, detail = bus(worker.name, f'{broker.url}?rabbit_quorum_queue=true')
    assert state == 'failure'
    assert 'x-queue-type' in detail
    broker.control('add_user', 'meagre', 'secret')
    broker.control('set_permissions', 'meagre', '^attachworker', '.*', '.*')
    meagre = broker.url.replace('guest:guest', 'meagre:secret')
    state, detail = bus(worker.name, meagre)
    assert state == 'failure'
    assert "access to queue 'reply_" in detail
    broker.control('delete_user', 'meagre')
