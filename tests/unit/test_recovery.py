# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What an earlier worker left, brought to an end by the next one.

The earlier worker is a journal that was written to, and a host that was
changed: what a kill at that moment leaves.
"""

from collections.abc import Iterator
import pathlib
import time

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.tasks import takedown
from tests.contract.bed import Volume
from tests.simulator import bed as beds
from tests.unit.earlier import PATIENCE
from tests.unit.earlier import Earlier
from tests.unit.earlier import detach
from tests.unit.earlier import ended
from tests.unit.earlier import extend
from tests.unit.earlier import request
from tests.unit.earlier import worker


@pytest.fixture(scope='module')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def bed(shared_bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    yield shared_bed
    shared_bed.restart_host()


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


def cut_short(
    bed: beds.SimulatedBed, state: pathlib.Path, volume: Volume
) -> None:
    """Leave what a worker leaves that dies once it has the device."""
    earlier = Earlier(bed, state)
    given = request(volume)
    earlier.accepts('attach', given)
    earlier.begins(volume, given)
    earlier.dies()


def test_an_attach_that_was_cut_short_is_finished(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given a worker that was killed when it had the device
    volume = bed.create_volume()
    before = bed.snapshot()
    cut_short(bed, state, volume)
    assert bed.snapshot() != before
    # When the next one starts
    with worker(bed, state) as running:
        # Then the request ends as if nothing had been
        found = ended(running, 'request')
        assert found.status == 'attached', found.as_dict()
        assert bed.read(found.device.path) == volume.pattern
        assert running.attachments() == [f'{volume.name} attached']
        # And what was made before the kill is known to be ours
        assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


def test_an_attach_that_had_not_begun_is_finished(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    earlier = Earlier(bed, state)
    earlier.accepts('attach', request(volume))
    earlier.dies()
    with worker(bed, state) as running:
        assert ended(running, 'request').status == 'attached'
        assert running.detach(volume.name).status == 'detached'


def test_an_attach_without_time_left_is_undone(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attach that was cut short, and whose deadline is over
    volume = bed.create_volume()
    before = bed.snapshot()
    earlier = Earlier(bed, state)
    given = request(volume)
    earlier.accepts('attach', given, seconds=0)
    earlier.begins(volume, given)
    earlier.dies()
    # When the next worker starts, then nothing is left of it
    with worker(bed, state) as running:
        found = ended(running, 'request')
        assert (found.status, found.leftovers) == ('failed', [])
        assert found.error.code == 'deadline_exceeded'
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_an_attach_whose_password_is_lost_is_undone(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attach that was cut short and needs a password, and a worker
    # that has no key for it any more
    volume = bed.create_volume(chap=('user', 'password-of-it'))
    before = bed.snapshot()
    earlier = Earlier(bed, state)
    earlier.accepts('attach', request(volume), sealed=b'with another key')
    earlier.dies()
    # When the next worker starts, then nothing is left of it
    with worker(bed, state) as running:
        found = ended(running, 'request')
        assert (found.status, found.leftovers) == ('failed', [])
        assert 'passwords were not kept' in found.error.message
        assert found.error.retryable
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_a_repeat_that_was_cut_short_leaves_the_attachment(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attachment, and a second attach of it that was cut short
    volume = bed.create_volume()
    with worker(bed, state) as running:
        path = running.attach(volume).device.path
        before = bed.snapshot()
    earlier = Earlier(bed, state)
    earlier.accepts('attach', request(volume))
    earlier.dies()
    # Then the next worker finds the same device
    with worker(bed, state) as running:
        found = ended(running, 'request')
        assert (found.status, found.device.path) == ('attached', path)
        assert running.attachments() == [f'{volume.name} attached']
        assert bed.snapshot() == before
        assert running.detach(volume.name).status == 'detached'


def test_a_detach_that_was_cut_short_is_finished(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    earlier = Earlier(bed, state)
    earlier.accepts('detach', detach(volume))
    earlier.dies()
    with worker(bed, state) as running:
        # who asks again joins it
        again = running.api.detach_volume({}, running.name, detach(volume))
        assert again.status == 'detached'
        assert ended(running, 'detach').as_dict() == again.as_dict()
        assert bed.snapshot() == before
        assert running.attachments() == []


@pytest.mark.parametrize('rescanned', [False, True])
def test_an_extend_that_was_cut_short_is_done_again(
    bed: beds.SimulatedBed, state: pathlib.Path, rescanned: bool
) -> None:
    # Given an attached volume that has grown, and a worker that was killed
    # before or after the kernel had read the new size
    volume = bed.create_volume()
    size = 2 * volume.size
    with worker(bed, state) as running:
        path = running.attach(volume).device.path
    earlier = Earlier(bed, state)
    earlier.accepts('extend', extend(volume, size))
    bed.resize_volume(volume, size)
    if rescanned:
        earlier.rescans(volume)
    earlier.dies()
    # When the next one starts, then the request ends as if nothing had been
    with worker(bed, state) as running:
        found = ended(running, 'extend')
        assert found.status == 'extended', found.as_dict()
        assert (found.device.path, found.device.size) == (path, size)
        stored = running.api.get_attachment({}, running.name, volume.name)
        assert (stored.state, stored.device.size) == ('attached', size)
        assert bed.read(path, offset=volume.size) == bytes(4096)
        assert running.detach(volume.name).status == 'detached'


def test_an_extend_that_was_cut_short_and_cannot_be_done_has_its_result(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an extend that was cut short, and a path that broke since
    volume = bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    earlier = Earlier(bed, state)
    earlier.accepts('extend', extend(volume, 2 * volume.size))
    earlier.dies()
    bed.kill_path(volume, volume.portals[0])
    # When the next worker starts
    with worker(bed, state) as running:
        # Then it says so, and the attachment stays what it is
        found = ended(running, 'extend')
        assert found.error.code == 'extend_failed', found.as_dict()
        assert found.error.step == 'FindLivePaths'
        assert running.attachments() == [f'{volume.name} attached']
        bed.restore_path(volume, volume.portals[0])
        assert running.detach(volume.name).status == 'detached'


def test_an_extend_of_before_a_reboot_finds_nothing(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    earlier = Earlier(bed, state)
    earlier.accepts('extend', extend(volume, 2 * volume.size))
    earlier.dies()
    bed.restart_host()
    with worker(bed, state) as running:
        found = ended(running, 'extend')
        assert found.error.code == 'attachment_not_found', found.as_dict()


def test_what_was_attached_stays_over_a_restart(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        path = running.attach(volume).device.path
    with worker(bed, state) as running:
        assert running.attachments() == [f'{volume.name} attached']
        assert bed.read(path) == volume.pattern
        assert running.attach(volume).device.path == path
        assert running.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_one_that_cannot_be_put_back_keeps_no_worker_from_starting(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given two attaches that were cut short, and a host without open-iscsi
    volumes = [bed.create_volume(), bed.create_volume()]
    before = bed.snapshot()
    earlier = Earlier(bed, state)
    for number, volume in enumerate(volumes):
        given = request(volume, f'request-{number}')
        earlier.accepts('attach', given)
        earlier.begins(volume, given)
    earlier.dies()
    tool = bed.root / 'usr/sbin/iscsiadm'
    hidden = tool.rename(tool.with_name('hidden'))
    # When the next one starts
    try:
        with worker(bed, state) as running:
            # Then both have their result, which tells what is left
            for number in range(2):
                found = ended(running, f'request-{number}')
                assert found.status == 'failed'
                assert found.leftovers != []
            assert len(running.attachments()) == 2
    finally:
        hidden.rename(tool)
    # And once it is there again, nothing is left after a detach
    with worker(bed, state) as running:
        for volume in volumes:
            assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


def test_a_device_in_use_is_left_alone(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attach that was cut short, whose device somebody uses by now
    volume = bed.create_volume()
    before = bed.snapshot()
    cut_short(bed, state, volume)
    bed.mount('sda', '/mnt/somewhere')
    used = bed.snapshot()
    # When the next worker starts
    with worker(bed, state) as running:
        # Then the device stays, and the result says so
        (left,) = ended(running, 'request').leftovers
        assert bed.snapshot() == used
        assert 'in use by mount /mnt/somewhere' in left
        # And it goes, without being asked, once nobody uses it any more
        bed.unmount('/mnt/somewhere')
        limit = time.monotonic() + PATIENCE
        while bed.snapshot() != before or running.attachments():
            assert time.monotonic() < limit, bed.snapshot()
            time.sleep(0.05)


def test_what_is_in_the_way_of_an_undo_for_a_moment(
    bed: beds.SimulatedBed,
    state: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an attach that was cut short, and another one that is undone at
    # the same time, whose map has the path of the first one at first
    volume = bed.create_volume()
    cut_short(bed, state, volume)
    in_the_way = iter([['device sda, the last path of dm-0 that works']])
    everything = takedown.Takedown.everything
    monkeypatch.setattr(
        takedown.Takedown,
        'everything',
        lambda self: next(in_the_way, None) or everything(self),
    )
    # When the next worker starts
    with worker(bed, state) as running:
        # Then the attach is finished once that has let go
        found = ended(running, 'request')
        assert found.status == 'attached', found.as_dict()
        assert running.detach(volume.name).status == 'detached'


def test_an_undo_that_does_not_know_the_volume_asks_the_kernel(
    bed: beds.SimulatedBed,
    state: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an attach that was cut short before it knew its volume
    volume = bed.create_volume()
    cut_short(bed, state, volume)
    locked: list[set[str]] = []
    everything = takedown.Takedown.everything

    def watched(down: takedown.Takedown) -> list[str]:
        locked.append(set(down._run._locked))
        return everything(down)

    monkeypatch.setattr(takedown.Takedown, 'everything', watched)
    # When the next worker takes its device away, then nobody can put that
    # under a map meanwhile
    with worker(bed, state) as running:
        assert ended(running, 'request').status == 'attached'
        assert locked == [{objects.normalise_wwn(volume.wwn)}]
        assert running.detach(volume.name).status == 'detached'


def test_an_attach_is_not_done_again_behind_its_detach(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    """Its result could not be written; the caller has gone on since."""
    # Given an attach without a result, whose attachment was detached later
    volume = bed.create_volume()
    before = bed.snapshot()
    earlier = Earlier(bed, state)
    earlier.accepts('attach', request(volume))
    earlier.accepts('detach', detach(volume))
    earlier.finishes('detach', status='detached')
    earlier.dies()
    # When the next worker starts, well within the deadline
    with worker(bed, state) as running:
        # Then it says why, and attaches nothing
        found = ended(running, 'request')
        assert found.status == 'failed', found.as_dict()
        assert 'later request' in found.error.message
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_a_detach_is_not_done_again_behind_a_later_attach(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given a detach without a result, and an attach after it that has one
    volume = bed.create_volume()
    earlier = Earlier(bed, state)
    earlier.accepts('detach', detach(volume))
    earlier.dies()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
        attached = bed.snapshot()
    earlier = Earlier(bed, state)
    earlier.has_not_finished('detach')
    earlier.dies()
    # When the next worker starts, then the attachment stays
    with worker(bed, state) as running:
        assert 'later request' in ended(running, 'detach').error.message
        assert running.attachments() == [f'{volume.name} attached']
        assert bed.snapshot() == attached
        assert running.detach(volume.name).status == 'detached'


@pytest.mark.parametrize('step', ['queue', 'its first step'])
def test_a_detach_is_finished_behind_an_attach_that_was_never_begun(
    bed: beds.SimulatedBed, state: pathlib.Path, step: str
) -> None:
    # Given a detach that was cut short, while an attach that waited behind
    # it ran out of time
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    earlier = Earlier(bed, state)
    earlier.accepts('detach', detach(volume))
    earlier.accepts('attach', request(volume))
    error = exception.DeadlineExceeded(step=step)
    earlier.finishes(
        'request',
        status='failed',
        error=objects.OperationError.from_exception(error, step),
    )
    earlier.dies()
    # When the next worker starts, then it finishes the detach
    with worker(bed, state) as running:
        assert ended(running, 'detach').status == 'detached'
        assert bed.snapshot() == before
