# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Fixtures: the broker, and workers that only pretend."""

from collections.abc import Callable
from collections.abc import Iterator

import pytest

from attachworker import client
from tests.functional import fake_worker
from tests.functional import rabbitmq


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


@pytest.fixture
def start(broker: rabbitmq.RabbitMQNode) -> Iterator[Start]:
    """Start pretended workers; they end with the test."""
    workers = []

    def start_one(host: str, url: str = broker.url) -> fake_worker.FakeWorker:
        workers.append(fake_worker.FakeWorker(url, host))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.stop()


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
