# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker's own Host works on a simulated one."""

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors.iscsi.initiator import Initiator
from tests.simulator import bed as beds
from tests.simulator.faults import Fault
from tests.unit.simulator import view


def test_host_attaches_and_detaches(bed: beds.SimulatedBed) -> None:
    volume = bed.create_volume(chap=('user', 'secret-of-user'))
    before = bed.snapshot()
    address, _, port = volume.portals[0].rpartition(':')
    deadline = deadlines.Deadline.after(10)
    host = bed.host()
    try:
        assert Initiator(host).login(
            volume.target,
            address,
            int(port),
            view.record(volume),
            5.0,
            deadline,
        )
        (session,) = Initiator(host).sessions(
            volume.target, address, int(port)
        )
        host.scsi.scan(
            session.host, 0, session.target_id, volume.lun, deadline
        )
        device = host.scsi.wait_for_disk(
            session.directory, volume.lun, deadline
        )
        assert device is not None
        assert device.disk is not None
        assert host.scsi.cached_wwn(device.hctl) == f'3{volume.wwn}'
        assert host.scsi.wwn(device, deadline) == f'3{volume.wwn}'
        assert host.block.size(device.disk) == volume.size
        found = host.block.device(str(device.disk))
        assert found is not None
        host.block.check_readable(found, deadline)

        bed.mount(device.disk, '/mnt')
        users = host.users.of([device.disk], deadline)
        assert users == {device.disk: ['mount /mnt']}
        bed.unmount('/mnt')
        assert host.scsi.remove(device.hctl, deadline)
        Initiator(host).logout(session, 5.0, deadline)
    finally:
        host.close()
    assert bed.snapshot() == before


def test_hanging_verb_costs_the_host_its_deadline(
    bed: beds.SimulatedBed,
) -> None:
    volume = bed.create_volume()
    address, _, port = volume.portals[0].rpartition(':')
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    host = bed.host()
    try:
        with pytest.raises(exception.DeadlineExceeded):
            Initiator(host).login(
                volume.target,
                address,
                int(port),
                view.record(volume),
                5.0,
                deadlines.Deadline.after(0.2),
            )
        assert fault.fired == 1
        fault.release()
        about = f'{volume.portals[0]},{volume.target}'
        view.until(lambda: not host.verbs.unfinished(about))
    finally:
        host.close()
