# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is told of an attachment is what became of it last."""

from collections.abc import Iterator
import pathlib

import pytest

from tests import harness
from tests.simulator import bed as beds
from tests.unit.earlier import Earlier
from tests.unit.earlier import detach
from tests.unit.earlier import ended
from tests.unit.earlier import worker


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


def gauge(running: harness.Harness, name: str) -> float:
    [found] = [
        one for one in running.worker._census.gauges() if one.name == name
    ]
    return sum(sample.value for sample in found.samples)


def test_the_last_result_is_that_of_a_detach_that_failed(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attachment in use
    volume = bed.create_volume()
    with worker(bed, state) as running:
        path = running.attach(volume).device.path
        bed.mount(path.removeprefix('/dev/'), '/mnt/somewhere')
        # When it is to be detached
        failed = running.detach(volume.name)
        assert failed.error.code == 'in_use'
        # Then that is its last result, and it is attached as before
        found = running.api.get_attachment({}, running.name, volume.name)
        assert found.last_result.as_dict() == failed.as_dict()
        assert found.state == 'attached'
        bed.unmount('/mnt/somewhere')
        assert running.detach(volume.name).status == 'detached'


def test_a_detach_that_goes_on_after_a_kill_and_changes_nothing(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given a detach that was cut short, of what somebody uses by now
    volume = bed.create_volume()
    with worker(bed, state) as running:
        path = running.attach(volume).device.path
    earlier = Earlier(bed, state)
    earlier.accepts('detach', detach(volume))
    earlier.dies()
    bed.mount(path.removeprefix('/dev/'), '/mnt/somewhere')
    # When the next worker goes on with it
    with worker(bed, state) as running:
        assert ended(running, 'detach').error.code == 'in_use'
        # Then the attachment is what it was
        assert running.attachments() == [f'{volume.name} attached']
        bed.unmount('/mnt/somewhere')
        assert running.detach(volume.name).status == 'detached'


def test_healthy_attachments_are_no_leftovers_after_a_start(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    with worker(bed, state) as running:
        assert gauge(running, 'attachworker_leftovers') == 0
        assert running.detach(volume.name).status == 'detached'
