# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A portal that answers only after the attach has.

On the simulated host: there a portal can be silent for as long as a test
wants.
"""

from collections.abc import Iterator

import pytest

from tests import harness
from tests.contract.test_multipath import attached
from tests.contract.test_multipath import states
from tests.contract.test_multipath import sysfs
from tests.contract.test_multipath import until
from tests.simulator.bed import SimulatedBed


@pytest.fixture
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed, iscsi={'login_timeout': 5}) as running:
        yield running


def test_path_that_comes_late(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a portal that does not answer
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    good, slow = volume.portals
    bed.hang_portal(slow)
    # When the volume is attached, then the caller does not wait for it
    result = attached(worker, volume)
    assert result.device.degraded
    assert states(result.device) == {good: 'connected', slow: 'connecting'}
    # And when it answers at last, then its path joins the map
    bed.start_portal(slow)

    def joined() -> bool:
        return worker.attachments() == [f'{volume.name} attached']

    until(joined)
    found = worker.api.get_attachment({}, worker.name, volume.name)
    assert found.device.path == result.device.path
    assert states(found.device) == {good: 'connected', slow: 'connected'}
    slaves = sysfs(bed, found.device.path) / 'slaves'
    until(lambda: len(list(slaves.iterdir())) == 2)
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_path_that_comes_after_a_repeat(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given an attachment that waits for a portal that does not answer
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    good, slow = volume.portals
    bed.hang_portal(slow)
    first = attached(worker, volume)
    # When the attach is repeated, then it is the same device
    again = attached(worker, volume)
    assert again.device.path == first.device.path
    assert again.device.degraded
    assert states(again.device)[good] == 'connected'
    # And the path still joins when the portal answers at last
    bed.start_portal(slow)
    until(lambda: worker.attachments() == [f'{volume.name} attached'])
    found = worker.api.get_attachment({}, worker.name, volume.name)
    assert states(found.device) == {good: 'connected', slow: 'connected'}
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_repeat_brings_back_a_path_that_was_given_up(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a map of one path, because a portal was dead
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    good, dead = volume.portals
    bed.stop_portal(dead)
    first = attached(worker, volume)
    assert states(first.device) == {good: 'connected', dead: 'failed'}
    # When the portal is back, and the attach is repeated
    bed.start_portal(dead)
    again = attached(worker, volume)
    # Then the map gets the path
    assert again.device.path == first.device.path
    until(lambda: worker.attachments() == [f'{volume.name} attached'])
    found = worker.api.get_attachment({}, worker.name, volume.name)
    assert states(found.device) == {good: 'connected', dead: 'connected'}
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before
