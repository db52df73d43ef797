# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who uses a device, and what of this host's own is on it."""

import pathlib
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as hosts
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.host import test_scsi

LIO = 'sys/kernel/config/target/core'
NVMET = 'sys/kernel/config/nvmet/subsystems'


@pytest.fixture
def disk(bed: beds.SimulatedBed, host: hosts.Host) -> str:
    _, device = test_scsi.connected(host, bed.create_volume())
    assert device.disk is not None
    return device.disk


def users(host: hosts.Host, disk: str, mapping: str = '') -> list[str]:
    found = host.users.of([disk], deadlines.Deadline.after(10.0), mapping)
    assert found.keys() == {disk}
    return found[disk]


def place(root: pathlib.Path, where: str, **files: str) -> None:
    """A directory below the root of the host, with files in it."""
    (root / where).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (root / where / file).write_text(f'{text}\n')


def add_partition(bed: beds.SimulatedBed, disk: str) -> str:
    directory = (bed.root / 'sys/class/block' / disk).resolve()
    name = f'{disk}1'
    place(directory, name, partition='1', dev='8:17')
    place(directory, f'{name}/holders')
    (bed.root / 'sys/class/block' / name).symlink_to(directory / name)
    return name


def add_device(bed: beds.SimulatedBed, name: str, below: str) -> None:
    """A device of device-mapper, with an alias, on top of another one."""
    directory = bed.root / 'sys/devices/virtual/block' / name
    place(directory, '.', dev='254:9')
    place(directory, 'dm', name='vg-lv', uuid='LVM-x')
    place(directory, 'holders')
    place(directory, 'slaves')
    (directory / 'slaves' / below).symlink_to(
        (bed.root / 'sys/class/block' / below).resolve()
    )
    (bed.root / 'sys/class/block' / name).symlink_to(directory)
    bed.add_holder(below, name)


def test_nobody_uses_a_new_disk(host: hosts.Host, disk: str) -> None:
    assert users(host, disk) == []
    assert users(host, 'sdzz') == []


