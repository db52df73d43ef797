# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""600 casts, while worker and broker are killed again and again."""

from collections.abc import Iterator
from functools import partial
import pathlib
import random

from oslo_config import cfg
import pytest

from attachworker.bus import transport as bus
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.functional import stories
from tests.simulator.bed import SimulatedBed

#: The same deaths in every run.
_SEED = 20261123
#: Volumes that are attached and detached at the same time.
_VOLUMES = 25
#: How often each is.
_ROUNDS = 8
_CASTS = _VOLUMES * _ROUNDS * len(stories.WANTED)
_WORKER_DEATHS = 20
_BROKER_DEATHS = 5


@pytest.fixture
def bed() -> Iterator[SimulatedBed]:
    made = SimulatedBed()
    yield made
    made.close()


@pytest.mark.timeout(stories.PATIENCE)
def test_casts_while_worker_and_broker_are_killed(
    broken_broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    tmp_path: pathlib.Path,
) -> None:
    # Given 600 casts, 25 at a time, and somebody who wants their results
    told = [
        stories.Story(bed.create_volume(), _ROUNDS) for _ in range(_VOLUMES)
    ]
    before = bed.snapshot()
    transport = bus.get_transport(cfg.CONF, broken_broker.url)
    with (
        daemon.Daemon(
            tmp_path,
            broken_broker.url,
            bed.root,
            # A request that is unlucky four times is not the worker's fault.
            options=('recovery_attempts = 100',),
        ) as worker,
        stories.Watched(transport, worker.name, 'me', pause=2.0) as through,
    ):
        tellers = [caller.Background(one.tell, through) for one in told]
        # When worker and broker die, again and again, as soon as there are
        # so many results
        chance = random.Random(_SEED)
        deaths = [worker] * _WORKER_DEATHS + [broken_broker] * _BROKER_DEATHS
        chance.shuffle(deaths)
        moments = sorted(chance.sample(range(_CASTS - _VOLUMES), len(deaths)))
        for moment, victim in zip(moments, deaths, strict=True):
            caller.until(partial(through.has, moment), stories.PATIENCE)
            victim.kill()
            victim.start()
        for each in tellers:
            each.result(stories.PATIENCE)
        # Then each has the result that it must have
        stories.check(told, through.came)
        # And nothing is left of all that
        assert worker.api.list_attachments({}, worker.name) == []
    transport.cleanup()
    assert bed.snapshot() == before
