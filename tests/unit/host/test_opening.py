# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Disks that are shown before they can be opened, on a simulated host."""

import errno

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as hosts
from tests.simulator import bed as beds
from tests.simulator.faults import Fault
from tests.unit.host import test_scsi


def test_a_disk_that_cannot_be_opened_yet_is_waited_for(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given a disk that the kernel is not done with
    volume = bed.create_volume()
    _, device = test_scsi.connected(host, volume)
    assert device.disk is not None
    for verb in ('scsi.inquiry', 'block.check_readable'):
        bed.arm(Fault.FAIL_BEFORE, verb, times=2, number=errno.ENXIO)
    # When it is asked who it is, and is read
    assert host.scsi.wwn(device, deadline) == f'3{volume.wwn}'
    found = host.block.device(str(device.disk))
    assert found is not None
    host.block.check_readable(found, deadline)
    # Then it has answered once it could be opened
    assert bed.unfired() == []


@pytest.mark.parametrize('how', ['offline', 'gone'])
def test_a_disk_that_does_not_work_is_not_waited_for(
    bed: beds.SimulatedBed, host: hosts.Host, how: str
) -> None:
    # Given a disk that cannot be opened any more
    session, device = test_scsi.connected(host, bed.create_volume())
    assert device.disk is not None
    directory = session.directory / f'target{session.host}:0:0' / device.hctl
    if how == 'offline':
        (directory / 'state').write_text('offline\n')
    else:
        bed.verbs.scsi.delete(device.hctl)
    armed = bed.arm(
        Fault.FAIL_BEFORE, 'scsi.inquiry', times=None, number=errno.ENXIO
    )
    # When it is asked who it is
    expected = errno.ENXIO if how == 'offline' else errno.ESTALE
    with pytest.raises(OSError, match='0:0:0 is not|No such device') as caught:
        host.scsi.wwn(device, deadlines.Deadline.after(60))
    # Then it was asked once, if there is anything to ask
    assert caught.value.errno == expected
    assert armed.fired == (how == 'offline')


def test_a_disk_that_cannot_be_opened_in_time_fails(
    bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    _, device = test_scsi.connected(host, bed.create_volume())
    assert device.disk is not None
    bed.arm(Fault.FAIL_BEFORE, 'scsi.inquiry', times=None, number=errno.ENXIO)
    with pytest.raises(exception.DeadlineExceeded):
        host.scsi.wwn(device, deadlines.Deadline.after(0.1))
