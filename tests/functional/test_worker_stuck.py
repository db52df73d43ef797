# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Verbs that cannot be stopped: what they need is refused, and no more."""

from collections.abc import Iterator
import threading
import time

import pytest

from attachworker import objects
from tests import harness
from tests.functional import caller
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

#: Seconds that nothing takes which is refused, not even on a busy machine;
#: far below the deadline of a request.
AT_ONCE = 20.0


@pytest.fixture
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed, rollback_grace=1) as running:
        yield running


def stuck(worker: harness.Harness) -> list[objects.AuditFinding]:
    """What an audit says of verbs that have not returned."""
    report = worker.api.audit({}, worker.name)
    return [one for one in report.findings if 'has not returned' in one.detail]


def refused(
    result: objects.OperationResult, verb: str
) -> objects.OperationError:
    error = result.error
    assert result.status == 'failed', result.as_dict()
    assert error.code == 'target_unreachable', result.as_dict()
    assert error.retryable
    assert verb in error.message
    assert 'state D' in error.message
    return error


def threads(name: str) -> int:
    return [one.name for one in threading.enumerate()].count(name)


def clean(bed: SimulatedBed, worker: harness.Harness, before: object) -> None:
    caller.until(lambda: not worker.attachments())
    caller.until(lambda: bed.snapshot() == before)


@pytest.mark.parametrize(
    ('kind', 'verb'),
    [
        (Fault.HANG_BEFORE, 'iscsi.login'),
        (Fault.HANG_AFTER, 'iscsi.login'),
        (Fault.HANG_BEFORE, 'scsi.scan'),
        (Fault.HANG_AFTER, 'scsi.scan'),
    ],
)
def test_a_stuck_target_is_quarantined(
    bed: SimulatedBed, worker: harness.Harness, kind: Fault, verb: str
) -> None:
    first = bed.create_volume()
    neighbour, other = bed.create_volume(on=first), bed.create_volume()
    before = bed.snapshot()
    # Given an attach whose deadline passes while a verb is stuck
    fault = bed.arm(kind, verb)
    result = worker.attach(first, deadline_seconds=1)
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert result.leftovers
    # Then it is told which, and what to do
    [found] = stuck(worker)
    assert found.kind == 'stale'
    assert found.what.startswith(f'{verb} of ')
    # And what needs the same target is refused at once, and undoes nothing
    for volume in (neighbour, first):
        began = time.monotonic()
        result = worker.attach(
            volume, attachment_id=f'again-{volume.name}', deadline_seconds=300
        )
        assert time.monotonic() - began < AT_ONCE
        refused(result, verb)
        assert result.leftovers == []
    # And what needs another target is done
    result = worker.attach(other)
    assert result.status == 'attached', result.as_dict()
    assert worker.detach(other.name).status == 'detached'
    # And it costs one thread, however often somebody tries
    assert threads(verb) == 1
    # When it returns
    fault.release()
    # Then what was left over goes, and nothing is refused any more
    clean(bed, worker, before)
    assert stuck(worker) == []
    result = worker.attach(neighbour)
    assert result.status == 'attached', result.as_dict()
    assert worker.detach(neighbour.name).status == 'detached'


