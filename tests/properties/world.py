# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A simulated host with a worker, on which schedules run one by one."""

import pathlib
import shutil
import tempfile

from tests.properties import plays
from tests.properties import schedule as schedules
from tests.properties import stops
from tests.properties import turns
from tests.properties.workers import Violation
from tests.properties.workers import Worker
from tests.simulator.bed import SimulatedBed

#: Portals of each target.
PORTALS = 3
_SIZE = 1 << 20
#: More than any operation takes, however long it is stopped.
_SLOWLY = {'login_timeout': 30, 'device_timeout': 30}


class World:
    """The host, its storage, and a worker that stays for many schedules."""

    def __init__(self) -> None:
        self.bed = SimulatedBed()
        self.bed.set_multipathd()
        self.state = pathlib.Path(tempfile.mkdtemp(prefix='attachworker-'))
        #: A volume on each of two targets, never attached.
        self.targets = [
            self.bed.create_volume(portals=PORTALS, size=_SIZE)
            for _ in range(2)
        ]
        self.turns = turns.Turns()
        self.worker = self.start_worker()
        self.worker.wait_until_ready()

    def start_worker(self, closed: bool = False) -> Worker:
        return Worker(
            stops.Order(self.bed.root, self.state, closed, options=_SLOWLY),
            lambda actor, label, go: self.turns.come(
                # One without a name is nobody's, and whoever's turn it is.
                actor.rpartition('.')[2] if actor[-2:-1] == '.' else '',
                label,
                go,
            ),
        )

    def close(self) -> None:
        self.worker.kill()
        self.bed.close()
        shutil.rmtree(self.state)

    def run(self, schedule: schedules.Schedule) -> list[str]:
        """What has gone on.

        :raises Violation: something that must never be; the world is of no
            use any more
        """
        self.turns = turns.Turns()
        play = plays.Play(self, schedule)
        try:
            play.run()
        except Violation as error:
            log = (self.state / 'log').read_text(errors='replace')
            error.add_note('\n'.join([repr(schedule), *play.story()]))
            error.add_note(f'the last words of the worker:\n{log[-4000:]}')
            raise
        return play.story()
