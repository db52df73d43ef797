# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The verbs of the protocols beside iSCSI fail, hang or lie."""

from collections.abc import Iterator
import errno
import uuid

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract.test_nvmeof import connect
from tests.contract.test_nvmeof import end
from tests.contract.test_nvmeof_hosts import PREFIX
from tests.crash.test_verbs import DEADLINE
from tests.crash.test_verbs import GRACE
from tests.crash.test_verbs import step_of
from tests.crash.test_verbs import until
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


@pytest.fixture(scope='module')
def bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture(scope='module')
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed, rollback_grace=GRACE) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_attached(
    bed: SimulatedBed, worker: harness.Harness
) -> Iterator[None]:
    """What a test that failed has left must not fail the next one."""
    yield
    bed.control('clear_faults')
    for attachment in worker.attachments():
        worker.detach(attachment.partition(' ')[0], force=True)


def create(bed: SimulatedBed, protocol: str) -> beds.Volume:
    made: beds.Volume = getattr(bed, f'create_{protocol}_volume')()
    return made


#: Protocol, verb, fault, errno; then error code and step of the result.
ATTACH = [
    (
        ('local', 'loop.attach', fault, errno.EIO),
        ('host_tool_failed', 'ConnectTarget'),
    )
    for fault in (Fault.FAIL_BEFORE, Fault.FAIL_AFTER)
]
ATTACH += [
    (
        ('local', 'loop.attach', Fault.VANISH, 0),
        ('device_not_found', 'ConnectTarget'),
    ),
    (
        ('local', 'loop.identify', Fault.FAIL_BEFORE, errno.ENXIO),
        ('device_not_found', 'FindWwn'),
    ),
    (
        ('nvme', 'nvme.connect', Fault.FAIL_BEFORE, errno.ECONNREFUSED),
        ('target_unreachable', 'ConnectTarget'),
    ),
    (
        ('nvme', 'nvme.connect', Fault.FAIL_BEFORE, errno.EKEYREJECTED),
        ('auth_failed', 'ConnectTarget'),
    ),
    (
        ('nvme', 'nvme.connect', Fault.FAIL_AFTER, errno.EIO),
        ('login_failed', 'ConnectTarget'),
    ),
    (
        ('nvme', 'nvme.identify', Fault.FAIL_BEFORE, errno.EIO),
        ('device_not_found', 'FindWwn'),
    ),
]
ATTACH += [
    (
        ('rbd', 'rbd.add', Fault.FAIL_BEFORE, number),
        (code, 'ConnectTarget'),
    )
    for number, code in (
        (errno.ENOENT, 'device_not_found'),
        (errno.EPERM, 'auth_failed'),
        (errno.ENOKEY, 'auth_failed'),
        (errno.ETIMEDOUT, 'target_unreachable'),
        (errno.ENXIO, 'host_tool_failed'),
        (errno.EIO, 'host_tool_failed'),
    )
]
ATTACH += [
    (
        ('rbd', 'rbd.add', Fault.FAIL_AFTER, errno.EIO),
        ('host_tool_failed', 'ConnectTarget'),
    ),
    (
        ('rbd', 'rbd.add', Fault.VANISH, 0),
        ('device_not_found', 'ConnectTarget'),
    ),
    (
        ('rbd', 'rbd.refresh', Fault.FAIL_BEFORE, errno.ENOENT),
        ('device_not_found', 'FindWwn'),
    ),
    (
        ('rbd', 'rbd.monitors', Fault.FAIL_BEFORE, errno.EACCES),
        ('host_tool_failed', 'ConnectTarget'),
    ),
]
ATTACH += [
    (('mount', verb, fault, number), (code, 'ConnectTarget'))
    for verb, fault, number, code in (
        (
            'mounts.mount',
            Fault.FAIL_BEFORE,
            errno.ETIMEDOUT,
            'target_unreachable',
        ),
        ('mounts.mount', Fault.FAIL_BEFORE, errno.EIO, 'host_tool_failed'),
        ('mounts.mount', Fault.FAIL_AFTER, errno.EIO, 'host_tool_failed'),
        ('mounts.mount', Fault.VANISH, 0, 'host_tool_failed'),
        ('mounts.inspect', Fault.FAIL_BEFORE, errno.EIO, 'device_not_found'),
        (
            'mounts.inspect',
            Fault.FAIL_BEFORE,
            errno.EACCES,
            'host_tool_failed',
        ),
    )
]
ATTACH += [
    (
        ('mount', 'mounts.inspect', Fault.VANISH, 0),
        ('device_not_found', 'FindWwn'),
    ),
]


