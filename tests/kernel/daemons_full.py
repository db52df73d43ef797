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
