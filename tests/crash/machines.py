# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The machines that killed workers run on, as their processes need them."""

from collections.abc import Callable
import dataclasses
import pathlib
import threading
from typing import Any

from attachworker import host as hosts
from tests.crash import kill_points
from tests.simulator import client
from tests.simulator.faults import Fault


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A simulated one.

    :ivar root: of the bed
    """

    root: pathlib.Path

    def __call__(self, points: kill_points.Points) -> hosts.Host:
        verbs = kill_points.Verbs(client.Verbs(self.root), points, self._begin)
        return hosts.Host(self.root, verbs, client.UeventSource(self.root))

    def settle(self) -> None:
        """Return when all has its effect that a killed worker had begun."""
        client.Control(self.root)('finish')

    def _begin(self, verb: str, call: Callable[[], Any]) -> None:
        """It gets to the simulator, and has its effect after the kill."""
        control = client.Control(self.root)
        hold = control('arm', kind=Fault.HANG_BEFORE.value, verb=verb)
        threading.Thread(target=call, daemon=True).start()
        assert control('wait_fired', index=hold, timeout=10.0)
