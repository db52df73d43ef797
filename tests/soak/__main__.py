# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Thousands of operations while all that can go wrong beside them does.

``python -m tests.soak [OPERATIONS] [SEED]``, of at least 1,000: attaches and
detaches volumes of a simulated host through a broker of its own, while worker
and broker are killed, frozen and restarted, the disk of the journal is full,
the clock is set, and somebody sends what no caller of ours would. In the end
each request must have its one result, and nothing may be left or have grown.
Prints a line of what the worker needs now and then.
"""

# Before oslo.messaging: it chooses the backend of oslo.service.
from attachworker import threading_backend  # noqa: F401, I001

import collections
from collections.abc import Callable
import contextlib
import dataclasses
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from typing import Any
import uuid

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import casts
from attachworker import exception
from attachworker import objects
from attachworker.bus import transport as bus
from tests import harness
from tests.contract.bed import Volume
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.soak import faults

#: Volumes that are asked for at the same time.
_VOLUMES = 25
#: Seconds for one request, whatever goes wrong meanwhile.
_PATIENCE = 900
#: Seconds of quiet between two faults, at least and at most.
_QUIET = (0.5, 4.0)
#: How much of the end may be above how much of the beginning.
_GROWTH = 1.2


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the worker needs; of one that was just started nobody asks.

    :ivar memory: MiB, resident
    :ivar journal: MiB, with what has not been moved to its file yet
    """

    results: int
    memory: float
    threads: int
    descriptors: int
    journal: float

    def __str__(self) -> str:
        return (
            f'{self.results:6d} results  {self.memory:6.1f} MiB'
            f'  {self.threads:4d} threads  {self.descriptors:4d} descriptors'
            f'  journal {self.journal:6.1f} MiB'
        )


