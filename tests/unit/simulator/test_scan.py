# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Scan and delete: what a kernel does, too."""

import errno
import os
import pathlib

import pytest

from tests.contract import bed as beds
from tests.simulator import verbs as verb_names
from tests.unit.simulator import view


def test_identity_is_there_when_the_scan_returns(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)
    session = kernel.session(volume)

    verbs.scsi.scan(session.host, 0, 0, volume.lun)

    device = kernel.device(session, volume.lun)
    assert device.directory.parent.name == f'target{session.host}:0:0'
    assert device.wwid == f'naa.{volume.wwn}'
    page = (device.directory / 'vpd_pg83').read_bytes()
    assert page[1] == 0x83
    assert int.from_bytes(page[2:4], 'big') == len(page) - 4
    assert bytes.fromhex(volume.wwn) in page
    serial = (device.directory / 'vpd_pg80').read_bytes()
    assert serial[1] == 0x80
    assert int.from_bytes(serial[2:4], 'big') == len(serial) - 4


def test_block_device_is_announced(
    bed: beds.Bed,
    verbs: verb_names.Verbs,
    kernel: view.Kernel,
    events: view.Source,
) -> None:
    volume = bed.create_volume(size=8 * 1024 * 1024)
    kernel.login(volume)
    session = kernel.session(volume)

    verbs.scsi.scan(session.host, 0, 0, volume.lun)

    event = view.next_event(events, ACTION='add', SUBSYSTEM='block')
    disk = event['DEVNAME']
    directory = bed.root / f'sys{event["DEVPATH"]}'
    device = kernel.device(session, volume.lun)
    assert device.disk == disk
    assert directory == device.directory / 'block' / disk
    assert (bed.root / f'sys/class/block/{disk}').resolve() == directory
    assert (directory / 'device').resolve() == device.directory
    number = f'{event["MAJOR"]}:{event["MINOR"]}\n'
    assert (directory / 'dev').read_text() == number
    assert (directory / 'size').read_text() == f'{volume.size // 512}\n'
    assert (directory / 'ro').read_text() == '0\n'
    assert (directory / 'queue/logical_block_size').read_text() == '512\n'
    assert list((directory / 'holders').iterdir()) == []


def test_scan_of_an_unmapped_lun_does_nothing(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)
    before = bed.snapshot()

    verbs.scsi.scan(kernel.session(volume).host, 0, 0, volume.lun + 7)

    assert bed.snapshot() == before


