# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
