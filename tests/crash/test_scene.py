# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a scene takes for the host before a worker is killed."""

import contextlib
import pathlib
import sqlite3

from tests.crash import machines
from tests.crash import victim
from tests.crash.scene import Scenario
from tests.crash.scene import Scene
from tests.functional import caller
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


def test_a_scene_begins_with_all_paths(tmp_path: pathlib.Path) -> None:
    # Given a login that is slower than the answer to its attach
    def states() -> list[str]:
        with contextlib.suppress(sqlite3.OperationalError):
            query = 'SELECT state FROM attachments'
            return [state for (state,) in victim.journal(tmp_path, query)]
        return []  # there are no tables yet

    def end_the_login() -> None:
        caller.until(lambda: 'degraded' in states(), timeout=30)
        login.release()

    with contextlib.closing(SimulatedBed()) as bed:
        bed.set_multipathd()
        login = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
        ending = caller.Background(end_the_login)
        # When two volumes are attached through two paths each
        machine = machines.Simulated(bed.root)
        scenario = Scenario('extend', portals=2, multipath=True)
        with contextlib.closing(Scene(bed, machine, tmp_path, scenario)):
            ending.result()
            # Then they have all of them
            assert states() == ['attached', 'attached']
