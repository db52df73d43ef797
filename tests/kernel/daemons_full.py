# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iscsid and multipathd killed at all boundaries of tasks, on a real kernel.

``tox -e crash-full`` runs it, with ``-s``: how each request ended is printed.
"""

import contextlib
import pathlib

import pytest

from tests.crash.scene import Scenario
from tests.kernel.bed import KernelBed
from tests.kernel.daemon_deaths import Scene

SCENARIOS = [
    Scenario(kind, portals, multipath=portals > 1)
    for kind in ('attach', 'detach', 'extend')
    for portals in (1, 2)
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize('daemon', ['iscsid', 'multipathd'])
@pytest.mark.parametrize('scenario', SCENARIOS, ids=str)
def test_killed_at_all_boundaries(
    bed: KernelBed, tmp_path: pathlib.Path, scenario: Scenario, daemon: str
) -> None:
    bed.set_multipathd()
    with contextlib.closing(Scene(bed, tmp_path, scenario)) as scene:
        points = scene.points()
        for point in points:
            outcome = scene.strike(daemon, point)
            print(f'{scenario}, {daemon} killed at {point}: {outcome}')
    print(f'{scenario}: {daemon} killed at {len(points)} points')
