# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What was attached before a reboot, and is attached again if so wished."""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import pathlib
import time
from typing import Any

import pytest

from tests import harness
from tests.simulator import bed as beds
from tests.unit import earlier
from tests.unit.earlier import Earlier

worker = functools.partial(earlier.worker, reattach_after_reboot=True)


@pytest.fixture(scope='module')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def bed(shared_bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    shared_bed.set_multipathd()
    yield shared_bed
    shared_bed.restart_host()


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


def until(look: Callable[[], Any]) -> None:
    limit = time.monotonic() + earlier.PATIENCE
    while not look():
        assert time.monotonic() < limit
        time.sleep(0.02)


def until_shown(running: harness.Harness, *wanted: str) -> None:
    """Until list_attachments has these, and no other."""
    until(lambda: running.attachments() == sorted(wanted))


def error_of(running: harness.Harness, name: str) -> str | None:
    """Of the last operation of an attachment."""
    found = running.api.get_attachment({}, running.name, name).last_result
    return found.error.code if found and found.error else None


@pytest.mark.parametrize('multipath', [False, True])
def test_what_was_attached_is_attached_again(
    bed: beds.SimulatedBed, state: pathlib.Path, multipath: bool
) -> None:
    # Given an attachment, and a reboot
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    with worker(bed, state) as running:
        first = running.attach(volume, multipath=multipath)
        assert first.status == 'attached'
    bed.restart_host()
    # When the worker starts, then the volume is there, in the same way
    with worker(bed, state) as running:
        until_shown(running, f'{volume.name} attached')
        found = running.api.get_attachment({}, running.name, volume.name)
        assert found.device.multipath_id == first.device.multipath_id
        assert bed.read(found.device.path) == volume.pattern
        # by a request of the worker's own, which has its result
        result = found.last_result
        assert result.request_id != first.request_id
        assert result.status == 'attached'
        # And whoever asks for it again gets the same device
        again = running.attach(volume, multipath=multipath)
        assert again.device.path == found.device.path
    # Nor is it done twice
    with worker(bed, state) as running:
        found = running.api.get_attachment({}, running.name, volume.name)
        assert found.last_result.request_id == again.request_id
        assert running.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_more_than_may_wait_are_attached_again(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volumes = [bed.create_volume() for _ in range(4)]
    with worker(bed, state) as running:
        for volume in volumes:
            assert running.attach(volume).status == 'attached'
    bed.restart_host()
    with worker(bed, state, max_running=1, max_queued=1) as running:
        until_shown(running, *(f'{each.name} attached' for each in volumes))
        for volume in volumes:
            assert running.detach(volume.name).status == 'detached'


def test_what_needs_a_password_stays_missing(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attachment with a password and a later one without, and a
    # reboot
    secret = bed.create_volume(chap=('user', 'password-of-it'))
    plain = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(secret).status == 'attached'
        assert running.attach(plain).status == 'attached'
    bed.restart_host()
    # When the worker starts, then the one is there and not the other
    with worker(bed, state) as running:
        until_shown(
            running, f'{secret.name} missing', f'{plain.name} attached'
        )
        # which can be had by who knows the password
        assert running.attach(secret).status == 'attached'
        for volume in (secret, plain):
            assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


def test_an_unfinished_detach_is_finished_instead(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    one = Earlier(bed, state)
    one.accepts('detach', earlier.detach(volume))
    one.dies()
    bed.restart_host()
    with worker(bed, state) as running:
        assert earlier.ended(running, 'detach').status == 'detached'
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_an_unfinished_extend_finds_it_attached_again(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    size = 2 * volume.size
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    one = Earlier(bed, state)
    one.accepts('extend', earlier.extend(volume, size))
    one.dies()
    bed.resize_volume(volume, size)
    bed.restart_host()
    with worker(bed, state) as running:
        found = earlier.ended(running, 'extend')
        assert (found.status, found.device.size) == ('extended', size)
        assert running.detach(volume.name).status == 'detached'


def test_another_volume_in_its_place_is_not_taken(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    keeper = bed.create_volume(on=volume)
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    bed.remove_volume(volume)
    bed.create_volume(on=keeper, lun=volume.lun)
    with worker(bed, state) as running:
        until(lambda: error_of(running, volume.name) == 'identity_mismatch')
        assert running.attachments() == [f'{volume.name} missing']
        assert bed.snapshot() == before


def test_storage_that_is_away_is_tried_again_by_the_next_start(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    # Given storage that is not up yet when the worker starts
    bed.stop_portal(volume.portals[0])
    with worker(bed, state) as running:
        until(lambda: error_of(running, volume.name) == 'target_unreachable')
        assert running.attachments() == [f'{volume.name} missing']
    bed.start_portal(volume.portals[0])
    # When it is started again, then the volume is there
    with worker(bed, state) as running:
        until_shown(running, f'{volume.name} attached')
        assert running.detach(volume.name).status == 'detached'


@pytest.mark.parametrize('seconds', [0, 60])
def test_one_that_was_cut_short_itself(
    bed: beds.SimulatedBed, state: pathlib.Path, seconds: int
) -> None:
    # Given a worker that was killed while it attached again
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    one = Earlier(bed, state)
    given = earlier.request(volume)
    one.accepts('attach', given, seconds)
    one.begins(volume, given, missing_wwn=volume.wwn)
    one.dies()
    # When the next one starts
    with worker(bed, state) as running:
        found = earlier.ended(running, 'request')
        # Then it is finished in time; or else missing as before, not gone
        if seconds:
            assert found.status == 'attached'
            assert running.attachments() == [f'{volume.name} attached']
        else:
            assert found.error.code == 'deadline_exceeded'
            assert running.attachments() == [f'{volume.name} missing']
            assert bed.snapshot() == before
        assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