@pytest.mark.parametrize(('what', 'told'), ATTACH)
def test_attach_undoes(
    bed: SimulatedBed,
    worker: harness.Harness,
    what: tuple[str, str, Fault, int],
    told: tuple[str, str],
) -> None:
    # Given a verb that goes wrong
    protocol, verb, fault, number = what
    volume = create(bed, protocol)
    before = bed.snapshot()
    armed = bed.arm(fault, verb, number=number)
    # When a volume is attached
    result = worker.attach(volume)
    assert armed.fired == 1
    # Then the result says what and where, and nothing is left
    assert result.status == 'failed', result.as_dict()
    assert (result.error.code, step_of(result)) == told
    assert result.leftovers == []
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('fault', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize(
    ('protocol', 'verb'),
    [
        ('local', 'loop.attach'),
        ('nvme', 'nvme.connect'),
        ('nvme', 'nvme.identify'),
        ('rbd', 'rbd.add'),
        ('rbd', 'rbd.refresh'),
        ('mount', 'mounts.mount'),
        ('mount', 'mounts.inspect'),
    ],
)
def test_attach_does_not_hang(
    bed: SimulatedBed,
    worker: harness.Harness,
    protocol: str,
    verb: str,
    fault: Fault,
) -> None:
    # Given a verb that does not return
    volume = create(bed, protocol)
    before = bed.snapshot()
    armed = bed.arm(fault, verb)
    # When a volume is attached, then the caller is told in time
    result = worker.attach(volume, deadline_seconds=DEADLINE)
    assert armed.fired == 1
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    # And once the verb has returned, all is put back without being asked
    armed.release()
    until(lambda: bed.snapshot() == before)
    until(lambda: worker.attachments() == [])
    # And the volume can be had again
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('protocol', 'verb'),
    [
        ('local', 'loop.detach'),
        ('nvme', 'nvme.delete'),
        ('rbd', 'rbd.remove'),
        ('mount', 'mounts.unmount'),
    ],
)
def test_detach_goes_on_from_there(
    bed: SimulatedBed, worker: harness.Harness, protocol: str, verb: str
) -> None:
    # Given an attached volume, and a verb that fails once
    volume = create(bed, protocol)
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    armed = bed.arm(Fault.FAIL_BEFORE, verb)
    # When it is detached, then the result says so
    result = worker.detach(volume.name)
    assert armed.fired == 1
    assert result.status == 'failed', result.as_dict()
    assert (result.error.code, step_of(result)) == (
        'host_tool_failed',
        'VerifyGone',
    )
    assert result.leftovers != []
    # And the next attempt succeeds
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('version', 'by'),
    [('1.2', 'ns_id'), ('1.2', 'volume_nguid'), ('1.0', 'ns_id')],
)
def test_a_controller_without_a_list_of_identifiers(
    bed: SimulatedBed, worker: harness.Harness, version: str, by: str
) -> None:
    # Given a volume of a subsystem that is older than that
    volume = bed.create_nvme_volume()
    nguid = bed.control(
        'set_nvme_version',
        target=volume.target,
        lun=volume.lun,
        version=version,
    )
    info = volume.connection_info()
    del info['data']['vol_uuid']
    if by == 'volume_nguid':
        del info['data']['ns_id']
        info['data'][by] = nguid
    before = bed.snapshot()
    # When it is attached, again, and grown
    for _ in range(2):
        result = worker.attach(volume, connection_info=info)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
    bed.resize_volume(volume, 2 * volume.size)
    result = worker.extend(volume.name, 2 * volume.size)
    assert result.status == 'extended', result.as_dict()
    # Then it is known by what it is known by otherwise
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_a_controller_of_another_name_outlives_a_connection_that_fails(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a controller to the same portal, by another name of this host
    volume = create(bed, 'nvme')
    other = uuid.uuid4()
    name = connect(bed, volume, f'{PREFIX}{other}', str(other))
    before = bed.snapshot()
    # When one of our own cannot be made
    armed = bed.arm(Fault.FAIL_BEFORE, 'nvme.connect', number=errno.EIO)
    result = worker.attach(volume)
    assert armed.fired == 1
    assert result.error.code == 'login_failed', result.as_dict()
    # Then the other one is none of our business
    assert result.leftovers == []
    assert bed.snapshot() == before
    # Nor is one that is made later
    end(bed, name)
    name = connect(bed, volume, f'{PREFIX}{other}', str(other))
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
    end(bed, name)


def test_a_controller_that_others_have_just_made_is_theirs(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given another program that connects in the same moment
    volume = create(bed, 'nvme')
    bed.arm(Fault.FAIL_AFTER, 'nvme.connect', number=errno.EALREADY)
    found = worker.attach(volume)
    assert found.status == 'attached', found.as_dict()
    controllers = bed.snapshot()['nvme_controllers']
    # When the volume is detached, then the controller stays
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot()['nvme_controllers'] == controllers
    end(bed, 'nvme0')
