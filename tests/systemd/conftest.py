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

"""A broker, storage and an installed worker, for the whole run."""

from collections.abc import Iterator
import os

import pytest

from attachworker import client
from tests.functional import rabbitmq
from tests.kernel import bed as kernel_bed
from tests.systemd import machine

#: Seconds that a broker may take to start in User-Mode Linux.
_BROKER = 240.0


@pytest.fixture(scope='session')
def broker() -> Iterator[rabbitmq.RabbitMQNode]:
    with rabbitmq.RabbitMQNode(start_timeout=_BROKER) as node:
        yield node


@pytest.fixture(scope='session')
def bed(broker: rabbitmq.RabbitMQNode) -> Iterator[kernel_bed.KernelBed]:
    assert os.environ.get('LAB_INIT') == 'systemd', (
        'LAB_INIT=systemd tools/test.sh kernel tests/systemd'
    )
    machine.start_daemons()
    made = kernel_bed.KernelBed()
    machine.install(broker.url)
    yield made
    machine.run('systemctl', 'stop', 'attachworker')
    made.close()


@pytest.fixture
def worker(
    bed: kernel_bed.KernelBed, broker: rabbitmq.RabbitMQNode
) -> Iterator[client.AttachWorkerClient]:
    """It runs when a test begins, with nothing attached."""
    machine.run('systemctl', 'reset-failed', 'attachworker', check=False)
    machine.run('systemctl', 'start', 'attachworker')
    with client.AttachWorkerClient(broker.url, machine.HOST) as made:
        assert made.list_attachments() == []
        yield made
