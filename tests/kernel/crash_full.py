# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
