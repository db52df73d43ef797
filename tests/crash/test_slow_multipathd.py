# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A multipathd that hears of disks only when the worker has long seen them.

On the simulated host: on a kernel it is slow now and then, but not when a
test wants.
"""

from collections.abc import Iterator

import pytest

from tests import harness
from tests.contract import test_sharing
from tests.contract.test_sharing import InterruptedRun
from tests.simulator.bed import SimulatedBed

#: More than any step takes that does not wait for it.
LATE = 2.0


@pytest.fixture
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed, run_class=InterruptedRun) as running:
        yield running


def test_a_disk_that_has_gone_is_nobodys_in_a_map(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given an attachment with a map
    volume = bed.create_volume()
    again = bed.export_volume(volume, bed.create_volume())
    first = test_sharing.attached(worker, volume, 'first', multipath=True)
    bed.set_multipathd(reaction=LATE)
    # When its disk goes while the volume is attached under another name,
    # and multipathd has not heard of that
    InterruptedRun.hooks['second', 'before MapMultipath'] = lambda: (
        bed.control(
            'drop_session', target=volume.target, portal=volume.portals[0]
        )
    )
    second = test_sharing.attached(worker, again, 'second', multipath=True)
    # Then that one has the map
    assert second.path == first.path
    assert test_sharing.holds(bed, second, volume)
    test_sharing.detached(worker, 'first')
    test_sharing.detached(worker, 'second')
