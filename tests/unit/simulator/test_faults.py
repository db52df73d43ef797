# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Faults in the simulator's own process."""

import concurrent.futures
import errno
import time

import pytest

from tests.simulator import bed as beds
from tests.simulator import client
from tests.simulator import verbs as verb_names
from tests.simulator.faults import Fault
from tests.unit.simulator import view


def test_session_vanishes_after_its_login(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    fault = bed.arm(Fault.VANISH, 'iscsi.login')

    assert kernel.login(volume)[0] == verb_names.OK

    assert fault.fired == 1
    assert kernel.sessions(volume) == []


def test_device_vanishes_after_its_scan(
    bed: beds.SimulatedBed, kernel: view.Kernel, events: client.UeventSource
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)
    session = kernel.session(volume)
    bed.arm(Fault.VANISH, 'scsi.scan')
    before = list((bed.root / 'dev').iterdir())

    bed.verbs.scsi.scan(session.host, 0, 0, volume.lun)

    assert kernel.devices(session) == []
    view.next_event(events, ACTION='remove', SUBSYSTEM='scsi')
    time.sleep(0.05)
    assert list((bed.root / 'dev').iterdir()) == before


def test_device_vanishes_after_an_inquiry(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)
    bed.arm(Fault.VANISH, 'scsi.inquiry', match={'device': device.disk})

    bed.verbs.scsi.inquiry(
        str(device.disk), bed.instance(str(device.disk)), 0x83
    )

    assert not device.directory.exists()
    assert kernel.session(volume).state == 'LOGGED_IN'


def test_late_events_come_late_and_in_order(
    bed: beds.SimulatedBed, kernel: view.Kernel, events: client.UeventSource
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)
    view.next_event(events, ACTION='add', SUBSYSTEM='block')
    fault = bed.arm(
        Fault.LATE_EVENTS, times=None, seconds=3.0, match={'ACTION': 'remove'}
    )

    bed.verbs.scsi.delete(device.hctl)
    again = kernel.attach(volume)

    # the old device's end is reported after the new one's start
    assert device.disk == again.disk
    added = view.next_event(events, SUBSYSTEM='block')
    assert added['ACTION'] == 'add'
    late = view.next_event(events, SUBSYSTEM='block')
    assert late['ACTION'] == 'remove'
    assert late['DEVNAME'] == added['DEVNAME']
    assert int(late['SEQNUM']) < int(added['SEQNUM'])
    last = view.next_event(events, SUBSYSTEM='scsi', ACTION='remove')
    assert int(last['SEQNUM']) > int(late['SEQNUM'])
    assert fault.fired >= 3


def test_lost_events(
    bed: beds.SimulatedBed, kernel: view.Kernel, events: client.UeventSource
) -> None:
    first, second = bed.create_volume(), bed.create_volume()
    fault = bed.arm(Fault.LOST_EVENTS, match={'SUBSYSTEM': 'block'})

    lost = kernel.attach(first)
    seen = kernel.attach(second)

    event = view.next_event(events, SUBSYSTEM='block')
    assert event['DEVNAME'] == seen.disk != lost.disk
    assert fault.fired == 1


def test_overrun_is_reported_once(
    bed: beds.SimulatedBed, kernel: view.Kernel, events: client.UeventSource
) -> None:
    volume = bed.create_volume()
    bed.arm(Fault.OVERRUN, match={'SUBSYSTEM': 'scsi_disk'})

    kernel.attach(volume)

    with pytest.raises(OSError, match='buffer') as caught:
        view.next_event(events, SUBSYSTEM='block')
    assert caught.value.errno == errno.ENOBUFS
    assert view.next_event(events, SUBSYSTEM='block')


def test_reader_that_sleeps_gets_an_overrun(
    bed: beds.SimulatedBed, kernel: view.Kernel, events: client.UeventSource
) -> None:
    volume = bed.create_volume()
    for _ in range(40):
        kernel.login(volume)
        bed.verbs.iscsi.logout(kernel.session(volume).number, 5.0)

    with pytest.raises(OSError, match='buffer') as caught:
        view.next_event(events, ACTION='none such')

    assert caught.value.errno == errno.ENOBUFS


def test_hanging_verb_is_nobody_elses_problem(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    stuck, healthy = bed.create_volume(), bed.create_volume()
    fault = bed.arm(
        Fault.HANG_BEFORE, 'iscsi.login', match={'target_name': stuck.target}
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        hanging = pool.submit(kernel.login, stuck)
        assert fault.wait()

        kernel.attach(healthy)

        assert bed.snapshot()['children'] == ['iscsi.login']
        assert kernel.sessions(stuck) == []
        fault.release()
        assert hanging.result(view.PATIENCE)[0] == verb_names.OK
    assert bed.snapshot()['children'] == []


def test_unfired_faults_are_known(bed: beds.SimulatedBed) -> None:
    bed.arm(Fault.FAIL_AFTER, 'scsi.scan')

    assert bed.unfired() == ['fail_after scsi.scan']