def test_users_are_named(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a disk under a device, mounted, and open in this process
    bed.mount(disk, '/mnt/data')
    bed.add_holder(disk, 'dm-3')
    with bed.opened(f'/dev/{disk}'):
        holder, mount, process = users(host, disk)
    # Then each of them is told
    assert holder == 'device dm-3'
    assert mount == 'mount /mnt/data'
    assert process.startswith('process ')
    # And when they are gone, nobody is
    bed.unmount('/mnt/data')
    bed.remove_holder(disk, 'dm-3')
    assert users(host, disk) == []


def test_a_mount_in_another_namespace(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a disk that a container has mounted
    bed.mount(disk, '/data', pid=4242)
    # Then it is told where to look for it
    assert users(host, disk) == [
        'mount /data in the namespace of process 4242 (container)'
    ]
    # And a copy of the host's own mount is told once
    bed.mount(disk, '/data')
    assert users(host, disk) == ['mount /data']


def test_swap(bed: beds.SimulatedBed, host: hosts.Host, disk: str) -> None:
    bed.control('swap_on', device=disk)
    assert users(host, disk) == [f'swap on /dev/{disk}']


def test_a_loop_device_has_it_without_being_a_holder(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    with bed.loop_device(f'/dev/{disk}'):
        assert users(host, disk) == ['device loop0']
        # And who uses that is told, too
        bed.mount('loop0', '/mnt/image')
        assert users(host, disk) == ['device loop0', 'mount /mnt/image']
    assert users(host, disk) == []


def test_who_does_more_than_have_it_open(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    deadline = deadlines.Deadline.after(10.0)
    # Given a disk that a process has open
    with open(bed.root / f'dev/{disk}', 'rb'):
        assert users(host, disk) != []
        assert host.users.holders(disk, deadline) == []
        # Then it is held when its partition is mounted,
        partition = add_partition(bed, disk)
        bed.mount(partition, '/mnt')
        assert 'mount /mnt' in host.users.holders(disk, deadline)
        bed.unmount('/mnt')
        assert host.users.holders(disk, deadline) == []
        # swapped to,
        bed.control('swap_on', device=disk)
        found = host.users.holders(disk, deadline)
        assert f'swap on /dev/{disk}' in found


def test_who_exports_it_does_more_than_have_it_open(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    deadline = deadlines.Deadline.after(10.0)
    with bed.loop_device(f'/dev/{disk}'):
        assert host.users.holders(disk, deadline) == ['device loop0']
    assert host.users.holders(disk, deadline) == []
    info = f'Status: ACTIVATED\nTCM FILEIO ID: 0        File: /dev/{disk}'
    place(bed.root, f'{LIO}/fileio_0/share', info=f'{info}  Size: 1  Mode: x')
    (found,) = host.users.holders(disk, deadline)
    assert 'fileio_0' in found


def test_an_exported_file_is_the_device(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    """LIO opens the file of such a back store as anybody may."""
    place(bed.root, f'{LIO}/alua')
    info = f'Status: ACTIVATED\nTCM FILEIO ID: 0        File: /dev/{disk}'
    place(bed.root, f'{LIO}/fileio_0/share', info=f'{info}  Size: 1  Mode: x')
    place(bed.root, f'{LIO}/fileio_1/file', info='File: /srv/x  Size: 1')
    assert users(host, disk) == ['LIO back store fileio_0/share']


def test_an_exported_device(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    """Of that the kernel refuses an exclusive open; LIO tells who it is."""
    info = f'iBlock device: {disk}  UDEV PATH: /dev/x  readonly: 0\n'
    info += '        Major: 8 Minor: 0  CLAIMED: IBLOCK'
    place(bed.root, f'{LIO}/iblock_0/share', info=info)
    numbers = bed.root / 'sys/dev/block'
    numbers.mkdir(parents=True)
    (numbers / '8:0').symlink_to(
        (bed.root / 'sys/class/block' / disk).resolve()
    )
    bed.control('claim', device=disk)
    assert users(host, disk) == ['LIO back store iblock_0/share']


def test_an_nvme_target(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    link = bed.root / 'dev/disk/by-id/volume'
    link.parent.mkdir(parents=True)
    link.symlink_to(f'../../{disk}')
    values = {'device_path': '/dev/disk/by-id/volume', 'enable': '1'}
    place(bed.root, f'{NVMET}/nqn.x/namespaces/7', **values)
    assert users(host, disk) == ['NVMe target nqn.x, namespace 7']
    place(bed.root, f'{NVMET}/nqn.x/namespaces/7', enable='0')
    assert users(host, disk) == []


def test_a_member_of_btrfs(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    """It is mounted by another of its devices, under no device's number."""
    place(bed.root, f'sys/fs/btrfs/4711/devices/{disk}')
    bed.control('claim', device=disk)
    assert users(host, disk) == ['btrfs 4711']


def test_somebody_whom_nobody_can_name(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    bed.control('claim', device=disk)
    (user,) = users(host, disk)
    assert user.startswith(f'whoever has {disk} exclusively')


def test_a_tool_that_only_looks_is_no_user(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a disk that udev has a program look at for a moment
    bed.control('claim', device=disk)
    timer = threading.Timer(0.2, bed.control, ('disclaim',), {'device': disk})
    timer.start()
    assert users(host, disk) == []
    timer.join()


def test_a_map_that_is_being_made_is_no_user(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a device on top of a disk that has not said yet what it is
    bed.add_holder(disk, 'dm-3')
    directory = bed.root / 'sys/class/block/dm-3/dm'

    def announce() -> None:
        directory.mkdir(parents=True)
        (directory / 'new').write_text('mpath-36001405aaaaaaaaaaaaaaaaaaaa')
        (directory / 'new').rename(directory / 'uuid')

    timer = threading.Timer(0.1, announce)
    timer.start()
    # When it turns out to be the disk's map, then it is no user
    assert users(host, disk) == []
    timer.join()


def test_a_mount_of_a_partition_uses_the_disk(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    name = add_partition(bed, disk)
    bed.mount(name, '/srv')
    assert users(host, disk) == ['mount /srv']


def test_a_stack_is_told_up_to_where_it_is_mounted(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a logical volume on a partition of the disk
    name = add_partition(bed, disk)
    holders = bed.root / 'sys/class/block' / name / 'holders'
    add_device(bed, 'dm-3', disk)
    bed.remove_holder(disk, 'dm-3')
    (holders / 'dm-3').symlink_to(bed.root / 'sys/class/block/dm-3')
    bed.mount('dm-3', '/srv')
    # Then a person knows what to close
    assert users(host, disk) == ['device dm-3 (vg-lv)', 'mount /srv']


def test_our_own_mapping_is_a_part_of_the_disk(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    add_device(bed, 'dm-3', disk)
    assert users(host, disk) == ['device dm-3 (vg-lv)']
    # When it is known as ours, only its users are
    assert users(host, disk, 'vg-lv') == []
    bed.mount('dm-3', '/srv')
    assert users(host, disk, 'vg-lv') == ['mount /srv']


def test_the_user_of_one_disk_of_two(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    disk: str,
    deadline: deadlines.Deadline,
) -> None:
    # Given two disks, one of them open
    _, other = test_scsi.connected(host, bed.create_volume())
    with bed.opened(f'/dev/{other.disk}'):
        found = host.users.of([disk, str(other.disk)], deadline)
    # Then it has a user, and the other one none
    assert found[disk] == []
    (process,) = found[str(other.disk)]
    assert process.startswith('process ')


def test_many_users_are_counted(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    for number in range(30):
        bed.mount(disk, f'/mnt/{number}')
    found = users(host, disk)
    assert len(found) == 21
    assert found[-1] == '10 more'


@pytest.mark.parametrize('verb', ['block.claimed', 'processes.users'])
def test_what_cannot_be_told_is_an_error(
    host: hosts.Host, plan: faults.FaultPlan, disk: str, verb: str
) -> None:
    plan.arm(faults.Fault.FAIL_BEFORE, verb)
    with pytest.raises(OSError, match='injected'):
        users(host, disk)


def test_an_open_that_does_not_return_ends_at_the_deadline(
    host: hosts.Host, plan: faults.FaultPlan, disk: str
) -> None:
    plan.arm(faults.Fault.HANG_BEFORE, 'block.claimed')
    with pytest.raises(exception.DeadlineExceeded):
        host.users.of([disk], deadlines.Deadline.after(0.2))
    with pytest.raises(exception.TargetQuarantined):
        host.check_device(disk, '0:0:0:0')


# -- what the host cannot do without


def own(host: hosts.Host, *disks: str) -> dict[str, list[str]]:
    deadline = deadlines.Deadline.after(10.0)
    return host.users.own_file_systems(list(disks), deadline)


def test_a_data_disk_carries_nothing_of_the_host(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    bed.mount(disk, '/srv')
    assert own(host, disk, 'sdzz') == {}


def test_a_disk_that_the_host_lives_on(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    # Given a partition with /var, and a logical volume to swap to
    bed.mount(add_partition(bed, disk), '/var')
    add_device(bed, 'dm-3', disk)
    bed.control('swap_on', device='dm-3')
    # Then the disk carries both, and the logical volume one
    assert own(host, disk, 'dm-3') == {
        disk: ['/var', 'swap'],
        'dm-3': ['swap'],
    }


def test_a_root_on_btrfs_is_on_each_member(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    table = bed.root / 'proc/self/mountinfo'
    _, other = test_scsi.connected(host, bed.create_volume())
    place(bed.root, f'sys/fs/btrfs/4711/devices/{disk}')
    place(bed.root, f'sys/fs/btrfs/4711/devices/{other.disk}')
    table.write_text(f'22 1 0:31 / / rw - btrfs /dev/{other.disk} rw\n')
    found = own(host, disk, str(other.disk))
    assert found == {disk: ['/'], str(other.disk): ['/']}


def test_a_file_to_swap_to(
    bed: beds.SimulatedBed, host: hosts.Host, disk: str
) -> None:
    bed.mount(disk, '/data')
    (bed.root / 'proc/swaps').write_text('Filename\n/data/swap file 1 0 -2\n')
    assert own(host, disk) == {disk: ['swap']}
