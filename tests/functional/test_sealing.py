# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Passwords on the way through RabbitMQ, and on its disk."""

import base64
from collections.abc import Iterator
import json
import pathlib
from typing import Any

import kombu
import oslo_messaging as messaging
import pytest

from attachworker import casts
from attachworker import client
from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from attachworker.bus.secrets import WireSecrets
from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

CANARY = 'CANARY-5ealed-on-the-wire'
#: One that does travel in the clear, and stays on the broker's disk.
PLAIN = 'CANARY-plain-on-the-wire'
#: One that a caller without a key has, and does not send.
UNSENT = 'CANARY-never-on-the-wire'


@pytest.fixture(scope='module')
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('keys') / 'keys'
    path.touch(mode=0o600)
    path.write_text(f'one {base64.b64encode(bytes(range(32))).decode()}\n')
    return str(path)


@pytest.fixture(scope='module')
def one(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    key_file: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[daemon.Daemon]:
    options = ('[secrets]', f'key_file = {key_file}')
    with daemon.Daemon(
        tmp_path_factory.mktemp('one'),
        broker.url,
        shared_bed.root,
        options=options,
    ) as running:
        yield running


def holding(directory: pathlib.Path, password: str = CANARY) -> list[str]:
    """Files that hold the password."""
    return [
        str(path)
        for path in directory.rglob('*')
        if path.is_file() and password.encode() in path.read_bytes()
    ]


def send_plain(one: daemon.Daemon, request: objects.AttachRequest) -> None:
    """As a caller of an earlier release does, or a hostile one."""
    messaging.get_rpc_client(
        one.transport,
        bus.get_target(one.name),
        serializer=serializer.ObjectSerializer(),
    ).cast({}, 'attach_volume', request=request)


def waiting(broker: rabbitmq.RabbitMQNode, one: daemon.Daemon) -> Any:
    """The body of the message in the worker's queue; it stays there."""
    with kombu.Connection(broker.url.replace('rabbit:', 'amqp:')) as link:
        channel = link.channel()
        queue = f'attachworker.{one.name}'
        # The broker may not have seen yet that the consumer was killed.
        message = caller.until(lambda: channel.basic_get(queue))
        body = message.body
        channel.basic_reject(message.delivery_tag, requeue=True)
    return body if isinstance(body, bytes) else body.encode()


@pytest.mark.parametrize('sealed', [False, True], ids=['plain', 'sealed'])
def test_what_the_broker_has(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    one: daemon.Daemon,
    key_file: str,
    sealed: bool,
) -> None:
    # Given a worker that is down, and an attach with a password
    password = CANARY if sealed else PLAIN
    volume = bed.create_volume(chap=('user', password))
    request = harness.attach_request(volume)
    one.kill()
    with client.AttachWorkerClient(
        broker.url, one.name, key_file=key_file if sealed else None
    ) as node:
        if sealed:
            node.api.cast_attach_volume({}, one.name, request)
        else:
            send_plain(one, request)
        # Then the broker has the password only if it was not sealed
        body = waiting(broker, one)
        assert request.request_id.encode() in body
        assert (password.encode() in body) is not sealed
        if sealed:
            assert holding(broker.directory) == []
        fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
        one.start()
        one.wait_until_ready()
        if not sealed:
            # And the worker does not take it
            caller.until(lambda: 'must be sealed' in one.log)
            with pytest.raises(exception.RequestNotFound):
                node.get_result(request.request_id)
            fault.release()
            return
        # And the worker has it on its disk neither, while it needs it
        assert fault.wait(15)
        assert holding(one.directory) == []
        fault.release()
        caller.until(lambda: node.get_result(request.request_id))
        result = node.get_result(request.request_id)
        assert result.status == 'attached', result.as_dict()
        assert holding(one.directory) == []
        node.detach_volume(volume.name, raise_on_failure=True)


def test_callers_are_told(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    one: daemon.Daemon,
    key_file: str,
) -> None:
    volume = bed.create_volume(chap=('user', UNSENT))
    with client.AttachWorkerClient(broker.url, one.name) as node:
        # A caller without the key is told that it needs one
        found = node.get_connector_properties()['attachworker']['sealing']
        assert found == {'required': True, 'key_ids': ['one']}
        with pytest.raises(exception.InvalidConnectionInfo) as caught:
            node.attach_volume(volume.connection_info())
        assert 'must be sealed' in str(caught.value)
        assert 'CANARY' not in str(caught.value)
        # And does not send the password: it would be on the broker's disk
        assert holding(broker.directory, UNSENT) == []
        assert 'must be sealed' not in one.log.rpartition('Taking')[2]
        # What has no secret is taken as it is
        plain = bed.create_volume()
        result = node.attach_volume(plain.connection_info())
        assert result.status == 'attached', result.as_dict()
        node.detach_volume(result.attachment_id, raise_on_failure=True)
    with client.AttachWorkerClient(
        broker.url, one.name, key_file=key_file
    ) as node:
        result = node.attach_volume(volume.connection_info())
        assert result.status == 'attached', result.as_dict()
        node.detach_volume(result.attachment_id, raise_on_failure=True)


def test_casts_are_sealed(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    one: daemon.Daemon,
    key_file: str,
) -> None:
    # Given a worker that is down, and a caller that has its key
    volume = bed.create_volume(chap=('user', CANARY))
    request = harness.attach_request(volume)
    one.kill()
    with casts.Casts(
        one.transport,
        one.name,
        name=f'sealing-{volume.name}',
        secrets=WireSecrets.read(key_file),
    ) as mine:
        # When it sends an attach with a password, until that is done
        future = mine.send(request)
        body = waiting(broker, one)
        # Then the broker does not have the password
        assert request.request_id.encode() in body
        assert CANARY.encode() not in body
        assert holding(broker.directory) == []
        # And the worker has it
        one.start()
        one.wait_until_ready()
        result = future.result(30)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        gone = mine.send(harness.detach_request(volume.name)).result(30)
        assert gone.status == 'detached', gone.as_dict()


def test_casts_in_the_clear_are_refused(
    bed: SimulatedBed, one: daemon.Daemon, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume(chap=('user', PLAIN))
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    send_plain(one, request)
    assert receiver.got.wait(30)
    [result] = receiver.results
    assert result.status == 'failed'
    assert result.error.code == 'invalid_connection_info'
    assert 'must be sealed' in result.error.message
    assert PLAIN not in str(result.as_dict())


def test_casts_in_the_clear_are_not_sent(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, one: daemon.Daemon
) -> None:
    # Given a caller without the key, and a worker that is down
    volume = bed.create_volume(chap=('user', UNSENT))
    one.kill()
    api = rpcapi.AttachWorkerAPI(one.transport, timeout=2)
    with pytest.raises(messaging.MessagingTimeout):
        api.cast_attach_volume({}, one.name, harness.attach_request(volume))
    with casts.Casts(
        one.transport, one.name, name=f'plain-{volume.name}', pause=1
    ) as mine:
        future = mine.send(harness.attach_request(volume))
        # When the worker is there, and says that it wants passwords sealed
        one.start()
        one.wait_until_ready()
        # Then the caller is told so, and the broker has never had one
        with pytest.raises(exception.InvalidConnectionInfo) as caught:
            future.result(60)
    assert 'must be sealed' in str(caught.value)
    assert UNSENT not in str(caught.value)
    assert holding(broker.directory, UNSENT) == []


def test_what_was_read_on_the_bus_opens_nowhere_else(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    one: daemon.Daemon,
    key_file: str,
) -> None:
    # Given a sealed attach that somebody has read on the bus
    volume = bed.create_volume(chap=('user', CANARY))
    request = harness.attach_request(volume)
    sealed = serializer.ObjectSerializer(
        WireSecrets.read(key_file), host=one.name
    ).serialize_entity({}, request)
    link = messaging.get_rpc_client(
        one.transport, bus.get_target(one.name), timeout=30
    )
    # When it is sent to do something else
    stolen = json.loads(json.dumps(sealed))
    stolen['versioned_object.data']['attachment_id'] = 'another'
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        link.call({}, 'attach_volume', request=stolen)
    # Then it is refused, and the very same is not
    assert 'for another request' in str(caught.value)
    result = link.call({}, 'attach_volume', request=sealed)
    assert result['versioned_object.data']['status'] == 'attached'
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'
    # And the very same once more has nothing done: it is known
    assert link.call({}, 'attach_volume', request=sealed) == result
    assert one.api.list_attachments({}, one.name) == []


def test_a_caller_that_listens_on_another_exchange(
    bed: SimulatedBed,
    one: daemon.Daemon,
    key_file: str,
    receiver: caller.Receiver,
) -> None:
    # Given a service that has its results sent to an exchange of its own
    assert receiver.reply_to['exchange'] != bus.EXCHANGE
    volume = bed.create_volume(chap=('user', CANARY))
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    # When it sends a sealed attach, and nobody waits for that
    api = rpcapi.AttachWorkerAPI(
        one.transport, secrets=WireSecrets.read(key_file)
    )
    api.cast_attach_volume({}, one.name, request)
    # Then it is told there, and of no password
    assert receiver.got.wait(30)
    [result] = receiver.results
    assert result.request_id == request.request_id
    assert result.status == 'attached', result.as_dict()
    assert CANARY not in str(result.as_dict())
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'


def test_a_worker_without_a_key_says_so_once(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    with daemon.Daemon(tmp_path, broker.url, bed.root) as bare:
        lines = [
            line for line in bare.log.splitlines() if 'in the clear' in line
        ]
        assert len(lines) == 1
        found = bare.api.get_connector_properties({}, bare.name)
        expected = {'required': False, 'key_ids': []}
        assert found['attachworker']['sealing'] == expected
