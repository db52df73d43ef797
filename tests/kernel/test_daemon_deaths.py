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

"""iscsid and multipathd killed at chosen boundaries of tasks.

All of them: tests/kernel/daemons_full.py.
"""

import contextlib
import pathlib

import pytest

from tests.crash.scene import Scenario
from tests.kernel.bed import KernelBed
from tests.kernel.daemon_deaths import Scene

CHOICE = {
    Scenario('attach'): [
        ('iscsid', 'FindWwn before'),
    ],
    Scenario('attach', portals=2, multipath=True): [
        ('multipathd', 'MapMultipath before'),
    ],
    Scenario('detach'): [
        ('iscsid', 'DisconnectTarget:portal 0,target,0 before'),
        ('multipathd', 'DisconnectTarget:portal 0,target,0 before'),
    ],
    Scenario('extend', portals=2, multipath=True): [
        ('multipathd', 'RescanPaths after'),
    ],
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize('scenario', CHOICE, ids=str)
def test_killed_at_a_chosen_point(
    bed: KernelBed, tmp_path: pathlib.Path, scenario: Scenario
) -> None:
    bed.set_multipathd()
    with contextlib.closing(Scene(bed, tmp_path, scenario)) as scene:
        for daemon, point in CHOICE[scenario]:
            scene.strike(daemon, point)
