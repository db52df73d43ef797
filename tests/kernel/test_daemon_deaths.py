# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
