# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""SCSI devices below a session, on a simulated host."""

import concurrent.futures
import contextlib
import errno
import pathlib

import pytest

from attachworker import deadline as deadlines
from attachworker import host as hosts
from attachworker.connectors.iscsi import initiator
from attachworker.host import scsi
from attachworker.host import uevents
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.connectors.iscsi import test_initiator
from tests.unit.host import fake_uevents
from tests.unit.host import test_vpd
from tests.unit.on_files import on_files

PATIENCE = 10.0


def logged_in(host: hosts.Host, volume: contract.Volume) -> initiator.Session:
    test_initiator.login(host, volume)
    (session,) = test_initiator.sessions(host, volume)
    return session


def connected(
    host: hosts.Host, volume: contract.Volume
) -> tuple[initiator.Session, scsi.ScsiDevice]:
    session = logged_in(host, volume)
    deadline = deadlines.Deadline.after(PATIENCE)
    host.scsi.scan(session.host, 0, session.target_id, volume.lun, deadline)
    device = host.scsi.wait_for_disk(session.directory, volume.lun, deadline)
    assert device is not None
    return session, device


def test_only_the_wanted_lun_appears(
    bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    # Given a target with two volumes
    volume = bed.create_volume()
    other = bed.create_volume(on=volume)
    # When one of them is looked for
    session, device = connected(host, volume)
    # Then it is the only one, with a disk and its own identifier
    assert device.lun == volume.lun
    assert host.scsi.devices(session.directory) == [device]
    assert host.scsi.find(session.directory, volume.lun) == device
    assert host.scsi.find(session.directory, other.lun) is None
    deadline = deadlines.Deadline.after(PATIENCE)
    assert host.scsi.wwn(device, deadline) == f'3{volume.wwn}'
    assert host.scsi.cached_wwn(device.hctl) == f'3{volume.wwn}'
    assert host.block.size(device.disk) == volume.size
    assert bed.read(f'/dev/{device.disk}') == volume.pattern


@pytest.mark.parametrize('lun', [0, 255, 256, 0x4100, 2**32])
def test_luns_of_any_width(
    bed: beds.SimulatedBed, host: hosts.Host, lun: int
) -> None:
    volume = bed.create_volume(lun=lun)
    _, device = connected(host, volume)
    assert device.lun == lun


def test_a_disk_that_comes_late_is_waited_for(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given somebody who waits for a disk before it is scanned for
    volume = bed.create_volume()
    session = logged_in(host, volume)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(
            host.scsi.wait_for_disk, session.directory, volume.lun, deadline
        )
        # When the kernel finds it
        host.scsi.scan(
            session.host, 0, session.target_id, volume.lun, deadline
        )
        # Then it is there
        device = waiting.result(PATIENCE)
    assert device is not None
    assert (bed.root / 'dev' / device.disk).exists()


@pytest.mark.parametrize(
    'fault', [faults.Fault.LOST_EVENTS, faults.Fault.OVERRUN]
)
def test_lost_events_lose_no_disk(
    bed: beds.SimulatedBed, host: hosts.Host, fault: faults.Fault
) -> None:
    volume = bed.create_volume()
    session = logged_in(host, volume)
    bed.arm(fault, times=None)
    deadline = deadlines.Deadline.after(PATIENCE)
    host.scsi.scan(session.host, 0, session.target_id, volume.lun, deadline)
    assert host.scsi.wait_for_disk(session.directory, volume.lun, deadline)
    assert bed.unfired() == []


def test_a_lun_that_is_not_mapped(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    volume = bed.create_volume()
    session = logged_in(host, volume)
    host.scsi.scan(session.host, 0, session.target_id, 7, deadline)
    soon = deadlines.Deadline.after(0.05)
    assert host.scsi.wait_for_disk(session.directory, 7, soon) is None


def test_removal(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    volume = bed.create_volume()
    session, device = connected(host, volume)
    assert host.scsi.remove(device.hctl, deadline) is True
    assert host.scsi.devices(session.directory) == []
    assert host.block.size(device.disk) is None
    # and of what is gone already
    assert host.scsi.remove(device.hctl, deadline) is True


def test_a_removal_that_is_refused(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    volume = bed.create_volume()
    _, device = connected(host, volume)
    plan.arm(faults.Fault.FAIL_BEFORE, 'scsi.delete')
    with pytest.raises(OSError, match='injected'):
        host.scsi.remove(device.hctl, deadline)


def test_a_removal_that_says_it_failed_and_did_not(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    """What counts is what the kernel has."""
    volume = bed.create_volume()
    _, device = connected(host, volume)
    plan.arm(faults.Fault.FAIL_AFTER, 'scsi.delete')
    assert host.scsi.remove(device.hctl, deadline) is True
    assert plan.unfired() == []


def test_identity_comes_from_the_target_and_not_from_a_cache(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given a LUN that is mapped to another volume behind the kernel's back
    volume = bed.create_volume()
    _, device = connected(host, volume)
    keeper = bed.create_volume(on=volume)
    bed.remove_volume(volume)
    other = bed.create_volume(on=keeper, lun=volume.lun)
    # Then the kernel shows the old one, and the target tells the new one
    assert host.scsi.cached_wwn(device.hctl) == f'3{volume.wwn}'
    assert host.scsi.wwn(device, deadline) == f'3{other.wwn}'


def test_cached_and_fresh_identity_are_read_alike(
    tmp_path: pathlib.Path,
) -> None:
    """The kernel ranks the identifiers of a volume otherwise than udev.

    It prefers a name string, and a long EUI to a short NAA. Such a volume is
    not another one just because of that.
    """
    # Given a volume with three identifiers
    page = test_vpd.page(
        [
            test_vpd.NAA5_OF_UNIT,
            test_vpd.designator(3, 8, b'iqn.2026-01.example:lun-5\0\0\0'),
            test_vpd.designator(1, 2, bytes(range(16))),
        ]
    )
    device = tmp_path / 'sys/class/scsi_device/2:0:0:5/device'
    (device / 'block/sda').mkdir(parents=True)
    (device / 'wwid').write_text('iqn.2026-01.example:lun-5\n')
    (device / 'vpd_pg83').write_bytes(page)

    class Verbs:
        def inquiry(self, disk: str, instance: int, number: int) -> bytes:
            assert (disk, number) == ('sda', 0x83)
            return page

    monitor = uevents.UeventMonitor(fake_uevents.FakeSource())
    with contextlib.closing(monitor):
        host = scsi.SCSI(on_files(tmp_path, monitor, scsi=Verbs()))
        # Then the cache and the target tell the same of it
        fresh = host.wwn(
            scsi.ScsiDevice('2:0:0:5', 'sda'),
            deadlines.Deadline.after(PATIENCE),
        )
    assert fresh == f'3{test_vpd.NAA5.hex()}'
    assert host.cached_wwn('2:0:0:5') == fresh
    assert host.cached_wwn('9:9:9:9') is None


class Pages:
    """A device with some pages of vital product data, and no others."""

    def __init__(self, pages: dict[int, bytes]) -> None:
        self._pages = pages

    def inquiry(self, disk: str, instance: int, number: int) -> bytes:
        if number not in self._pages:
            raise OSError(errno.EOPNOTSUPP, 'no such page')
        return self._pages[number]


SERIAL = b'\0\x80\0\x0a  00 12ab '


@pytest.mark.parametrize(
    ('pages', 'wwn'),
    [
        ({0x80: SERIAL}, 'SACME_BigDisk_2000_00_12ab'),
        (
            {0x80: SERIAL, 0x83: b'\0\x83\0\0'},
            'SACME_BigDisk_2000_00_12ab',
        ),
        ({0x80: b'\0\x80\0\0'}, None),
        ({}, None),
    ],
)
def test_a_device_without_an_identifier_has_a_serial_number(
    tmp_path: pathlib.Path, pages: dict[int, bytes], wwn: str | None
) -> None:
    """A device of SPC-2 may have no page 0x83, or nothing of use there."""
    # Given a device whose pages the kernel may have read
    device = tmp_path / 'sys/class/scsi_device/2:0:0:5/device'
    (device / 'block/sda').mkdir(parents=True)
    (device / 'vendor').write_text('ACME    \n')
    (device / 'model').write_text('BigDisk 2000    \n')
    for number, content in pages.items():
        (device / f'vpd_pg{number:02x}').write_bytes(content)
    monitor = uevents.UeventMonitor(fake_uevents.FakeSource())
    with contextlib.closing(monitor):
        host = scsi.SCSI(on_files(tmp_path, monitor, scsi=Pages(pages)))
        # Then it is named by vendor, model and number, as udev does
        found = host.wwn(
            scsi.ScsiDevice('2:0:0:5', 'sda'),
            deadlines.Deadline.after(PATIENCE),
        )
    assert found == wwn
    # and the kernel knows as much, if it has read what it has to
    assert host.cached_wwn('2:0:0:5') == (wwn if 0x83 in pages else None)
