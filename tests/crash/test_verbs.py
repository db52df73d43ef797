# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every verb that an attach or a detach uses fails, hangs or lies.

The verbs are the whole seam to the kernel. The simulator's faults strike
outside the worker's process.
"""

from collections.abc import Iterator
import errno
import time
from typing import Any

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

DEADLINE = 4
GRACE = 2


@pytest.fixture(scope='module')
def bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture(scope='module')
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    options = {'login_timeout': 3, 'scan_attempts': 1, 'device_timeout': 3}
    with harness.Harness(bed, rollback_grace=GRACE, iscsi=options) as running:
        yield running


def until(look: object, seconds: float = 20.0) -> None:
    """Wait until a look at the host succeeds."""
    limit = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < limit, 'it did not happen'
        time.sleep(0.02)


#: Verb, fault, exit code; then error code and step of the result.
ATTACH = [
    ('iscsi.login', Fault.FAIL_BEFORE, 0, 'host_tool_failed', 'ConnectTarget'),
    ('iscsi.login', Fault.FAIL_AFTER, 0, 'host_tool_failed', 'ConnectTarget'),
    ('iscsi.login', Fault.FAIL_EXIT, 8, 'login_failed', 'ConnectTarget'),
    (
        'iscsi.login',
        Fault.FAIL_EXIT,
        11,
        'target_unreachable',
        'ConnectTarget',
    ),
    ('iscsi.login', Fault.FAIL_EXIT, 24, 'auth_failed', 'ConnectTarget'),
    ('iscsi.login', Fault.FAIL_EXIT, 20, 'host_tool_failed', 'ConnectTarget'),
    ('iscsi.login', Fault.VANISH, 0, 'login_failed', 'ConnectTarget'),
    ('scsi.scan', Fault.FAIL_BEFORE, 0, 'host_tool_failed', 'ConnectTarget'),
    ('scsi.scan', Fault.FAIL_AFTER, 0, 'host_tool_failed', 'ConnectTarget'),
    ('scsi.scan', Fault.VANISH, 0, 'device_not_found', 'ConnectTarget'),
    ('scsi.inquiry', Fault.FAIL_BEFORE, 0, 'device_not_found', 'FindWwn'),
    (
        'block.check_readable',
        Fault.FAIL_BEFORE,
        0,
        'host_tool_failed',
        'VerifyDevice',
    ),
]


@pytest.mark.parametrize(
    ('verb', 'fault', 'exit_code', 'code', 'step'), ATTACH
)
def test_attach_undoes(
    bed: SimulatedBed,
    worker: harness.Harness,
    verb: str,
    fault: Fault,
    exit_code: int,
    code: str,
    step: str,
) -> None:
    # Given a verb that goes wrong
    volume = bed.create_volume()
    before = bed.snapshot()
    armed = bed.arm(fault, verb, exit_code=exit_code)
    # When a volume is attached
    result = worker.attach(volume)
    assert armed.fired == 1
    # Then the result says what and where, and nothing is left
    assert result.status == 'failed', result.as_dict()
    assert (result.error.code, step_of(result)) == (code, step)
    assert result.leftovers == []
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('multipath', [False, True])
@pytest.mark.parametrize('verb', ['scsi.inquiry', 'block.check_readable'])
def test_attach_waits_until_a_disk_can_be_opened(
    bed: SimulatedBed, worker: harness.Harness, verb: str, multipath: bool
) -> None:
    # Given disks that the kernel shows before it lets them be opened
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    armed = bed.arm(Fault.FAIL_BEFORE, verb, times=2, number=errno.ENXIO)
    # When a volume is attached
    result = worker.attach(volume, multipath=multipath)
    # Then its disks are opened as soon as they can be
    assert armed.fired == 2
    assert result.status == 'attached', result.as_dict()
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def discovering(volume: beds.Volume) -> dict[str, Any]:
    """An attach whose request does not name all portals."""
    info = volume.connection_info()
    for key in ('target_portals', 'target_iqns', 'target_luns'):
        info['data'].pop(key, None)
    return {'connection_info': info, 'multipath': True}


@pytest.mark.parametrize(
    ('fault', 'exit_code'),
    [
        (Fault.FAIL_BEFORE, 0),
        (Fault.FAIL_AFTER, 0),
        (Fault.FAIL_EXIT, 4),
        (Fault.FAIL_EXIT, 6),
        (Fault.FAIL_EXIT, 21),
        (Fault.FAIL_EXIT, 24),
    ],
)
def test_attach_does_without_discovery(
    bed: SimulatedBed, worker: harness.Harness, fault: Fault, exit_code: int
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    armed = bed.arm(fault, 'iscsi.discover', exit_code=exit_code)
    result = worker.attach(volume, **discovering(volume))
    assert armed.fired == 1
    assert result.status == 'attached', result.as_dict()
    assert [path.portal for path in result.device.paths] == [volume.portals[0]]
    assert any('discovery' in warning for warning in result.warnings)
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('fault', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
def test_discovery_that_hangs(
    bed: SimulatedBed, worker: harness.Harness, fault: Fault
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    armed = bed.arm(fault, 'iscsi.discover')
    result = worker.attach(
        volume, deadline_seconds=DEADLINE, **discovering(volume)
    )
    assert armed.fired == 1
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert step_of(result) == 'DiscoverTargets'
    assert result.leftovers == []
    armed.release()
    # Its process ends by itself.
    until(lambda: bed.snapshot() == before)


@pytest.mark.parametrize('fault', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize(
    ('verb', 'step'),
    [
        ('iscsi.login', 'ConnectTarget'),
        ('scsi.scan', 'ConnectTarget'),
        ('scsi.inquiry', 'FindWwn'),
        ('block.check_readable', 'VerifyDevice'),
    ],
)
def test_attach_does_not_hang(
    bed: SimulatedBed,
    worker: harness.Harness,
    verb: str,
    step: str,
    fault: Fault,
) -> None:
    # Given a verb that does not return
    volume = bed.create_volume()
    before = bed.snapshot()
    armed = bed.arm(fault, verb)
    # When a volume is attached
    started = time.monotonic()
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    elapsed = time.monotonic() - started
    # Then the caller is told in time, and what cannot be put back is named
    assert armed.fired == 1
    assert elapsed < DEADLINE + GRACE + 5
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert step_of(result) == step
    if verb == 'iscsi.login':
        assert result.leftovers != []
        assert worker.attachments() == [f'{volume.name} failed']
    # And other volumes are served meanwhile
    other = bed.create_volume()
    assert worker.attach(other).status == 'attached'
    assert worker.detach(other.name).status == 'detached'
    # And once the verb has returned, all is put back without being asked
    armed.release()
    until(lambda: bed.snapshot() == before)
    until(lambda: worker.attachments() == [])


@pytest.mark.parametrize(
    ('verb', 'fault'),
    [
        ('encryption.read_header', Fault.FAIL_BEFORE),
        ('encryption.open', Fault.FAIL_BEFORE),
        ('encryption.open', Fault.FAIL_AFTER),
        ('encryption.open', Fault.VANISH),
    ],
)
def test_an_open_that_fails(
    bed: SimulatedBed, worker: harness.Harness, verb: str, fault: Fault
) -> None:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', 'key')
    before = bed.snapshot()
    armed = bed.arm(fault, verb)
    wanted = {'provider': 'luks2', 'key': 'key'}
    result = worker.attach(volume, encryption=wanted)
    assert armed.fired == 1
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert (step_of(result), result.leftovers) == ('OpenEncryption', [])
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('fault', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
def test_an_open_that_hangs(
    bed: SimulatedBed, worker: harness.Harness, fault: Fault
) -> None:
    # Given a key that takes for ever
    volume = bed.create_volume()
    before = bed.snapshot()
    armed = bed.arm(fault, 'encryption.open')
    wanted = {'provider': 'plain', 'key': 'key'}
    # When it is attached, then the caller is told in time what is left
    result = worker.attach(
        volume, encryption=wanted, deadline_seconds=DEADLINE
    )
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert step_of(result) == 'OpenEncryption'
    assert 'has not returned' in str(result.leftovers)
    # And what comes of it after all goes, too
    armed.release()
    until(lambda: bed.snapshot() == before)
    until(lambda: worker.attachments() == [])


@pytest.mark.parametrize('verb', ['scsi.delete', 'iscsi.logout'])
def test_undo_that_fails_is_told_and_tried_again(
    bed: SimulatedBed, worker: harness.Harness, verb: str
) -> None:
    # Given an attach that fails, and an undo that fails too
    volume = bed.create_volume()
    before = bed.snapshot()
    broken = bed.arm(Fault.FAIL_BEFORE, 'block.check_readable')
    armed = bed.arm(Fault.FAIL_BEFORE, verb, times=None)
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    assert broken.fired == 1
    # Then the result has the first cause, and names what is left
    assert result.error.code == 'host_tool_failed'
    assert step_of(result) == 'VerifyDevice'
    assert result.leftovers != [], result.as_dict()
    # And the undo goes on until nothing is left
    told = armed.fired
    until(lambda: armed.fired > told)
    bed.control('clear_faults')
    until(lambda: bed.snapshot() == before)
    until(lambda: worker.attachments() == [])


@pytest.mark.parametrize(
    ('verb', 'code', 'step'),
    [
        ('block.claimed', 'host_tool_failed', 'CheckUnused'),
        ('processes.users', 'host_tool_failed', 'CheckUnused'),
        ('block.flush', 'flush_failed', 'FlushDevice'),
        ('scsi.delete', 'host_tool_failed', 'VerifyGone'),
    ],
)
def test_detach_goes_on_from_there(
    bed: SimulatedBed,
    worker: harness.Harness,
    verb: str,
    code: str,
    step: str,
) -> None:
    # Given an attached volume, and a verb that fails once
    volume = bed.create_volume()
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    armed = bed.arm(Fault.FAIL_BEFORE, verb)
    # When it is detached
    result = worker.detach(volume.name)
    # Then the result says so
    assert armed.fired == 1
    assert result.status == 'failed', result.as_dict()
    assert (result.error.code, step_of(result)) == (code, step)
    assert bool(result.leftovers) == (step == 'VerifyGone')
    # And the next attempt succeeds
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('fault', 'exit_code'),
    [
        (Fault.FAIL_BEFORE, 0),
        (Fault.FAIL_EXIT, 20),  # iscsid is not there
        (Fault.FAIL_EXIT, 32),  # it brings the session's connection back
    ],
)
def test_a_logout_that_fails_is_tried_again(
    bed: SimulatedBed, worker: harness.Harness, fault: Fault, exit_code: int
) -> None:
    """As it does while iscsid is started again."""
    volume = bed.create_volume()
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    armed = bed.arm(fault, 'iscsi.logout', times=2, exit_code=exit_code)
    result = worker.detach(volume.name)
    assert armed.fired == 2
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_a_logout_that_goes_on_failing_is_told(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given an attached volume whose session iscsid does not end
    volume = bed.create_volume()
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    bed.arm(Fault.FAIL_BEFORE, 'iscsi.logout', times=None)
    # When it is detached, then the result says so
    result = worker.detach(volume.name, deadline_seconds=DEADLINE)
    assert result.status == 'failed', result.as_dict()
    assert any('session' in one for one in result.leftovers)
    # And the next attempt, when it does, succeeds
    bed.control('clear_faults')
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert worker.attachments() == []
    assert bed.snapshot() == before


def test_forced_detach_passes_a_flush_that_fails(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    worker.attach(volume)
    bed.arm(Fault.FAIL_BEFORE, 'block.flush')
    result = worker.detach(volume.name, force=True)
    assert result.status == 'detached', result.as_dict()
    assert 'may be lost' in result.warnings[0]


@pytest.mark.parametrize(
    ('fault', 'values'),
    [
        (Fault.LATE_EVENTS, {'times': None, 'seconds': 0.5}),
        (Fault.LOST_EVENTS, {'times': None}),
        (Fault.OVERRUN, {'times': 3}),
    ],
)
def test_events_are_hints(
    bed: SimulatedBed,
    worker: harness.Harness,
    fault: Fault,
    values: dict[str, object],
) -> None:
    # Given uevents that come late, or never, or too many at once
    volume = bed.create_volume()
    before = bed.snapshot()
    armed = bed.arm(fault, **values)
    # When a volume is attached and detached, then it is as ever
    result = worker.attach(volume)
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    assert worker.detach(volume.name).status == 'detached'
    assert armed.fired > 0
    armed.release()
    bed.control('clear_faults')
    assert bed.snapshot() == before


def step_of(result: objects.OperationResult) -> str:
    return result.error.step.partition(':')[0]
