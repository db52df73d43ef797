# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A broker that dies, freezes or cuts connections, and then is back.

At each of the times that a request has: while it waits in the queue, while
its operation runs, and while its result is wanted.
"""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import time
from typing import Any

from oslo_config import cfg
import pytest

from attachworker import casts
from attachworker import client
from attachworker import objects
from attachworker.bus import transport as bus
from tests import harness
from tests.contract.bed import Volume
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

#: A silent broker is given up after about twice these seconds, and not after
#: 30, so that nobody has to wait for that.
_HEARTBEAT = 2
#: Longer than anything takes where other tests take the processors.
_PATIENCE = 120.0


class Site:
    """A broker to be hurt, two workers on hosts of their own, a caller."""

    def __init__(
        self, node: rabbitmq.RabbitMQNode, path: pathlib.Path
    ) -> None:
        self.node = node
        self.url = f'{node.url}?heartbeat_timeout_threshold={_HEARTBEAT}'
        self.beds = [SimulatedBed() for _ in range(2)]
        self.workers = [
            daemon.Daemon(path, self.url, bed.root, state_path=path / name)
            for name, bed in zip(('one', 'two'), self.beds, strict=True)
        ]
        self.transport = bus.get_transport(cfg.CONF, self.url)

    def start(self) -> None:
        for each in self.workers:
            each.start()
        for each in self.workers:
            each.wait_until_ready()

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.transport.cleanup()
        for bed in self.beds:
            bed.close()
        self.transport.cleanup()


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    with rabbitmq.RabbitMQNode() as node:
        made = Site(node, tmp_path_factory.mktemp('site'))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def receiver(site: Site) -> Iterator[caller.Receiver]:
    """Somebody who takes no result yet."""
    made = caller.Receiver(site.url, refuse=10**6)
    made.server.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def clean(site: Site) -> Iterator[None]:
    before = [bed.snapshot() for bed in site.beds]
    yield
    assert [bed.snapshot() for bed in site.beds] == before


def restart(site: Site) -> None:
    site.node.restart()


def freeze(site: Site) -> None:
    """For so long that both sides give their connections up."""
    site.node.freeze()
    time.sleep(_HEARTBEAT * 4)
    site.node.thaw()


def cut(site: Site) -> None:
    site.node.cut()


trouble = pytest.mark.parametrize('hurt', [restart, freeze, cut])
Hurt = Callable[[Site], None]


def results(
    receiver: caller.Receiver, number: int
) -> dict[str, objects.OperationResult]:
    """The results by request, once there are so many; each has but one."""

    def found() -> dict[str, objects.OperationResult]:
        return {each.request_id: each for each in receiver.results}

    caller.until(lambda: len(found()) >= number, _PATIENCE)
    for each in receiver.results:
        assert each.as_dict() == found()[each.request_id].as_dict()
    return found()


def asked(volume: Volume, **values: Any) -> objects.AttachRequest:
    return harness.attach_request(
        volume, deadline_seconds=int(_PATIENCE), **values
    )


@pytest.mark.timeout(300)
@trouble
def test_while_requests_wait_and_run_and_answer(
    site: Site, receiver: caller.Receiver, hurt: Hurt
) -> None:
    one, two = site.workers
    bed, other_bed = site.beds
    # Given requests that wait for a worker which is not there
    two.kill()
    waiting = [
        asked(volume, reply_to=receiver.reply_to)
        for volume in [other_bed.create_volume() for _ in range(5)]
    ]
    for each in waiting:
        two.api.cast_attach_volume({}, two.name, each)
    # And a result that nobody takes yet
    answered = bed.create_volume()
    unsent = asked(answered, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, unsent)
    caller.until(lambda: receiver.asked, _PATIENCE)
    # And an operation that runs, with somebody who waits for it in a call
    running = bed.create_volume()
    fault = bed.arm(Fault.HANG_AFTER, 'iscsi.login')
    cast = asked(running, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, cast)
    assert fault.wait(_PATIENCE)
    with client.AttachWorkerClient(site.url, one.name) as node:
        call = caller.Background(node.send, node.api.attach_volume, cast)
        # When there is trouble, and all are there then
        hurt(site)
        fault.release()
        receiver.refuse = 0
        two.start()
        # Then who waited has the answer
        assert call.result(_PATIENCE).status == 'attached'
    # And each cast has its result
    found = results(receiver, len(waiting) + 2)
    for each in (*waiting, unsent, cast):
        assert found[each.request_id].status == 'attached'
    assert found[cast.request_id].as_dict() == call.result().as_dict()
    # And each volume can be used, and goes without a trace
    for worker, its_bed, requests in (
        (one, bed, [unsent, cast]),
        (two, other_bed, waiting),
    ):
        with client.AttachWorkerClient(site.url, worker.name) as node:
            for each in requests:
                device = found[each.request_id].device
                assert its_bed.read(device.path) != bytes(4096)
                gone = node.detach_volume(each.attachment_id)
                assert gone.status == 'detached', gone.as_dict()


@pytest.mark.timeout(300)
@trouble
def test_while_the_worker_is_killed_as_well(site: Site, hurt: Hurt) -> None:
    worker, bed = site.workers[0], site.beds[0]
    # Given a request that is sent until its result is there
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_AFTER, 'iscsi.login')
    with casts.Casts(site.transport, worker.name, 'me', pause=1.0) as mine:
        future = mine.send(asked(volume))
        assert fault.wait(_PATIENCE)
        # When the worker dies, there is trouble, and the worker is back
        worker.kill()
        hurt(site)
        fault.release()
        worker.start()
        # Then it has its result
        assert future.result(_PATIENCE).status == 'attached'
        gone = mine.send(harness.detach_request(volume.name))
        assert gone.result(_PATIENCE).status == 'detached'
