# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
    # Tests start it more often than systemd lets: five times in 10 seconds.
    # Each of those also tries to start the socket, which systemd counts even
    # if iscsid runs already and there is nothing to do.
    for unit in ('attachworker', 'iscsid.socket'):
        machine.run('systemctl', 'reset-failed', unit, check=False)
    machine.run('systemctl', 'start', 'attachworker')
    with client.AttachWorkerClient(broker.url, machine.HOST) as made:
        assert made.list_attachments() == []
        yield made
