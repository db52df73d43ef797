# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Block devices: what is known of them, and their data."""

import errno

import pytest

from attachworker import deadline as deadlines
from attachworker import host as hosts
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.host import test_scsi


@pytest.fixture
def disk(bed: beds.SimulatedBed, host: hosts.Host) -> str:
    _, device = test_scsi.connected(host, bed.create_volume())
    assert device.disk is not None
    return device.disk


def test_a_disk_that_is_gone(
    host: hosts.Host,
) -> None:
    assert host.block.size('sdzz') is None
    assert host.block.device('sdzz') is None


def test_data_comes_from_the_device(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    bed.write(f'/dev/{disk}', b'x' * 4096)
    host.block.flush(disk, deadline)
    device = host.block.device(disk)
    assert device is not None
    host.block.check_readable(device, deadline)
    assert bed.read(f'/dev/{disk}') == b'x' * 4096


def test_a_name_that_went_to_another_device_is_not_read(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given a disk that somebody has found by its name
    session, found = test_scsi.connected(host, bed.create_volume())
    device = host.block.device(str(found.disk))
    assert device is not None
    # When it goes, and the next disk gets the name
    assert host.scsi.remove(found.hctl, deadline)
    _, other = test_scsi.connected(host, bed.create_volume())
    assert other.disk == device.name
    # Then that is no data of his, and the old address leads nowhere
    with pytest.raises(OSError, match='another device') as caught:
        host.block.check_readable(device, deadline)
    assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match='is not') as caught:
        host.scsi.wwn(found, deadline)
    assert caught.value.errno == errno.ESTALE


def test_a_device_that_cannot_be_flushed(
    host: hosts.Host,
    plan: faults.FaultPlan,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    plan.arm(faults.Fault.FAIL_BEFORE, 'block.flush')
    with pytest.raises(OSError, match='injected'):
        host.block.flush(disk, deadline)


def test_a_device_that_cannot_be_read(
    host: hosts.Host,
    plan: faults.FaultPlan,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    device = host.block.device(disk)
    assert device is not None
    plan.arm(faults.Fault.FAIL_BEFORE, 'block.check_readable')
    with pytest.raises(OSError, match='injected'):
        host.block.check_readable(device, deadline)


def test_size_is_in_bytes(bed: beds.SimulatedBed, host: hosts.Host) -> None:
    volume = bed.create_volume(size=3 * 1024 * 1024)
    _, device = test_scsi.connected(host, volume)
    assert host.block.size(device.disk) == 3 * 1024 * 1024