def test_a_stuck_scan_of_a_session_that_others_use_is_left_over(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a volume whose session another attachment uses
    neighbour = bed.create_volume()
    volume = bed.create_volume(on=neighbour)
    assert worker.attach(neighbour).status == 'attached'
    before = bed.snapshot()
    # When its attach is given up in the scan
    fault = bed.arm(Fault.HANG_BEFORE, 'scsi.scan')
    result = worker.attach(volume, deadline_seconds=1)
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    # Then the device that may come yet is not forgotten
    assert 'scsi.scan' in ', '.join(result.leftovers)
    fault.release()
    caller.until(
        lambda: worker.attachments() == [f'{neighbour.name} attached']
    )
    caller.until(lambda: bed.snapshot() == before)
    assert worker.detach(neighbour.name).status == 'detached'


@pytest.mark.parametrize(
    'verb',
    ['rbd.remove', 'loop.detach', 'mounts.unmount', 'encryption.close'],
)
def test_what_is_about_to_go_is_not_given_out(
    bed: SimulatedBed, worker: harness.Harness, verb: str
) -> None:
    # Given a detach that was given up while the device is taken away
    values = {}
    if verb == 'rbd.remove':
        volume = bed.create_rbd_volume()
    elif verb == 'loop.detach':
        volume = bed.create_local_volume()
    elif verb == 'mounts.unmount':
        volume = bed.create_mount_volume()
    else:
        volume = bed.create_volume()
        bed.encrypt(volume, 'luks2', 'key')
        values = {'encryption': {'provider': 'luks2', 'key': 'key'}}
    before = bed.snapshot()
    assert worker.attach(volume, **values).status == 'attached'
    fault = bed.arm(Fault.HANG_BEFORE, verb)
    result = worker.detach(volume.name, deadline_seconds=1)
    assert result.status == 'failed', result.as_dict()
    # When the volume is wanted again, then it is refused
    refused(worker.attach(volume, deadline_seconds=3, **values), verb)
    # And a detach ends it, once it has gone
    fault.release()
    caller.until(lambda: not stuck(worker))
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    clean(bed, worker, before)


def test_another_path_does_for_a_stuck_one(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a volume with two portals, of which one has a stuck login
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    address, _, port = volume.portals[1].rpartition(':')
    match = {'address': address, 'port': int(port)}
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login', match=match)
    result = worker.attach(
        volume, min_paths=2, deadline_seconds=1, multipath=True
    )
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    # When it is attached with what there is
    again = worker.attach(volume, attachment_id='again', multipath=True)
    # Then the other one does, and the result tells of the stuck one
    assert again.status == 'attached', again.as_dict()
    assert again.device.degraded
    states = {one.portal: one.error for one in again.device.paths}
    assert states[volume.portals[1]] == 'target_unreachable'
    assert worker.detach('again').status == 'detached'
    fault.release()
    clean(bed, worker, before)


@pytest.mark.parametrize('force', [False, True], ids=['unforced', 'forced'])
def test_a_stuck_flush(
    bed: SimulatedBed, worker: harness.Harness, force: bool
) -> None:
    volume = bed.create_volume()
    neighbour = bed.create_volume(on=volume)
    before = bed.snapshot()
    for one in (volume, neighbour):
        assert worker.attach(one).status == 'attached'
    # Given a detach that was given up in its flush
    fault = bed.arm(Fault.HANG_BEFORE, 'block.flush')
    result = worker.detach(volume.name, deadline_seconds=1)
    assert result.status == 'failed', result.as_dict()
    assert 'block.flush' in stuck(worker)[0].what
    # Then a detach and an extend of it are refused, and change nothing
    refused(worker.detach(volume.name), 'block.flush')
    refused(worker.extend(volume.name, volume.size), 'block.flush')
    assert f'{volume.name} attached' in worker.attachments()
    # And another volume of the same session is not concerned
    assert worker.detach(neighbour.name).status == 'detached'
    assert threads('block.flush') == 1
    if force:
        # And who does not mind to lose data need not wait for it
        result = worker.detach(volume.name, force=True)
        assert result.status == 'detached', result.as_dict()
        assert any('may be lost' in one for one in result.warnings)
        fault.release()
    else:
        fault.release()
        caller.until(lambda: not stuck(worker))
        assert worker.detach(volume.name).status == 'detached'
    clean(bed, worker, before)


def test_stuck_targets_take_no_places(bed: SimulatedBed) -> None:
    with harness.Harness(
        bed, rollback_grace=1, max_running=2, max_running_per_backend=2
    ) as small:
        # Given more stuck targets than a worker has places
        before = bed.snapshot()
        fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login', times=3)
        for _ in range(3):
            result = small.attach(bed.create_volume(), deadline_seconds=1)
            assert result.error.code == 'deadline_exceeded', result.as_dict()
        # Then it serves others, and says what is stuck
        assert len(stuck(small)) == 3
        healthy = bed.create_volume()
        assert small.attach(healthy).status == 'attached'
        assert small.detach(healthy.name).status == 'detached'
        assert small.api.ping({}, small.name)['ready']
        fault.release()
        clean(bed, small, before)
