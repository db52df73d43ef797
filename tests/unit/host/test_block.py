# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Block devices: what is known of them, and their data."""

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


def test_data_comes_from_the_device(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    bed.write(f'/dev/{disk}', b'x' * 4096)
    host.block.flush(disk, deadline)
    assert host.block.read_first_block(disk, deadline) == b'x' * 4096


@pytest.mark.parametrize('verb', ['block.flush', 'block.read'])
def test_a_device_that_fails(
    host: hosts.Host,
    plan: faults.FaultPlan,
    disk: str,
    deadline: deadlines.Deadline,
    verb: str,
) -> None:
    plan.arm(faults.Fault.FAIL_BEFORE, verb)
    act = {
        'block.flush': host.block.flush,
        'block.read': host.block.read_first_block,
    }[verb]
    with pytest.raises(OSError, match='injected'):
        act(disk, deadline)


def test_size_is_in_bytes(bed: beds.SimulatedBed, host: hosts.Host) -> None:
    volume = bed.create_volume(size=3 * 1024 * 1024)
    _, device = test_scsi.connected(host, volume)
    assert host.block.size(device.disk) == 3 * 1024 * 1024
