# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A host that cannot be read: an error of the step, never an absence."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import pathlib
import time

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.tasks import run as runs
from attachworker.tasks import takedown
from tests import harness
from tests.simulator import multipathd
from tests.simulator.bed import SimulatedBed

SESSIONS = 'sys/class/iscsi_session'
CONNECTIONS = 'sys/class/iscsi_connection'
BLOCK = 'sys/class/block'
DEVICES = 'sys/devices/platform'


@pytest.fixture
def bed() -> Iterator[SimulatedBed]:
    made = SimulatedBed()
    made.set_multipathd()
    yield made
    made.close()


@pytest.fixture
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


def waiting(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_told(result: objects.OperationResult) -> None:
    """It has failed for what cannot be read, and not for a bug."""
    told = result.as_dict()
    assert result.status == 'failed', told
    assert result.error.code == 'host_tool_failed', told
    assert '/sys/' in result.error.message, told
    assert 'symbolic links' in result.error.message, told


@pytest.mark.parametrize('place', [SESSIONS, BLOCK, DEVICES])
def test_a_detach_proves_nothing_that_it_cannot_read(
    bed: SimulatedBed, worker: harness.Harness, place: str
) -> None:
    # Given an attached volume
    volume = bed.create_volume()
    path = worker.attach(volume).device.path
    before = bed.snapshot()
    # When the host cannot be read while it is detached
    with bed.unreadable(place):
        result = worker.detach(volume.name)
    # Then that is the error, it names the place, and nothing was touched
    assert_told(result)
    assert bed.snapshot() == before
    assert bed.read(path) == volume.pattern
    # And once it can be read again, the detach goes on
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert worker.attachments() == []


@pytest.mark.parametrize('place', [SESSIONS, CONNECTIONS, BLOCK, DEVICES])
def test_a_detach_does_not_miss_who_has_the_device_open(
    bed: SimulatedBed, worker: harness.Harness, place: str
) -> None:
    volume = bed.create_volume(portals=2)
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.device.multipath_id, result.as_dict()
    before = bed.snapshot()
    with bed.opened(result.device.path):
        with bed.unreadable(place):
            assert_told(worker.detach(volume.name))
        assert worker.detach(volume.name).error.code == 'in_use'
    assert bed.snapshot() == before
    assert worker.detach(volume.name).status == 'detached'


@pytest.mark.parametrize('place', [SESSIONS, CONNECTIONS])
def test_an_attach_tells_what_it_cannot_read(
    bed: SimulatedBed, worker: harness.Harness, place: str
) -> None:
    # Given a session, so that there is something to look for
    neighbour = bed.create_volume()
    assert worker.attach(neighbour).status == 'attached'
    volume = bed.create_volume(on=neighbour)
    before = bed.snapshot()
    with bed.unreadable(place):
        assert_told(worker.attach(volume))
    assert bed.snapshot() == before
    # And an attach that is repeated leaves the device that there is
    with bed.unreadable(place):
        assert_told(worker.attach(neighbour))
    assert bed.snapshot() == before
    for one in (volume, neighbour):
        assert worker.attach(one).status == 'attached'
        assert worker.detach(one.name).status == 'detached'


@pytest.mark.parametrize('place', [SESSIONS, BLOCK])
def test_an_extend_tells_what_it_cannot_read(
    bed: SimulatedBed, worker: harness.Harness, place: str
) -> None:
    volume = bed.create_volume(resizable=True)
    assert worker.attach(volume).status == 'attached'
    bed.resize_volume(volume, 2 * volume.size)
    with bed.unreadable(place):
        assert_told(worker.extend(volume.name, 2 * volume.size))
    result = worker.extend(volume.name, 2 * volume.size)
    assert result.status == 'extended', result.as_dict()
    assert worker.detach(volume.name).status == 'detached'


def test_questions_are_answered_with_what_cannot_be_read(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    assert worker.attach(volume).status == 'attached'
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    with bed.unreadable(SESSIONS):
        for ask in (
            lambda: worker.api.audit({}, worker.name),
            lambda: worker.api.get_volume_paths({}, worker.name, info),
        ):
            with pytest.raises(exception.HostToolFailed, match=SESSIONS):
                ask()
        # What the journal knows needs no look
        assert worker.attachments() == [f'{volume.name} attached']
    assert worker.detach(volume.name).status == 'detached'


def test_clean_up_tries_again_until_it_can_be_read(
    bed: SimulatedBed,
) -> None:
    # Given an attach that fails, of which nobody can tell what is left
    volume = bed.create_volume()
    nothing = bed.snapshot()
    trouble = contextlib.ExitStack()

    class Failing(runs.Run):
        def before(self, step: str) -> None:
            if step == 'VerifyDevice':
                trouble.enter_context(bed.unreadable(SESSIONS))
                raise exception.DeviceNotFound(volume=volume.name)

    with harness.Harness(bed, run_class=Failing) as worker:
        result = worker.attach(volume)
        assert result.error.code == 'device_not_found', result.as_dict()
        assert SESSIONS in ' '.join(result.leftovers)
        # When clean-up has met it once more, and it can be read again
        waiting(lambda: worker.worker._cleanup._pauses.get(volume.name, 0) > 2)
        trouble.close()
        # Then in the end nothing is left
        waiting(lambda: not worker.attachments())
    assert bed.snapshot() == nothing


def test_a_line_of_multipath_goes_once_it_can_be_read(
    bed: SimulatedBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an attach that learns no identity, and whose undo cannot read
    # which maps there are, after multipathd has made one with its disks
    volume = bed.create_volume(portals=2)
    nothing = bed.snapshot()
    lists = bed.root / multipathd.WWIDS
    clear_up = takedown.Takedown._clear_up

    def fails(
        down: takedown.Takedown, wwids: set[str], beside: str | None
    ) -> list[str]:
        with open(lists, 'a', encoding='utf-8') as file:
            file.writelines(f'/{wwid}/\n' for wwid in wwids)
        monkeypatch.setattr(takedown.Takedown, '_clear_up', clear_up)
        raise OSError(errno.EIO, 'no directory can be read')

    monkeypatch.setattr(takedown.Takedown, '_clear_up', fails)
    with harness.Harness(bed) as worker:
        result = worker.attach(volume, multipath=True, expected_wwn='another')
        assert result.error.code == 'identity_mismatch', result.as_dict()
        assert "multipath's list" in ' '.join(result.leftovers)
        # Then it is gone in the end
        waiting(lambda: not worker.attachments())
        assert bed.snapshot() == nothing


def test_a_worker_starts_where_the_host_cannot_be_read(
    bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    # Given a volume with a map
    volume = bed.create_volume(portals=2)
    with harness.Harness(bed, state_path=tmp_path) as worker:
        result = worker.attach(volume, multipath=True, min_paths=2)
        assert result.device.multipath_id, result.as_dict()
    # When a worker starts and cannot read which maps there are
    trouble = contextlib.ExitStack()
    trouble.enter_context(bed.unreadable(SESSIONS))
    with trouble, harness.Harness(bed, state_path=tmp_path) as worker:
        trouble.close()
        # Then it serves nevertheless, and knows the volume
        assert worker.attachments() == [f'{volume.name} attached']
        assert worker.detach(volume.name).status == 'detached'