def test_only_the_wanted_lun_appears(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    wanted = bed.create_volume(on=volume)

    kernel.attach(wanted)

    (device,) = kernel.devices(kernel.session(wanted))
    assert device.wwid == f'naa.{wanted.wwn}'


def test_scan_of_a_lun_already_there_does_nothing(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)
    session = kernel.session(volume)

    verbs.scsi.scan(session.host, 0, 0, volume.lun)

    assert kernel.devices(session) == [device]


def test_scan_of_an_unknown_host_fails(verbs: verb_names.Verbs) -> None:
    with pytest.raises(FileNotFoundError):
        verbs.scsi.scan(4711, 0, 0, 0)


def test_large_lun(bed: beds.Bed, kernel: view.Kernel) -> None:
    volume = bed.create_volume(lun=300)

    assert kernel.attach(volume).hctl.endswith(':300')


def test_delete_takes_the_device_away_and_reports_it(
    bed: beds.Bed,
    verbs: verb_names.Verbs,
    kernel: view.Kernel,
    events: view.Source,
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)
    before = bed.snapshot()
    device = kernel.attach(volume)

    verbs.scsi.delete(device.hctl)

    view.next_event(
        events, ACTION='remove', SUBSYSTEM='block', DEVNAME=str(device.disk)
    )
    event = view.next_event(
        events, ACTION='remove', SUBSYSTEM='scsi', DEVTYPE='scsi_device'
    )
    assert event['DEVPATH'].endswith(f'/{device.hctl}')
    view.until(lambda: not device.directory.exists())
    assert bed.snapshot() == before
    assert not (bed.root / f'dev/{device.disk}').exists()


def test_delete_of_an_unknown_device_fails(verbs: verb_names.Verbs) -> None:
    with pytest.raises(FileNotFoundError):
        verbs.scsi.delete('4711:0:0:0')


def test_names_are_used_again_lowest_first(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volumes = [bed.create_volume() for _ in range(3)]
    devices = [kernel.attach(volume) for volume in volumes]
    names = [str(device.disk) for device in devices]
    assert names == sorted(names)

    verbs.scsi.delete(devices[1].hctl)
    verbs.scsi.delete(devices[0].hctl)

    assert kernel.attach(volumes[1]).disk == names[0]
    assert kernel.attach(volumes[0]).disk == names[1]


def test_name_of_an_open_device_is_not_used_again(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)

    with (bed.root / f'dev/{device.disk}').open('rb'):
        verbs.scsi.delete(device.hctl)
        again = kernel.attach(volume)
    assert again.disk != device.disk

    verbs.scsi.delete(again.hctl)
    assert kernel.attach(volume).disk == device.disk


def test_data_goes_through_the_device_to_the_volume(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume(portals=2)
    first = str(kernel.attach(volume, 0).disk)
    second = str(kernel.attach(volume, 1).disk)
    assert first != second
    assert bed.read(f'/dev/{first}') == volume.pattern

    bed.write(f'/dev/{first}', b'x' * 4096, offset=8192)
    verbs.block.flush(first)

    verbs.block.check_readable(second, bed.instance(second))
    assert bed.read(f'/dev/{second}', 4096, 8192) == b'x' * 4096
    assert bed.read(f'/dev/{second}') == volume.pattern


def test_openers_are_named_for_each_path(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume(portals=2)
    first = str(kernel.attach(volume, 0).disk)
    second = str(kernel.attach(volume, 1).disk)
    both = {'8:0': [f'/dev/{first}'], '8:16': [f'/dev/{second}']}
    assert verbs.processes.users(both) == ([], [])

    with (bed.root / f'dev/{first}').open('rb'):
        ((opener,), _) = verbs.processes.users(both)
        assert verbs.processes.users({'8:16': both['8:16']}) == ([], [])

    command = pathlib.Path('/proc/self/comm').read_text().strip()
    assert opener == ('8:0', os.getpid(), command, '')
    assert verbs.processes.users(both) == ([], [])


def test_a_missing_device_cannot_be_flushed(verbs: verb_names.Verbs) -> None:
    with pytest.raises(FileNotFoundError):
        verbs.block.flush('sdzz')


def test_a_missing_device_is_open_nowhere(verbs: verb_names.Verbs) -> None:
    assert verbs.processes.users({'8:0': ['/dev/sdzz']}) == ([], [])
    assert verbs.block.claimed([('sdzz', '8:0')]) == []


def test_unmapped_volume_answers_no_more_but_stays_in_sysfs(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)
    disk = str(device.disk)
    before = bed.snapshot()

    bed.remove_volume(volume)

    assert bed.snapshot() == before
    assert kernel.device(kernel.session(volume), volume.lun) == device
    with pytest.raises(OSError) as caught:  # noqa: PT011 - errno below
        verbs.scsi.inquiry(disk, bed.instance(disk), 0x83)
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError) as caught:  # noqa: PT011 - errno below
        verbs.block.check_readable(disk, bed.instance(disk))
    assert caught.value.errno == errno.EIO


def test_lun_that_leads_to_another_volume_keeps_the_old_name_in_sysfs(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    device = kernel.attach(volume)
    disk = str(device.disk)
    cached = (device.directory / 'vpd_pg83').read_bytes()
    assert verbs.scsi.inquiry(disk, bed.instance(disk), 0x83) == cached

    bed.remove_volume(volume)
    other = bed.create_volume(on=volume, lun=volume.lun)

    session = kernel.session(volume)
    verbs.scsi.scan(session.host, 0, 0, volume.lun)
    assert kernel.device(session, volume.lun) == device
    assert (device.directory / 'vpd_pg83').read_bytes() == cached
    page = verbs.scsi.inquiry(disk, bed.instance(disk), 0x83)
    assert bytes.fromhex(other.wwn) in page
    assert bytes.fromhex(volume.wwn) not in page
    assert bed.read(f'/dev/{disk}') == other.pattern

    verbs.scsi.delete(device.hctl)
    assert kernel.attach(other).wwid == f'naa.{other.wwn}'
