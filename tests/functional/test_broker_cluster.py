# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A cluster of three brokers, with quorum queues."""

from collections.abc import Iterator
import pathlib

from oslo_config import cfg
import pytest

from attachworker.bus import transport as bus
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.functional import stories
from tests.simulator.bed import SimulatedBed

_OPTIONS = (
    'rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true'
    # A killed node closes its connections; a silent one would not.
    '&heartbeat_timeout_threshold=5'
)
_VOLUMES = 10
_ROUNDS = 6


@pytest.fixture
def cluster() -> Iterator[list[rabbitmq.RabbitMQNode]]:
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    first = rabbitmq.RabbitMQNode()
    nodes = [first, *(rabbitmq.RabbitMQNode(first=first) for _ in range(2))]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in reversed(nodes):
            node.stop()


@pytest.mark.timeout(stories.PATIENCE)
def test_node_of_a_cluster_is_killed_under_load(
    cluster: list[rabbitmq.RabbitMQNode],
    bed: SimulatedBed,
    tmp_path: pathlib.Path,
) -> None:
    # Given a worker and a caller that know all three nodes, the first of
    # which leads the queue of the worker, because it was made there
    each_alone = [
        bus.get_transport(cfg.CONF, f'{node.url}?{_OPTIONS}')
        for node in cluster
    ]
    hosts = ','.join(f'guest:guest@127.0.0.1:{each.port}' for each in cluster)
    url = f'rabbit://{hosts}/?{_OPTIONS}'
    transport = bus.get_transport(cfg.CONF, url)
    told = [
        stories.Story(bed.create_volume(), _ROUNDS) for _ in range(_VOLUMES)
    ]
    before = bed.snapshot()
    worker = daemon.Daemon(tmp_path, url, bed.root)
    assert bus.declare_queue(each_alone[0], worker.name) == 0
    with (
        worker,
        stories.Watched(transport, worker.name, 'me', pause=2.0) as through,
    ):
        for alone in each_alone:
            assert bus.declare_queue(alone, worker.name) == 1
            alone.cleanup()
        # When it dies in the middle of many casts
        tellers = [caller.Background(one.tell, through) for one in told]
        caller.until(lambda: through.has(_VOLUMES * _ROUNDS), stories.PATIENCE)
        cluster[0].kill()
        # Then nothing is lost
        for teller in tellers:
            teller.result(stories.PATIENCE)
        stories.check(told, through.came)
    transport.cleanup()
    assert bed.snapshot() == before
