# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How long a worker takes to end what a killed one has left unfinished.

``python -m tests.crash.recovery_time 10 100``: for these numbers of attaches,
on the simulated host.
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time

from tests import harness
from tests.contract import bed as beds
from tests.crash import machines
from tests.crash import victim
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

_UNFINISHED = 'SELECT count(*) FROM requests WHERE result IS NULL'
_ATTACHED = "SELECT count(*) FROM attachments WHERE state = 'attached'"


@dataclasses.dataclass(frozen=True)
class _Attaches:
    """Sends an attach of each volume."""

    volumes: list[beds.Volume]

    def __call__(self, worker: harness.Harness) -> None:
        requests = [
            harness.attach_request(volume, deadline_seconds=600)
            for volume in self.volumes
        ]
        for request in requests:
            worker.api.cast_attach_volume({}, worker.name, request)
        worker.api.attach_volume({}, worker.name, requests[-1])


def measure(count: int, state: pathlib.Path) -> tuple[float, float]:
    """Seconds until requests are taken again, and until all have ended."""
    bed = SimulatedBed()
    try:
        first = bed.create_volume()
        volumes = [first]
        volumes += [bed.create_volume(on=first) for _ in range(count - 1)]
        hold = bed.arm(Fault.HANG_BEFORE, 'scsi.scan', times=None)
        machine = machines.Simulated(bed.root)
        order = victim.Order(machine, state, _Attaches(volumes))
        killed, _ = victim.run(
            order, f'journal Records.accept after commit #{count}'
        )
        assert killed
        hold.release()
        machine.settle()
        assert victim.journal(state, _UNFINISHED) == [(count,)]
        started = time.monotonic()
        with victim.make_worker(bed.host(), state):
            ready = time.monotonic()
            while victim.journal(state, _UNFINISHED) != [(0,)]:
                time.sleep(0.01)
            ended = time.monotonic()
            assert victim.journal(state, _ATTACHED) == [(count,)]
        return ready - started, ended - started
    finally:
        bed.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('counts', type=int, nargs='+')
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as directory:
            ready, ended = measure(count, pathlib.Path(directory))
        print(
            f'{count} unfinished: ready after {ready:.2f} s,'
            f' all ended after {ended:.2f} s'
        )


if __name__ == '__main__':
    main()
