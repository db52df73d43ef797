# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 of the worker at all boundaries of tasks, on a real kernel.

Takes more than an hour, so it is no part of ``make test``:
``tox -e crash-full`` runs it.
"""

import contextlib
import pathlib

import pytest

from tests.contract import bed as beds
from tests.crash import test_kill
from tests.crash.scene import Scenario
from tests.crash.scene import Scene
from tests.kernel import crashing
from tests.kernel.bed import KernelBed

#: Here it is not the reading that fails.
SCENARIOS = [
    one
    for one in (
        *(one for one in test_kill.SCENARIOS if not one.fails),
        Scenario('attach', portals=2, fails='FindWwn'),
    )
    if one.protocol not in beds.ELSEWHERE
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize('scenario', SCENARIOS, ids=str)
def test_killed_at_all_boundaries(
    bed: KernelBed, tmp_path: pathlib.Path, scenario: Scenario
) -> None:
    bed.set_multipathd()
    with contextlib.closing(
        Scene(bed, crashing.Machine(), tmp_path, scenario)
    ) as scene:
        points = [
            point
            for point in scene.points()
            if ' execute ' in point or ' revert ' in point
        ]
        struck = [scene.strike(point) for point in points]
    print(f'{scenario}: killed at {sum(struck)} of {len(points)} points')
    assert all(struck)