class Watched(casts.Casts):
    """Knows all results that came, and whether one came in two forms."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.came: dict[str, dict[str, Any]] = {}
        self.wrong: list[str] = []
        self.deliveries = 0
        super().__init__(*arguments, **options)

    @messaging.expose
    def operation_finished(
        self, ctxt: Any, result: objects.OperationResult
    ) -> None:
        found = result.as_dict()
        # What is refused was never accepted, and has no result.
        if not (found['error'] or {}).get('retryable'):
            self.deliveries += 1
            known = self.came.setdefault(result.request_id, found)
            if known != found:
                self.wrong.append(f'{known}\n{found}')
        super().operation_finished(ctxt, result)


class Story:
    """One volume: attached and detached, again and again.

    :ivar refused: how often a request was not done, by step and error code
    """

    def __init__(self, volume: Volume, rounds: int) -> None:
        self._volume = volume
        self._rounds = rounds
        self.wrong: list[str] = []
        self.refused: collections.Counter[str] = collections.Counter()

    def tell(self, through: Watched) -> None:
        for _ in range(self._rounds):
            self._ask(through, self._attach, 'attached')
            self._ask(through, self._detach, 'detached')

    def _attach(self) -> objects.AttachRequest:
        return harness.attach_request(self._volume, deadline_seconds=_PATIENCE)

    def _detach(self) -> objects.DetachRequest:
        return harness.detach_request(
            self._volume.name, deadline_seconds=_PATIENCE
        )

    def _ask(
        self, through: Watched, make: Callable[[], Any], wanted: str
    ) -> None:
        while True:
            result = through.send(make()).result(2 * _PATIENCE)
            if result.error is None or not result.error.retryable:
                break
            error = result.error
            step = (error.step or 'acceptance').partition(':')[0]
            self.refused[f'{step}: {error.code}'] += 1
            time.sleep(0.5)
        if result.status != wanted:
            self.wrong.append(json.dumps(result.as_dict()))


def sample(worker: daemon.Daemon, results: int) -> Sample | None:
    """None: it does not run just now."""
    assert worker.process is not None
    process = pathlib.Path(f'/proc/{worker.process.pid}')
    journal = worker.state_path / 'journal.sqlite'
    with contextlib.suppress(OSError, KeyError):
        lines = (process / 'status').read_text().splitlines()
        status = dict(line.split(':', 1) for line in lines)
        files = (journal, journal.with_name(f'{journal.name}-wal'))
        return Sample(
            results,
            int(status['VmRSS'].split()[0]) / 1024,
            int(status['Threads']),
            len(list((process / 'fd').iterdir())),
            sum(each.stat().st_size for each in files) / 2**20,
        )
    return None


def flat(samples: list[Sample]) -> list[str]:
    """What has grown: the last quarter against the second one."""
    quarter = len(samples) // 4
    grown = []
    for name in ('memory', 'threads', 'descriptors', 'journal'):
        early, late = (
            statistics.median(getattr(each, name) for each in part)
            for part in (
                samples[quarter : 2 * quarter],
                samples[-quarter:],
            )
        )
        print(f'{name}: {early:.1f} -> {late:.1f}')
        if late > _GROWTH * early:
            grown.append(f'{name} has grown from {early:.1f} to {late:.1f}')
    return grown


def soak(operations: int, seed: int, directory: pathlib.Path) -> list[str]:
    """What was wrong."""
    chance = random.Random(seed)
    rounds = operations // (2 * _VOLUMES)
    bed = SimulatedBed()
    with contextlib.ExitStack() as opened:
        opened.callback(bed.close)
        broker = opened.enter_context(rabbitmq.RabbitMQNode())
        stories = [Story(bed.create_volume(), rounds) for _ in range(_VOLUMES)]
        before = bed.snapshot()
        clock = directory / 'clock'
        clock.write_text('0')
        worker = opened.enter_context(
            faults.Daemon(
                clock,
                directory,
                broker.url,
                bed.root,
                options=(
                    # A request that is unlucky four times is not at fault.
                    'recovery_attempts = 100',
                    'result_retention = 60',
                ),
            )
        )
        transport = bus.get_transport(cfg.CONF, broker.url)
        opened.callback(transport.cleanup)
        through = opened.enter_context(
            Watched(transport, worker.name, f'soak-{uuid.uuid4()}', pause=2.0)
        )
        told = [caller.Background(one.tell, through) for one in stories]
        samples = _disturb(
            faults.Faults(chance, worker, broker, clock),
            chance,
            worker,
            through,
            told,
            2 * _VOLUMES * rounds // 40,
        )
        for each in told:
            each.result(_PATIENCE)
        wrong = [text for one in stories for text in one.wrong]
        wrong += through.wrong
        for request_id, result in through.came.items():
            # Older ones are kept no more.
            with contextlib.suppress(exception.RequestNotFound):
                again = worker.api.get_result({}, worker.name, request_id)
                if again.as_dict() != result:
                    wrong.append(f'{result}\n{again.as_dict()}')
        left = worker.api.list_attachments({}, worker.name)
        wrong += [f'left: {left}'] if left else []
        after = bed.snapshot()
        wrong += [f'left: {after}'] if after != before else []
        print(
            f'{through.deliveries} deliveries of {len(through.came)} results'
        )
        refused = sum((one.refused for one in stories), collections.Counter())
        for why, count in refused.most_common():
            print(f'{count:6d} times not done: {why}')
    return wrong + flat(samples)


def _disturb(
    all_faults: faults.Faults,
    chance: random.Random,
    worker: daemon.Daemon,
    through: Watched,
    told: list[caller.Background],
    step: int,
) -> list[Sample]:
    """One fault after another, until all is told.

    :param step: results between two samples
    """
    samples: list[Sample] = []
    counts: dict[str, int] = {}
    while any(one.is_alive() for one in told):
        time.sleep(chance.uniform(*_QUIET))
        if len(through.came) >= step * (len(samples) + 1):
            now = sample(worker, len(through.came))
            if now is not None:
                samples.append(now)
                print(now, flush=True)
        name = all_faults.one()
        counts[name] = counts.get(name, 0) + 1
    print(f'faults: {counts}')
    return samples


def main() -> int:
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='attachworker-') as directory:
        place = pathlib.Path(directory)
        wrong = soak(operations, seed, place)
        if wrong:
            for log in place.glob('*.log'):
                kept = pathlib.Path(tempfile.gettempdir()) / log.name
                kept.write_bytes(log.read_bytes())
                print(f'the log of the worker is in {kept}')
    for text in wrong:
        print(f'WRONG: {text}')
    seconds = time.monotonic() - began
    print(f'{operations} operations, seed {seed}: {seconds:.0f} s')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
