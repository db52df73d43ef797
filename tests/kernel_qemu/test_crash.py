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

"""kill -9 of the worker while it connects NVMe over Fabrics.

All boundaries of tasks: tests/kernel/crash_full.py, in the same guest.
"""

import contextlib
import pathlib

import pytest

from tests.crash.scene import Scenario
from tests.crash.scene import Scene
from tests.kernel import crashing
from tests.kernel.bed import KernelBed

CHOICE = {
    Scenario('attach', 2, True, protocol='nvmeof'): [
        'nvme.connect during #1',
        'FindWwn execute after #1',
    ],
    Scenario('detach', 2, True, protocol='nvmeof'): [
        'nvme.delete after #2',
    ],
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize('scenario', CHOICE, ids=str)
def test_killed_at_a_chosen_point(
    bed: KernelBed, tmp_path: pathlib.Path, scenario: Scenario
) -> None:
    with contextlib.closing(
        Scene(bed, crashing.Machine(), tmp_path, scenario)
    ) as scene:
        for point in CHOICE[scenario]:
            assert scene.strike(point), f'{point} was not passed'
