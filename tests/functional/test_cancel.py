# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Cancelling over RabbitMQ: what runs, what waits, and across a kill."""

from collections.abc import Iterator

import pytest

from attachworker import client
from attachworker.cmd import attachctl
from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


@pytest.fixture
def one(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[daemon.Daemon]:
    """A worker with one place."""
    directory = tmp_path_factory.mktemp('one')
    with daemon.Daemon(
        directory, broker.url, bed.root, options=('max_running = 1',)
    ) as running:
        yield running


def test_running_and_waiting(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, one: daemon.Daemon
) -> None:
    # Given an attach in the middle of its login, and one that waits for it
    running, waiting = (bed.create_volume() for _ in range(2))
    before = bed.snapshot()
    fault = bed.arm(Fault.HANG_AFTER, 'iscsi.login')
    first = harness.attach_request(running)
    second = harness.attach_request(waiting)
    calls = [
        caller.Background(one.api.attach_volume, {}, one.name, first),
    ]
    assert fault.wait(15)
    calls.append(
        caller.Background(one.api.attach_volume, {}, one.name, second)
    )
    with client.AttachWorkerClient(broker.url, one.name) as node:
        caller.until(lambda: node.cancel(second.request_id))
        # When the one that waits is cancelled, then it ends at once
        assert calls[1].result().error.code == 'cancelled'
        # When the one that runs is cancelled
        file = str(one.config_file)
        arguments = ['cancel', first.request_id, '--config-file', file]
        assert attachctl.main(arguments) == 0
        # Then its login is waited for, and undone
        fault.release()
        result = calls[0].result()
        assert result.error.code == 'cancelled', result.as_dict()
        assert result.leftovers == []
        assert bed.snapshot() == before
        # And nothing is left to cancel
        assert attachctl.main(arguments) == 1
        assert node.list_attachments() == []


def test_killed_after_a_cancel(
    bed: SimulatedBed, one: daemon.Daemon, receiver: caller.Receiver
) -> None:
    # Given an attach that is cancelled in the middle
    volume = bed.create_volume()
    before = bed.snapshot()
    fault = bed.arm(Fault.HANG_AFTER, 'scsi.scan')
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    assert fault.wait(15)
    assert one.api.cancel({}, one.name, request.request_id) is True
    # When the worker is killed before it has undone it
    one.kill()
    fault.release()
    one.start()
    one.wait_until_ready()
    # Then the next one undoes it, and it is cancelled as was promised
    assert receiver.got.wait(30)
    [result] = receiver.results
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
