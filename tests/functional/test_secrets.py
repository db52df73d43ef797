# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A secret leaves no trace: in no log, file, answer or command line.

On the way it is readable: on the bus, and in the broker's own files.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import logging
import pathlib
from typing import Any
import uuid

import pytest

from attachworker import client
from attachworker import exception
from attachworker.cmd import attachctl
from attachworker.cmd import steps
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

CANARY = 'CANARY-5ecret-of-chap'
WRONG = 'CANARY-wr0ng-secret'
_MARK = b'CANARY'

#: Nobody is spared, except by TRACE, which logs every message.
_ALL_DEBUG = (
    'debug = true',
    'default_log_levels = amqp=DEBUG,kombu=DEBUG,oslo.messaging=DEBUG,'
    'oslo_messaging=DEBUG,taskflow=DEBUG,oslo.privsep=DEBUG',
)


@pytest.fixture(scope='module')
def one(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[daemon.Daemon]:
    directory = tmp_path_factory.mktemp('one')
    with daemon.Daemon(
        directory, broker.url, shared_bed.root, options=_ALL_DEBUG
    ) as running:
        yield running


@pytest.fixture
def node(
    broker: rabbitmq.RabbitMQNode, one: daemon.Daemon
) -> Iterator[client.AttachWorkerClient]:
    with client.AttachWorkerClient(broker.url, one.name) as made:
        yield made


def found_in_files(one: daemon.Daemon) -> list[str]:
    """Files of the worker that hold a secret."""
    return [
        str(path)
        for path in one.directory.rglob('*')
        if path.is_file() and _MARK in path.read_bytes()
    ]


def found_in_processes() -> list[str]:
    """Processes that show a secret to all who look at them."""
    found = []
    for name in ('cmdline', 'environ'):
        for path in pathlib.Path('/proc').glob(f'[0-9]*/{name}'):
            try:
                if _MARK in path.read_bytes():
                    found.append(str(path))
            except OSError:
                pass  # it has ended
    return found


def with_password(volume: beds.Volume, password: str) -> dict[str, Any]:
    info = volume.connection_info()
    info['data']['auth_password'] = password
    return info


# The names of tests are in our own environment.
@pytest.mark.parametrize('password', [CANARY, WRONG], ids=['right', 'wrong'])
@pytest.mark.parametrize(
    ('kind', 'verb'),
    [(Fault.HANG_BEFORE, 'iscsi.login'), (Fault.HANG_AFTER, 'iscsi.login')],
)
def test_chap(
    bed: SimulatedBed,
    one: daemon.Daemon,
    node: client.AttachWorkerClient,
    caplog: pytest.LogCaptureFixture,
    password: str,
    kind: Fault,
    verb: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    volume = bed.create_volume(chap=('user', CANARY))
    info = with_password(volume, password)
    fault = bed.arm(kind, verb)
    seen: list[Mapping[str, Any]] = []
    ids = {'request_id': str(uuid.uuid4()), 'attachment_id': 'a-1'}

    def show(event: str, payload: Mapping[str, Any]) -> None:
        if payload['request_id'] == ids['request_id']:
            seen.append(payload)

    with steps.StepWatcher(node.transport, show):
        call = caller.Background(
            lambda: node.attach_volume(info, raise_on_failure=True, **ids)
        )
        # While the request runs
        assert fault.wait(15)
        in_files, in_processes = found_in_files(one), found_in_processes()
        fault.release()
        assert (in_files, in_processes) == ([], [])
        if password == CANARY:
            answer = str(call.result().as_dict())
        else:
            with pytest.raises(exception.OperationFailed) as caught:
                call.result()
            error = caught.value
            assert error.result.error.code == 'auth_failed'
            answer = f'{error!r} {error} {error.result!r}'
            answer += str(error.result.as_dict())
    # And afterwards
    assert seen
    answers = [
        answer,
        str(seen),
        str([each.as_dict() for each in node.list_attachments()]),
        str(node.get_result(ids['request_id'])),
        caplog.text,
    ]
    for text in answers:
        assert 'CANARY' not in text
    node.detach_volume('a-1', raise_on_failure=True)
    assert found_in_files(one) == []


@pytest.mark.parametrize('secret', [CANARY, WRONG], ids=['right', 'wrong'])
@pytest.mark.parametrize('kind', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
def test_discovery_and_mutual_chap(
    bed: SimulatedBed,
    one: daemon.Daemon,
    node: client.AttachWorkerClient,
    caplog: pytest.LogCaptureFixture,
    secret: str,
    kind: Fault,
) -> None:
    caplog.set_level(logging.DEBUG)
    volume = bed.create_volume(chap=('user', CANARY))
    info = volume.connection_info()
    info['data'] |= {
        'auth_username_in': 'them',
        'auth_password_in': f'{CANARY}-theirs',
        'discovery_auth_method': 'CHAP',
        'discovery_auth_username': 'finder',
        'discovery_auth_password': secret,
        'discovery_auth_username_in': 'them',
        'discovery_auth_password_in': f'{CANARY}-theirs',
    }
    bed.set_discovery_chap(('finder', CANARY))
    fault = bed.arm(kind, 'iscsi.discover')
    ids = {'request_id': str(uuid.uuid4()), 'attachment_id': 'a-3'}
    try:
        call = caller.Background(
            lambda: node.attach_volume(info, multipath=True, **ids)
        )
        # While the portals are asked for
        assert fault.wait(15)
        in_files, in_processes = found_in_files(one), found_in_processes()
        fault.release()
        assert (in_files, in_processes) == ([], [])
        answer = str(call.result().as_dict())
    finally:
        bed.set_discovery_chap(None)
    # And afterwards
    assert "'status': 'attached'" in answer
    # a discovery that was refused is told, and not with what
    assert ('refused the credentials' in answer) is (secret == WRONG)
    answer += str([each.as_dict() for each in node.list_attachments()])
    assert 'CANARY' not in answer + caplog.text
    node.detach_volume('a-3', raise_on_failure=True)
    assert found_in_files(one) == []


@pytest.mark.parametrize('secret', [CANARY, WRONG], ids=['right', 'wrong'])
@pytest.mark.parametrize('kind', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
def test_key_of_a_volume(
    bed: SimulatedBed,
    one: daemon.Daemon,
    node: client.AttachWorkerClient,
    caplog: pytest.LogCaptureFixture,
    secret: str,
    kind: Fault,
) -> None:
    caplog.set_level(logging.DEBUG)
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', CANARY)
    right = secret == CANARY
    # A wrong key opens nothing that could come late
    fault = bed.arm(kind if right else Fault.HANG_BEFORE, 'encryption.open')
    ids = {'request_id': str(uuid.uuid4()), 'attachment_id': 'a-4'}
    call = caller.Background(
        lambda: node.attach_volume(
            volume.connection_info(),
            encryption={'provider': 'luks2', 'key': secret},
            **ids,
        )
    )
    # While it is opened
    assert fault.wait(15)
    in_files, in_processes = found_in_files(one), found_in_processes()
    fault.release()
    assert (in_files, in_processes) == ([], [])
    answer = str(call.result().as_dict())
    # And afterwards
    assert ("'status': 'attached'" in answer) is right, answer
    assert ('encryption_failed' in answer) is not right
    answer += str([each.as_dict() for each in node.list_attachments()])
    assert 'CANARY' not in answer + caplog.text
    node.detach_volume('a-4', raise_on_failure=True)
    assert found_in_files(one) == []


@pytest.mark.parametrize('kind', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize('right', [True, False], ids=['right', 'wrong'])
def test_key_of_ceph(
    bed: SimulatedBed,
    one: daemon.Daemon,
    node: client.AttachWorkerClient,
    caplog: pytest.LogCaptureFixture,
    right: bool,
    kind: Fault,
) -> None:
    caplog.set_level(logging.DEBUG)
    info = bed.create_rbd_volume().connection_info()
    assert 'CANARY' in info['data']['keyring']
    if not right:
        info['data']['keyring'] += f'[client.other]\n\tkey = {CANARY}\n'
    # A wrong key maps nothing that could come late
    fault = bed.arm(kind if right else Fault.HANG_BEFORE, 'rbd.add')
    ids = {'request_id': str(uuid.uuid4()), 'attachment_id': 'a-5'}
    call = caller.Background(lambda: node.attach_volume(info, **ids))
    # While it is mapped
    assert fault.wait(15)
    in_files, in_processes = found_in_files(one), found_in_processes()
    fault.release()
    assert (in_files, in_processes) == ([], [])
    answer = str(call.result().as_dict())
    # And afterwards
    assert ("'status': 'attached'" in answer) is right, answer
    assert ('auth_failed' in answer) is not right
    answer += str([each.as_dict() for each in node.list_attachments()])
    assert 'CANARY' not in answer + caplog.text
    node.detach_volume('a-5', raise_on_failure=True)
    assert found_in_files(one) == []


def test_worker_that_is_killed(
    bed: SimulatedBed, one: daemon.Daemon, node: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume(chap=('user', CANARY))
    fault = bed.arm(Fault.HANG_AFTER, 'iscsi.login')
    request = harness.attach_request(volume)
    node.api.cast_attach_volume({}, one.name, request)
    assert fault.wait(15)
    one.kill()
    fault.release()
    assert found_in_files(one) == []
    one.restart()
    assert found_in_files(one) == []
    # The worker goes on with it, and has the password that it needs
    caller.until(lambda: node.get_result(request.request_id) is not None)
    result = node.get_result(request.request_id)
    assert result.status == 'attached', result.as_dict()
    assert 'CANARY' not in str(result.as_dict())
    node.detach_volume(request.attachment_id, raise_on_failure=True)
    assert found_in_files(one) == []


@pytest.mark.parametrize(
    'bad',
    ['CANARY\0', 'CANARY\n', 'CANARY' * 1000],
    ids=['NUL', 'line break', 'long'],
)
def test_secret_that_breaks_a_rule(
    bed: SimulatedBed,
    broker: rabbitmq.RabbitMQNode,
    one: daemon.Daemon,
    caplog: pytest.LogCaptureFixture,
    bad: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    volume = bed.create_volume(chap=('user', CANARY))
    request = harness.attach_request(volume).obj_to_primitive()
    data = request['versioned_object.data']['connection_info']
    data['versioned_object.data']['auth_password'] = bad
    raw = caller.RawClient(broker.url, one.name)
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        raw.call('attach_volume', request=request)
    raw.cast('attach_volume', request=request)
    raw.close()
    assert 'CANARY' not in str(caught.value)
    assert 'CANARY' not in caplog.text
    one.api.ping({}, one.name)
    assert found_in_files(one) == []


def test_attachctl(
    bed: SimulatedBed,
    one: daemon.Daemon,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    volume = bed.create_volume(chap=('user', CANARY))
    path = tmp_path / 'volume.json'
    where = ['--config-file', str(one.config_file), 'attach', str(path)]
    for password, code in ((WRONG, 1), (CANARY, 0)):
        path.write_text(json.dumps(with_password(volume, password)))
        arguments = [*where, '--attachment-id', 'a-2']
        assert attachctl.main(arguments) == code
    out, error = capsys.readouterr()
    assert 'CANARY' not in out + error
    one.api.detach_volume({}, one.name, harness.detach_request('a-2'))
    assert found_in_files(one) == []
