# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A choice of the points of tests/crash/test_kill.py, on a real kernel.

What a login, a scan, a map and their removal leave behind is what a simulator
could have wrong. All boundaries of tasks: tests/kernel/crash_full.py.
"""

import contextlib
import pathlib

import pytest

from tests.crash.scene import Scenario
from tests.crash.scene import Scene
from tests.kernel import crashing
from tests.kernel.bed import KernelBed

CHOICE = {
    Scenario('attach'): [
        'iscsi.login before #1',
        'iscsi.login during #1',
        'iscsi.login after #1',
        'scsi.scan after #1',
        'journal Records.finish before commit #1',
        'journal Records.finish after commit #1',
    ],
    Scenario('attach', portals=2, multipath=True): [
        'scsi.scan after #2',
        'MapMultipath execute after #1',
    ],
    Scenario('detach'): [
        'scsi.delete after #1',
        'iscsi.logout during #1',
        'iscsi.logout after #1',
    ],
    Scenario('detach', portals=2, multipath=True): [
        'FlushDevice execute after #1',
        'multipath.remove_map after #1',
        'scsi.delete after #1',
        'iscsi.logout after #1',
    ],
    Scenario('attach', encryption='luks2'): ['encryption.open after #1'],
    Scenario('detach', encryption='luks2'): ['encryption.close after #1'],
    Scenario('rotate', encryption='luks'): [
        'encryption.add_key during #1',
        'encryption.add_key after #1',
        'encryption.remove_key after #1',
    ],
    Scenario('attach', 0, protocol='local'): ['loop.attach after #1'],
    Scenario('attach', 0, protocol='rbd'): [
        'rbd.add during #1',
        'rbd.add after #1',
    ],
    Scenario('extend', portals=2, multipath=True): [
        'scsi.rescan after #1',
        'multipath.resize_map after #1',
    ],
}
assert sum(map(len, CHOICE.values())) <= 25  # and 3 in tests/kernel_qemu


@pytest.mark.timeout(900)
@pytest.mark.parametrize('scenario', CHOICE, ids=str)
def test_killed_at_a_chosen_point(
    bed: KernelBed, tmp_path: pathlib.Path, scenario: Scenario
) -> None:
    bed.set_multipathd()
    with contextlib.closing(
        Scene(bed, crashing.Machine(), tmp_path, scenario)
    ) as scene:
        for point in CHOICE[scenario]:
            assert scene.strike(point), f'{point} was not passed'
