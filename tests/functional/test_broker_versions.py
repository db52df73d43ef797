# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The same on each RabbitMQ, from the oldest that is supported on."""

from collections.abc import Callable
from collections.abc import Iterator
import time
from typing import Any

import kombu
import oslo_messaging as messaging
import pytest

from attachworker import casts
from attachworker import client
from attachworker import exception
from attachworker.bus import transport as bus
from tests import harness
from tests import newer
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

#: As RabbitMQ will have it by default.
_REFUSING = 'deprecated_features.permit.transient_nonexcl_queues = false\n'


@pytest.fixture(scope='module', params=['installed', 'newer'])
def node(request: pytest.FixtureRequest) -> Iterator[rabbitmq.RabbitMQNode]:
    if request.param == 'installed':
        if not rabbitmq.is_installed():
            pytest.skip('rabbitmq-server is not installed')
        made = rabbitmq.RabbitMQNode()
    else:
        try:
            root = newer.rabbitmq()
        except newer.NotAvailable as error:
            pytest.skip(str(error))
        made = rabbitmq.RabbitMQNode(root=root, settings=_REFUSING)
    with made as started:
        version = started.control('version').strip().split('.')
        numbers = tuple(int(one) for one in version[:2])
        assert numbers >= (4, 3) or request.param == 'installed'
        yield started


@pytest.fixture
def worker(
    node: rabbitmq.RabbitMQNode, bed: SimulatedBed
) -> Iterator[harness.Harness]:
    with harness.Harness(bed, node.url) as running:
        yield running


def queues(node: rabbitmq.RabbitMQNode) -> set[str]:
    return set(node.control('list_queues', 'name').split()) - {'name'}


@pytest.mark.timeout(180)
def test_calls_and_casts_are_answered(
    node: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    bed: SimulatedBed,
) -> None:
    volumes = [bed.create_volume() for _ in range(2)]
    requests = [harness.attach_request(volume) for volume in volumes]
    with client.AttachWorkerClient(node.url, worker.name, timeout=10) as ours:
        assert ours.ping()['ready']
        attached = ours.send(ours.api.attach_volume, requests[0])
        assert attached.status == 'attached'
        with casts.Casts(ours.transport, worker.name, name='me') as sent:
            assert sent.send(requests[1]).result(30).status == 'attached'
            for volume in volumes:
                request = harness.detach_request(volume.name)
                assert sent.send(request).result(30).status == 'detached'


def test_nothing_is_left_of_a_caller(node: rabbitmq.RabbitMQNode) -> None:
    before = queues(node)
    for options in ('', '?rabbit_transient_quorum_queue=true'):
        with client.AttachWorkerClient(node.url + options, 'nobody') as ours:
            with pytest.raises(exception.HostNotFound):
                ours.ping()
            (reply_queue,) = queues(node) - before
            assert reply_queue.startswith('reply_')
        caller.until(lambda: queues(node) == before)


@pytest.mark.timeout(180)
def test_no_call_takes_longer_than_it_may(node: rabbitmq.RabbitMQNode) -> None:
    known, new = (
        client.AttachWorkerClient(node.url, 'nobody', timeout=2)
        for _ in range(2)
    )
    # Given a caller that has connections, and one that has none yet
    with pytest.raises(exception.HostNotFound):
        known.ping()
    # When the broker does not say anything any more
    node.freeze()
    try:
        for each in (known, new):
            # Then a call ends as soon as it has to, and so does the caller
            began = time.monotonic()
            with pytest.raises(messaging.MessagingTimeout):
                each.ping()
            asked = time.monotonic()
            each.close()
            print(f'{asked - began:.1f} s, {time.monotonic() - asked:.1f} s')
            assert asked - began < 8
            assert time.monotonic() - asked < 10
    finally:
        node.thaw()


def test_a_broker_that_refuses_the_queue_for_answers_is_named(
    node: rabbitmq.RabbitMQNode,
) -> None:
    node.control('add_user', 'meagre', 'secret')
    node.control('set_permissions', 'meagre', '^attachworker', '.*', '.*')
    url = node.url.replace('guest:guest', 'meagre:secret')
    with client.AttachWorkerClient(url, 'nobody', timeout=20) as ours:
        for _ in range(2):
            with pytest.raises(exception.BusUnavailable, match="'reply_"):
                ours.ping()
    node.control('delete_user', 'meagre')


def unbind(channel: Any, worker: str) -> None:
    for queue in (worker, f'{casts.TOPIC}.me'):
        channel.queue_unbind(queue, bus.EXCHANGE, queue)


def make_exchange_anew(channel: Any, worker: str) -> None:
    channel.exchange_delete(bus.EXCHANGE)
    channel.exchange_declare(
        bus.EXCHANGE, 'topic', durable=True, auto_delete=False
    )


def delete_queues(channel: Any, worker: str) -> None:
    for queue in (worker, f'{casts.TOPIC}.me'):
        channel.queue_delete(queue)


@pytest.mark.timeout(180)
@pytest.mark.parametrize('hurt', [unbind, make_exchange_anew, delete_queues])
def test_what_messages_come_through_is_made_again(
    node: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    bed: SimulatedBed,
    hurt: Callable[[Any, str], None],
) -> None:
    # Given a worker and a caller that wait for messages
    volume = bed.create_volume()
    with (
        client.AttachWorkerClient(node.url, worker.name, timeout=10) as ours,
        casts.Casts(ours.transport, worker.name, 'me', pause=1.0) as sent,
        kombu.Connection(node.url.replace('rabbit:', 'amqp:')) as link,
    ):
        request = harness.attach_request(volume)
        assert sent.send(request).result(30).status == 'attached'
        # When somebody takes from both what these come through
        began = time.monotonic()
        hurt(link.channel(), f'{bus.TOPIC}.{worker.name}')

        def answers() -> bool:
            try:
                return bool(ours.ping()['ready'])
            except (exception.AttachWorkerError, messaging.MessagingTimeout):
                return False

        # Then both have it again within a minute, without a restart
        caller.until(answers, 50)
        print(f'a worker again after {time.monotonic() - began:.1f} s')
        gone = sent.send(harness.detach_request(volume.name))
        assert gone.result(50).status == 'detached'
        print(f'a caller again after {time.monotonic() - began:.1f} s')


@pytest.mark.timeout(180)
def test_a_caller_whose_queue_for_answers_was_deleted_gets_its_answer(
    node: rabbitmq.RabbitMQNode, worker: harness.Harness
) -> None:
    with client.AttachWorkerClient(node.url, worker.name, timeout=50) as ours:
        ours.ping()
        for queue in queues(node):
            if queue.startswith('reply_'):
                node.control('delete_queue', queue)
        began = time.monotonic()
        assert ours.ping()['ready']
        print(f'after {time.monotonic() - began:.1f} s')


@pytest.mark.timeout(180)
def test_a_worker_without_a_broker_does_not_say_that_it_is_ready(
    node: rabbitmq.RabbitMQNode, worker: harness.Harness
) -> None:
    def shown() -> bool:
        metrics = worker.worker._census.gauges()
        (said,) = (one for one in metrics if one.name == 'attachworker_ready')
        return bool(said.samples[0].value)

    def ready() -> bool:
        # It may change between two looks.
        before, said, after = shown(), worker.worker.ping()['ready'], shown()
        assert said in (before, after)
        return after

    assert ready()
    node.freeze()
    caller.until(lambda: not ready(), 60)
    node.thaw()
    caller.until(ready, 60)
