# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Results for receivers that never confirm, over a real broker."""

from collections.abc import Callable
from collections.abc import Iterator
import time

import kombu
from oslo_config import cfg
import pytest

from attachworker import objects
from attachworker.bus import replies
from attachworker.bus import transport as bus
from tests.functional import caller
from tests.functional import rabbitmq

#: Seconds that a receiver has for its receipt.
TIMEOUT = 2.0


class Sender(replies.ReplySender):
    """:ivar settled: requests that are over, in this order"""

    def __init__(self, url: str) -> None:
        self.settled: list[str] = []
        self.transport = bus.get_transport(cfg.CONF, url)
        super().__init__(
            self.transport,
            lambda request_id: objects.OperationResult(
                request_id=request_id, operation='detach', status='detached'
            ),
            lambda request_id, receiver: self.settled.append(request_id),
            retention=600,
            timeout=TIMEOUT,
            retry_first=0.2,
        )

    def send(self, request_id: str, reply_to: objects.ReplyTo) -> None:
        self.deliver(request_id, reply_to, None)

    def close(self) -> None:
        self.stop()
        self.transport.cleanup()


@pytest.fixture
def sender(broker: rabbitmq.RabbitMQNode) -> Iterator[Sender]:
    made = Sender(broker.url)
    yield made
    made.close()


@pytest.fixture
def hole(
    broker: rabbitmq.RabbitMQNode,
) -> Iterator[Callable[[int], objects.ReplyTo]]:
    """Receivers whose queues are there, and that nobody reads."""
    with kombu.Connection(broker.url.replace('rabbit:', 'amqp:')) as link:
        channel = link.channel()
        exchange = kombu.Exchange('holes', 'topic', durable=True)

        def make(number: int) -> objects.ReplyTo:
            kombu.Queue(
                f'hole.{number}',
                exchange,
                routing_key=f'hole.{number}',
                channel=channel,
                auto_delete=False,
                durable=True,
            ).declare()
            return objects.ReplyTo(
                exchange='holes', topic='hole', server=str(number)
            )

        yield make
        for number in range(100):
            channel.queue_delete(f'hole.{number}')
        channel.exchange_delete('holes')


def good_result(
    broker: rabbitmq.RabbitMQNode, sender: Sender, patience: float
) -> float:
    """Begin to send, with one result more for a receiver that is there.

    :returns: seconds until it has it
    """
    receiver = caller.Receiver(broker.url)
    receiver.server.start()
    sender.start()
    began = time.monotonic()
    sender.send('good', objects.ReplyTo(**receiver.reply_to))
    assert receiver.got.wait(patience)
    seconds = time.monotonic() - began
    receiver.stop()
    return seconds


def test_a_receiver_that_is_new_waits_for_none_that_is_silent(
    broker: rabbitmq.RabbitMQNode,
    sender: Sender,
    hole: Callable[[int], objects.ReplyTo],
) -> None:
    # Given results for 100 receivers that never confirm
    for number in range(100):
        sender.send(f'lost-{number}', hole(number))
    # When there is one for a receiver that nothing is known of
    seconds = good_result(broker, sender, 90)
    # Then it is there at once
    caller.until(lambda: 'good' in sender.settled)
    print(f'an honest result beside 100 silent receivers: {seconds:.1f} s')
    assert seconds < 10
    assert sender.settled == ['good']


def test_a_receiver_that_is_there_waits_for_none_that_does_not_exist(
    broker: rabbitmq.RabbitMQNode, sender: Sender
) -> None:
    # Given results for 200 receivers whose exchanges there are not
    for number in range(200):
        nowhere = objects.ReplyTo(
            exchange=f'nowhere-{number}', topic='t', server='s'
        )
        sender.send(f'lost-{number}', nowhere)
    # When there is one for a receiver that is there
    seconds = good_result(broker, sender, 120)
    # Then it is there at once
    print(f'an honest result beside 200 missing exchanges: {seconds:.1f} s')
    assert seconds < 10


def test_a_broker_that_was_away_makes_no_receiver_a_silent_one(
    broken_broker: rabbitmq.RabbitMQNode,
) -> None:
    # Given a result that is to be sent while the broker is away, and
    # connections that are made again soon: oslo.messaging's own pause grows,
    # too, to 13 seconds by then
    url = f'{broken_broker.url}?rabbit_interval_max=1'
    sender = Sender(url)
    sender.start()
    receiver = caller.Receiver(url)
    receiver.server.start()
    reply_to = objects.ReplyTo(**receiver.reply_to)
    sender.send('first', reply_to)
    caller.until(lambda: 'first' in sender.settled)
    broken_broker.kill()
    sender.send('good', reply_to)
    back = broken_broker.restart_later(30)
    # When it is back
    back.join()
    began = time.monotonic()
    # Then the result has not to wait for a pause that grew meanwhile
    caller.until(lambda: 'good' in sender.settled, timeout=90)
    seconds = time.monotonic() - began
    print(f'a result after 30 seconds without a broker: {seconds:.1f} s')
    receiver.stop()
    sender.close()
    assert seconds < 15
