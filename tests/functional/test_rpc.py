# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Callers and workers over a real broker."""

import statistics
import threading
import time
from typing import Any
import uuid

from oslo_config import cfg
import oslo_messaging as messaging
import pytest

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import transport as bus
from tests import harness
from tests.functional import caller
from tests.functional import conftest
from tests.functional import fake_worker
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed


def attach_request(
    name: str = 'volume-1', **fields: Any
) -> objects.AttachRequest:
    return objects.AttachRequest(
        request_id=str(uuid.uuid4()),
        attachment_id=str(uuid.uuid4()),
        connection_info=fake_worker.connection_info(name),
        **fields,
    )


def test_call_returns_objects(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    worker = start('one')
    node = connect('one')

    result = node.attach_volume(fake_worker.connection_info())

    assert result.status == 'attached'
    assert result.device.path == '/dev/sda'
    # The secret has arrived where it is needed.
    info = worker.seen[0].connection_info
    assert info.auth_password == fake_worker.CHAP_SECRET
    [attachment] = node.list_attachments()
    assert attachment.attachment_id == result.attachment_id
    node.detach_volume(result.attachment_id, raise_on_failure=True)
    assert node.list_attachments() == []
    assert node.get_connector_properties()['host'] == 'one'


def test_errors_of_the_worker_arrive_as_themselves(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    start('one')
    with pytest.raises(exception.AttachmentNotFound, match='no-such-id'):
        connect('one').get_attachment('no-such-id')
    with pytest.raises(exception.RequestNotFound):
        connect('one').get_result('no-such-id')


def test_failure_is_a_result_and_raised_if_asked_for(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    start('one')
    info = fake_worker.connection_info('bad-1')
    result = connect('one').attach_volume(info)
    assert result.error.code == 'target_unreachable'
    with pytest.raises(
        exception.OperationFailed, match='target_unreachable'
    ) as caught:
        connect('one').attach_volume(info, raise_on_failure=True)
    assert caught.value.result.status == 'failed'


def test_hosts_on_one_broker_do_not_mix(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    one, two = start('one'), start('two')

    for _ in range(5):
        assert connect('one').ping()['host'] == 'one'
        connect('two').attach_volume(fake_worker.connection_info())

    assert len(two.seen) == 5
    assert one.seen == []


def test_two_callers_get_their_own_answers(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    start('one')
    wrong: list[str] = []

    def attach(name: str) -> None:
        node = connect('one')
        for number in range(20):
            mine = f'{name}-{number}'
            result = node.attach_volume(
                fake_worker.connection_info(), attachment_id=mine
            )
            if result.attachment_id != mine:
                wrong.append(mine)

    callers = [
        threading.Thread(target=attach, args=(name,))
        for name in ('first', 'second')
    ]
    for each in callers:
        each.start()
    for each in callers:
        each.join()

    assert wrong == []


def test_unknown_host_is_an_error_at_once(connect: conftest.Connect) -> None:
    node = connect('nobody')
    began = time.monotonic()
    with pytest.raises(exception.HostNotFound, match='nobody'):
        node.ping()
    with pytest.raises(exception.HostNotFound):
        node.api.cast_attach_volume({}, 'nobody', attach_request())
    assert time.monotonic() - began < 2


def test_broker_that_is_down_is_an_error_soon() -> None:
    transport = bus.get_transport(
        cfg.CONF, f'rabbit://guest:guest@127.0.0.1:{rabbitmq.free_port()}/'
    )
    began = time.monotonic()
    with pytest.raises(exception.BusUnavailable):
        rpcapi.AttachWorkerAPI(transport).ping({}, 'one')
    assert time.monotonic() - began < 10
    transport.cleanup()


def test_wrong_password_is_named(broker: rabbitmq.RabbitMQNode) -> None:
    transport = bus.get_transport(
        cfg.CONF, broker.url.replace('guest:guest', 'guest:WRONG')
    )
    with pytest.raises(exception.BusUnavailable) as caught:
        rpcapi.AttachWorkerAPI(transport).ping({}, 'one')
    assert 'refused' in str(caught.value)
    assert 'WRONG' not in str(caught.value)
    transport.cleanup()


def test_unknown_version_is_refused(
    broker: rabbitmq.RabbitMQNode, start: conftest.Start
) -> None:
    start('one')
    transport = bus.get_transport(cfg.CONF, broker.url)
    for version in ('1.1', '2.0'):
        target = bus.get_target('one')(version=version)
        with pytest.raises(messaging.UnsupportedVersion):
            messaging.get_rpc_client(transport, target, timeout=10).call(
                {}, 'ping'
            )
    transport.cleanup()


@pytest.mark.parametrize(
    'request_',
    [
        None,
        'text',
        {},
        {'versioned_object.name': 'NoSuch'},
        {
            'versioned_object.name': 'AttachRequest',
            'versioned_object.namespace': 'attachworker',
            'versioned_object.version': '9.9',
            'versioned_object.data': {},
        },
    ],
)
def test_what_is_no_request_is_an_error(
    broker: rabbitmq.RabbitMQNode, start: conftest.Start, request_: Any
) -> None:
    start('one')
    transport = bus.get_transport(cfg.CONF, broker.url)
    client = messaging.get_rpc_client(
        transport, bus.get_target('one'), timeout=10
    )
    with pytest.raises(exception.InvalidConnectionInfo):
        client.call({}, 'attach_volume', request=request_)
    transport.cleanup()


def test_dead_worker_is_noticed_by_the_monitor(
    broker: rabbitmq.RabbitMQNode, start: conftest.Start
) -> None:
    # The queue of a stopped worker goes on to exist.
    start('dead').stop()
    transport = bus.get_transport(cfg.CONF, broker.url)
    api = rpcapi.AttachWorkerAPI(transport, call_monitor_timeout=2)
    began = time.monotonic()
    with pytest.raises(messaging.MessagingTimeout):
        api.attach_volume({}, 'dead', attach_request())
    assert time.monotonic() - began < 5
    transport.cleanup()


def test_cast_is_answered_until_confirmed(
    broker: rabbitmq.RabbitMQNode,
    start: conftest.Start,
    connect: conftest.Connect,
) -> None:
    worker = start('one')
    receiver = caller.Receiver(broker.url, refuse=2)
    receiver.server.start()
    request = attach_request(reply_to=receiver.reply_to)

    connect('one').api.cast_attach_volume({}, 'one', request)

    assert receiver.got.wait(10)
    receiver.stop()
    [result] = receiver.results
    assert result.request_id == request.request_id
    assert result.status == 'attached'
    assert worker.delivered == [request.request_id]


def test_caller_may_come_back_later(
    broker: rabbitmq.RabbitMQNode,
    start: conftest.Start,
    connect: conftest.Connect,
) -> None:
    worker = start('one')
    receiver = caller.Receiver(broker.url)
    request = attach_request(reply_to=receiver.reply_to)

    # The caller is gone, its queue and its exchange with it.
    connect('one').api.cast_attach_volume({}, 'one', request)
    while not worker.seen:
        time.sleep(0.05)
    time.sleep(0.5)
    # The worker has not made that exchange in its own way meanwhile, or
    # this would fail.
    receiver.server.start()

    assert receiver.got.wait(10)
    receiver.stop()


def test_results_for_nobody_hurt_nobody(
    broker: rabbitmq.RabbitMQNode, start: conftest.Start
) -> None:
    worker = start('hurt')
    result = objects.OperationResult(
        request_id='good', operation='detach', status='detached'
    )
    receiver = caller.Receiver(broker.url)
    receiver.server.start()
    for number, name in enumerate(('nobody', 'a' * 255)):
        nobody = objects.ReplyTo(exchange=name, topic=name, server=name)
        worker.results[f'bad-{number}'] = result
        worker.replies.deliver(f'bad-{number}', nobody, result)
    reply_to = objects.ReplyTo(**receiver.reply_to)
    worker.results['good'] = result
    worker.replies.deliver('good', reply_to, result)
    assert receiver.got.wait(10)
    receiver.stop()
    began = time.monotonic()
    worker.replies.stop()
    assert time.monotonic() - began < 3


def test_client_sends_again_while_the_broker_is_away(
    broken_broker: rabbitmq.RabbitMQNode, start: conftest.Start
) -> None:
    from attachworker import client

    worker = start('one', broken_broker.url)
    with client.AttachWorkerClient(broken_broker.url, 'one') as node:
        node.ping()
        broken_broker.kill()
        back = broken_broker.restart_later(2)
        result = node.attach_volume(fake_worker.connection_info(), timeout=45)
        back.join()
    assert result.status == 'attached'
    assert {each.request_id for each in worker.seen} == {result.request_id}


def test_queue_with_other_properties_is_named(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed
) -> None:
    # Given a queue from before quorum queues were wanted
    made = harness.Harness(bed, f'{broker.url}?rabbit_quorum_queue=true')
    before = bus.get_transport(cfg.CONF, broker.url)
    assert bus.declare_queue(before, made.name) == 0
    # Then the worker says so, and what to do
    with pytest.raises(
        exception.ConfigurationError, match='x-queue-type.*delete that queue'
    ):
        made.worker.start()
    made.__exit__(None, None, None)
    assert bus.declare_queue(before, made.name) == 0
    before.cleanup()


def test_latency_of_a_call(
    start: conftest.Start, connect: conftest.Connect
) -> None:
    start('one')
    node = connect('one')
    node.ping()
    seconds = []
    for _ in range(100):
        began = time.perf_counter()
        node.ping()
        seconds.append(time.perf_counter() - began)
    print(f'call: p50 {statistics.median(seconds) * 1000:.2f} ms')
    assert statistics.median(seconds) < 0.1
