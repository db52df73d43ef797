# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A simulated host, and a worker that can be killed at any of its points."""

from collections.abc import Callable
import pathlib
import shutil
import tempfile
from typing import Any

from tests.properties import stops
from tests.properties.workers import Worker
from tests.simulator.bed import SimulatedBed

_QUICKLY = {'login_timeout': 3, 'device_timeout': 3, 'scan_attempts': 2}


class Host:
    """A simulated host with a worker."""

    def __init__(self) -> None:
        self.bed = SimulatedBed()
        self.bed.set_multipathd()
        self.state = pathlib.Path(tempfile.mkdtemp(prefix='attachworker-'))
        self.worker = self.start()
        self.worker.wait_until_ready()

    def start(self, fatal: tuple[str | None, int] | None = None) -> Worker:
        order = stops.Order(
            self.bed.root, self.state, fatal=fatal, options=_QUICKLY
        )
        return Worker(order, self._stopped)

    def passes(self, act: Callable[[], Any], fatal: int | None = None) -> int:
        """Do something, and count the points of the worker that it passes.

        :param fatal: the one at which the worker is killed
        """
        self._passed, self._fatal = 0, fatal
        self.worker.stop_at_points(True)
        act()
        if fatal is None:
            self.worker.stop_at_points(False)
        return self._passed

    def _stopped(self, actor: str, label: str, go: Callable[[], None]) -> None:
        self._passed += 1
        if self._passed == self._fatal:
            self.worker.kill()
        else:
            go()

    def close(self) -> None:
        self.worker.kill()
        self.bed.close()
        shutil.rmtree(self.state)
