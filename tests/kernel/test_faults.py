# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""A choice of the failures of tests/crash, on a real kernel."""

from collections.abc import Iterator
import errno
import time

import pytest

from tests import harness
from tests.crash import faults as step_faults
from tests.kernel.bed import KernelBed
from tests.simulator import faults
from tests.simulator import faulty

DEADLINE = 20


@pytest.fixture
def plan() -> faults.FaultPlan:
    return faults.FaultPlan()


@pytest.fixture
def worker(
    bed: KernelBed, plan: faults.FaultPlan
) -> Iterator[harness.Harness]:
    """A worker whose verbs go wrong as planned."""
    host = bed.host(faulty.FaultyVerbs(bed.verbs, plan))
    with harness.Harness(bed, host=host) as running:
        yield running


@pytest.mark.parametrize(
    ('verb', 'fault', 'code'),
    [
        ('iscsi.login', faults.Fault.FAIL_BEFORE, 'host_tool_failed'),
        ('iscsi.login', faults.Fault.FAIL_AFTER, 'host_tool_failed'),
        ('scsi.scan', faults.Fault.FAIL_BEFORE, 'host_tool_failed'),
        ('scsi.scan', faults.Fault.FAIL_AFTER, 'host_tool_failed'),
        ('scsi.inquiry', faults.Fault.FAIL_BEFORE, 'device_not_found'),
        ('block.check_readable', faults.Fault.FAIL_BEFORE, 'host_tool_failed'),
    ],
)
def test_failed_verb_is_undone(
    bed: KernelBed,
    worker: harness.Harness,
    plan: faults.FaultPlan,
    verb: str,
    fault: faults.Fault,
    code: str,
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    armed = plan.arm(fault, verb, times=2)
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    assert armed.fired >= 1
    assert result.status == 'failed', result.as_dict()
    assert result.error.code == code, result.as_dict()
    assert result.leftovers == []
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('verb', ['scsi.inquiry', 'block.check_readable'])
def test_a_disk_that_cannot_be_opened_yet_is_waited_for(
    bed: KernelBed,
    worker: harness.Harness,
    plan: faults.FaultPlan,
    verb: str,
) -> None:
    # Given disks that the kernel shows before it lets them be opened
    volume = bed.create_volume()
    armed = plan.arm(
        faults.Fault.FAIL_BEFORE, verb, times=2, number=errno.ENXIO
    )
    # When a volume is attached
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    # Then its disk is opened as soon as it can be
    assert armed.fired == 2
    assert result.status == 'attached', result.as_dict()
    assert worker.detach(volume.name).status == 'detached'


@pytest.mark.parametrize('mode', list(step_faults.Mode), ids=lambda m: m.name)
@pytest.mark.parametrize('step', ['ConnectTarget', 'VerifyDevice'])
def test_failed_step_is_undone(
    bed: KernelBed, step: str, mode: step_faults.Mode
) -> None:
    # Given a neighbour on the same target
    neighbour = bed.create_volume()
    volume = bed.create_volume(on=neighbour)
    run_class = step_faults.failing(mode)
    with harness.Harness(bed, run_class=run_class) as worker:
        path = worker.attach(neighbour).device.path
        before = bed.snapshot()
        # When a step of an attach goes wrong
        run_class.arm(step)
        result = worker.attach(volume)
        # Then all of it is undone, and nothing else
        assert run_class.step is None, 'the fault did not strike'
        assert result.status == 'failed', result.as_dict()
        assert result.error.step.partition(':')[0] == step
        assert result.leftovers == []
        assert bed.snapshot() == before
        assert bed.read(path) == neighbour.pattern
        assert worker.detach(neighbour.name).status == 'detached'


def test_login_that_hangs_is_told_and_undone_later(
    bed: KernelBed, worker: harness.Harness, plan: faults.FaultPlan
) -> None:
    # Given a login that does not return
    worker.conf.set_override('rollback_grace', 2)
    volume = bed.create_volume()
    before = bed.snapshot()
    armed = plan.arm(faults.Fault.HANG_AFTER, 'iscsi.login')
    # When a volume is attached
    result = worker.attach(volume, deadline_seconds=4)
    # Then the caller is told in time what could not be put back
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert result.leftovers != []
    # And once the login has returned, its session goes without being asked
    armed.release()
    until = time.monotonic() + 60
    while bed.snapshot() != before or worker.attachments():
        assert time.monotonic() < until, bed.snapshot()
        time.sleep(0.5)


def test_portal_that_hangs(bed: KernelBed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.hang_portal(volume.portals[0])
    started = time.monotonic()
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert time.monotonic() - started < DEADLINE + 5
    bed.start_portal(volume.portals[0])
    assert bed.snapshot() == before


def test_iscsid_killed_while_a_volume_is_attached(
    bed: KernelBed, worker: harness.Harness
) -> None:
    """The credentials of its session are on no disk, and not needed there."""
    volume = bed.create_volume(chap=('user', 'a secret word'))
    before = bed.snapshot()
    path = worker.attach(volume).device.path
    bed.restart_iscsid()
    bed.break_connections(volume)
    assert bed.read(path) == volume.pattern
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before
