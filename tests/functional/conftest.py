# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures: the broker, workers that only pretend, and the real one."""

from collections.abc import Callable
from collections.abc import Iterator
import signal

import pytest

from attachworker import client
from tests import harness
from tests.functional import caller
from tests.functional import fake_worker
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed


@pytest.fixture(scope='session', autouse=True)
def sigint() -> None:
    """A shell has what it starts in the background ignore Ctrl-C.

    What these tests start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def broker() -> Iterator[rabbitmq.RabbitMQNode]:
    """A broker for the whole run: leave it as you found it."""
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    with rabbitmq.RabbitMQNode() as node:
        yield node


@pytest.fixture
def broken_broker() -> Iterator[rabbitmq.RabbitMQNode]:
    """A broker of one's own: to be killed, frozen, restarted."""
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    with rabbitmq.RabbitMQNode() as node:
        yield node


Start = Callable[..., fake_worker.FakeWorker]
Connect = Callable[[str], client.AttachWorkerClient]


class FakeWorkers:
    """Pretended workers by host; making and ending one takes seconds."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], fake_worker.FakeWorker] = {}

    def start(self, url: str, host: str) -> fake_worker.FakeWorker:
        worker = self._running.get((url, host))
        if worker is None:
            worker = fake_worker.FakeWorker(url, host)
            self._running[url, host] = worker
        worker.reset()
        return worker

    def stop(self, keep: str | None = None) -> None:
        # Each takes seconds, and none of the processor.
        ending = [
            caller.Background(self._running.pop(key).stop)
            for key in list(self._running)
            if key[0] != keep
        ]
        for each in ending:
            each.result()


@pytest.fixture(scope='session')
def fake_workers(broker: rabbitmq.RabbitMQNode) -> Iterator[FakeWorkers]:
    workers = FakeWorkers()
    yield workers
    workers.stop()


@pytest.fixture
def start(
    broker: rabbitmq.RabbitMQNode, fake_workers: FakeWorkers
) -> Iterator[Start]:
    """Start pretended workers; they have no memory of other tests.

    Who stops one gives it a host name of its own.
    """

    def start_one(host: str, url: str = broker.url) -> fake_worker.FakeWorker:
        return fake_workers.start(url, host)

    yield start_one
    fake_workers.stop(keep=broker.url)


@pytest.fixture
def connect(broker: rabbitmq.RabbitMQNode) -> Iterator[Connect]:
    """Make clients; they end with the test."""
    clients = []

    def connect_one(host: str) -> client.AttachWorkerClient:
        clients.append(client.AttachWorkerClient(broker.url, host, timeout=10))
        return clients[-1]

    yield connect_one
    for each in clients:
        each.close()


@pytest.fixture(scope='session')
def shared_bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture(scope='session')
def shared_worker(
    broker: rabbitmq.RabbitMQNode, shared_bed: SimulatedBed
) -> Iterator[harness.Harness]:
    with harness.Harness(
        shared_bed,
        broker.url,
        iscsi={'scan_attempts': 2},
        rpc__reply_timeout=2.0,
        rpc__reply_retry_first=0.1,
    ) as running:
        yield running


@pytest.fixture
def bed(shared_bed: SimulatedBed) -> Iterator[SimulatedBed]:
    """A simulated host that is, after the test, as it was before."""
    before = shared_bed.snapshot()
    yield shared_bed
    shared_bed.control('clear_faults')
    caller.until(lambda: shared_bed.snapshot() == before)


@pytest.fixture
def worker(
    bed: SimulatedBed, shared_worker: harness.Harness
) -> Iterator[harness.Harness]:
    """The real worker; it has, after the test, nothing attached."""
    yield shared_worker
    shared_worker.bed.control('clear_faults')
    left = shared_worker.attachments()
    for one in left:
        shared_worker.detach(one.partition(' ')[0], force=True)
    assert left == []


@pytest.fixture
def raw(
    broker: rabbitmq.RabbitMQNode, worker: harness.Harness
) -> Iterator[caller.RawClient]:
    client = caller.RawClient(broker.url, worker.name)
    yield client
    client.close()


@pytest.fixture
def receiver(broker: rabbitmq.RabbitMQNode) -> Iterator[caller.Receiver]:
    """Takes results; it runs already."""
    made = caller.Receiver(broker.url)
    made.server.start()
    yield made
    made.stop()
