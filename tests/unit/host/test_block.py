# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Block devices: who uses them, and their data."""

import threading

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


def test_nobody_uses_a_new_disk(
    host: hosts.Host, disk: str, deadline: deadlines.Deadline
) -> None:
    assert host.block.users([disk], deadline)[disk] == []


def test_users_are_named(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given a disk under a device, mounted, and open in this process
    bed.control('mount', device=disk, directory='/mnt/data')
    bed.control('add_holder', device=disk, holder='dm-3')
    with bed.opened(f'/dev/{disk}'):
        users = host.block.users([disk], deadline)
        holder, mount, process = users[disk]
    # Then each of them is told
    assert holder == 'device dm-3'
    assert mount == 'mount /mnt/data'
    assert process.startswith('process ')
    # And when they are gone, nobody is
    bed.control('unmount', directory='/mnt/data')
    bed.control('remove_holder', device=disk, holder='dm-3')
    assert host.block.users([disk], deadline)[disk] == []


def test_a_map_that_is_being_made_is_no_user(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given a device on top of a disk that has not said yet what it is
    bed.control('add_holder', device=disk, holder='dm-3')
    directory = bed.root / 'sys/class/block/dm-3/dm'

    def announce() -> None:
        directory.mkdir(parents=True)
        (directory / 'new').write_text('mpath-36001405aaaaaaaaaaaaaaaaaaaa')
        (directory / 'new').rename(directory / 'uuid')

    timer = threading.Timer(0.1, announce)
    timer.start()
    # When it turns out to be the disk's map, then it is no user
    users = host.block.users([disk], deadline)
    timer.join()
    assert users[disk] == []
    bed.control('remove_holder', device=disk, holder='dm-3')


def test_a_mount_of_a_partition_uses_the_disk(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given a disk with a partition that is mounted
    name = f'{disk}1'
    partition = (bed.root / 'sys/class/block' / disk).resolve() / name
    partition.mkdir()
    (partition / 'partition').write_text('1\n')
    (partition / 'dev').write_text('8:17\n')
    (bed.root / 'sys/class/block' / name).symlink_to(partition)
    table = bed.root / 'proc/self/mountinfo'
    table.write_text('40 22 8:17 / /srv rw - ext4 /dev/x rw\n')
    # Then the disk is in use
    assert host.block.users([disk], deadline)[disk] == ['mount /srv']


def test_the_user_of_one_disk_of_two(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given two disks, one of them open
    _, other = test_scsi.connected(host, bed.create_volume())
    with bed.opened(f'/dev/{other.disk}'):
        users = host.block.users([disk, str(other.disk)], deadline)
    # Then it has a user, and the other one none
    assert users[disk] == []
    (process,) = users[str(other.disk)]
    assert process.startswith('process ')


def test_one_look_at_the_processes_is_for_all_disks(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given two disks, and a look for both that fails
    _, other = test_scsi.connected(host, bed.create_volume())
    disks = sorted([disk, str(other.disk)])
    plan.arm(
        faults.Fault.FAIL_BEFORE, 'block.openers', match={'devices': disks}
    )
    # Then that is how their users are looked for
    with pytest.raises(OSError, match='injected'):
        host.block.users(disks, deadline)


def test_a_disk_that_is_gone(
    host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    assert host.block.size('sdzz') is None
    assert host.block.users(['sdzz'], deadline) == {'sdzz': []}


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
