# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What of this host is never removed: all below what it lives on."""

import pathlib

import pytest

from attachworker.privileged import removals

ROOT_DISK = '22 1 8:1 / / rw,relatime - ext4 /dev/root rw\n'


class Tree:
    """The files of a host that are looked at."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / 'sys/class/block').mkdir(parents=True)
        (root / 'sys/dev/block').mkdir(parents=True)
        (root / 'dev/mapper').mkdir(parents=True)
        self._minors = iter(range(1, 100))
        self.mounts = {1: '', 2: ''}
        self.swaps: list[str] = []

    def device(self, name: str, *below: str, number: str = '') -> None:
        """A block device, which stands on others."""
        number = number or f'250:{next(self._minors)}'
        place = self.root / 'sys/devices/virtual/block' / name
        place.mkdir(parents=True)
        self._show(place, name, number)
        (place / 'slaves').mkdir()
        for one in below:
            (place / 'slaves' / one).touch()

    def _show(self, place: pathlib.Path, name: str, number: str) -> None:
        (self.root / 'sys/class/block' / name).symlink_to(place)
        (self.root / 'sys/dev/block' / number).symlink_to(place)

    def partition(self, name: str, of: str, number: str = '') -> None:
        place = self.root / 'sys/devices/virtual/block' / of / name
        place.mkdir()
        (place / 'partition').write_text('1\n')
        self._show(place, name, number or f'250:{next(self._minors)}')

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def mount(self, line: str, pid: int = 1) -> None:
        self.mounts[pid] += line

    def carried(self, *devices: str) -> dict[str, list[str]]:
        self.write('proc/1/mountinfo', self.mounts[1])
        self.write('proc/self/mountinfo', self.mounts[2])
        head = 'Filename Type Size Used Priority\n'
        self.write('proc/swaps', head + ''.join(self.swaps))
        return removals.find(devices, self.root)


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    found = Tree(tmp_path)
    found.device('sda', number='8:0')
    found.partition('sda1', 'sda', number='8:1')
    found.device('sdb', number='8:16')
    found.mount(ROOT_DISK)
    return found


def test_a_disk_with_the_root_file_system_on_a_partition(tree: Tree) -> None:
    assert tree.carried('sda', 'sda1', 'sdb') == {'sda': ['/'], 'sda1': ['/']}


@pytest.mark.parametrize(
    'point', ['/', '/boot', '/boot/efi', '/efi', '/usr', '/var']
)
def test_what_a_host_cannot_do_without(tree: Tree, point: str) -> None:
    tree.mount(f'30 22 8:16 / {point} rw - xfs /dev/sdb rw\n')
    assert tree.carried('sdb') == {'sdb': [point]}


@pytest.mark.parametrize('point', ['/srv', '/var/lib/nova', '/boot2', '/mnt'])
def test_the_file_systems_of_others(tree: Tree, point: str) -> None:
    tree.mount(f'30 22 8:16 / {point} rw - xfs /dev/sdb rw\n')
    assert tree.carried('sdb') == {}


def test_all_layers_below_a_file_system(tree: Tree) -> None:
    # Given /var on LVM, on LUKS, on md, on a partition of a map of two disks
    tree.device('sdc')
    tree.device('dm-0', 'sdb', 'sdc')
    tree.device('dm-1', 'dm-0')
    tree.device('md0', 'dm-1')
    tree.device('dm-2', 'md0')
    tree.device('dm-3', 'dm-2', number='254:3')
    tree.mount('30 22 254:3 / /var rw - ext4 /dev/mapper/vg-var rw\n')
    # Then none of them may go
    layers = ['sdb', 'sdc', 'dm-0', 'dm-1', 'md0', 'dm-2', 'dm-3']
    assert tree.carried(*layers) == {one: ['/var'] for one in layers}


def test_a_mount_that_only_the_helper_has(tree: Tree) -> None:
    tree.mount('30 22 8:16 / /usr ro - squashfs /dev/sdb ro\n', pid=2)
    assert tree.carried('sdb') == {'sdb': ['/usr']}


def test_a_file_system_that_something_is_mounted_over(tree: Tree) -> None:
    tree.mount('30 22 8:16 / /var rw - ext4 /dev/sdb rw\n')
    tree.mount('31 22 0:40 / /var rw - tmpfs tmpfs rw\n')
    assert tree.carried('sdb') == {'sdb': ['/var']}


@pytest.mark.parametrize('members', [('sdb',), ('sdb', 'sdc')])
def test_btrfs_has_a_number_of_its_own(
    tree: Tree, members: tuple[str, ...]
) -> None:
    tree.device('sdc')
    for one in members:
        tree.write(f'sys/fs/btrfs/4711/devices/{one}/size', '1\n')
    tree.mount('30 22 0:31 /@var /var rw - btrfs /dev/sdb rw,subvolid=5\n')
    assert tree.carried('sdb', 'sdc') == {one: ['/var'] for one in members}


def test_bcachefs_names_all_its_devices(tree: Tree) -> None:
    tree.device('sdc')
    tree.mount('30 22 0:31 / /var rw - bcachefs /dev/sdb:/dev/sdc rw\n')
    assert tree.carried('sdb', 'sdc') == {'sdb': ['/var'], 'sdc': ['/var']}


def test_an_overlay_is_on_what_its_layers_are_on(tree: Tree) -> None:
    # Given a root that is read only, with changes on another disk
    tree.mounts[1] = (
        '20 1 8:1 / /media/ro ro - squashfs /dev/sda1 ro\n'
        '21 1 8:16 / /media/rw rw - ext4 /dev/sdb rw\n'
        '22 1 0:50 / / rw - overlay over '
        'rw,lowerdir=/media/ro,upperdir=/media/rw/a,workdir=/media/rw/w\n'
    )
    assert tree.carried('sda', 'sdb') == {'sda': ['/'], 'sdb': ['/']}


def test_an_overlay_that_names_itself(tree: Tree) -> None:
    tree.mounts[1] = '22 1 0:50 / / rw - overlay o rw,lowerdir=/lower\n'
    assert tree.carried('sda', 'sdb') == {}


def test_swap(tree: Tree) -> None:
    tree.device('dm-0', 'sdb')
    tree.swaps.append('/dev/dm-0 partition 1 0 -2\n')
    assert tree.carried('sdb') == {'sdb': ['swap']}


def test_a_file_to_swap_to(tree: Tree) -> None:
    tree.mount('30 22 8:16 / /data rw - ext4 /dev/sdb rw\n')
    tree.swaps.append('/data/swap\\040file file 1 0 -2\n')
    assert tree.carried('sda', 'sdb') == {'sda': ['/'], 'sdb': ['swap']}


@pytest.mark.parametrize('file', ['/data/image', '/dev/sdb'])
def test_a_loop_device_is_on_what_its_file_is_on(
    tree: Tree, file: str
) -> None:
    tree.mount('30 22 8:16 / /data rw - ext4 /dev/sdb rw\n')
    tree.device('loop0', number='7:0')
    tree.write(
        'sys/devices/virtual/block/loop0/loop/backing_file', f'{file}\n'
    )
    tree.mount('31 22 7:0 / /usr ro - squashfs /dev/loop0 ro\n')
    assert tree.carried('loop0', 'sdb') == {
        'loop0': ['/usr'],
        'sdb': ['/usr'],
    }


def test_the_controllers_of_a_namespace(tree: Tree) -> None:
    """One that the kernel has several paths to; it shows one device."""
    directory = tree.root / 'sys/class/nvme/nvme3'
    (directory / 'nvme0c3n2').mkdir(parents=True)
    (directory / 'nvme3n1').mkdir()
    (directory / 'hwmon0').mkdir()
    (directory / 'ng0c3n2').mkdir()
    found = removals.of_controller('nvme3', tree.root)
    assert sorted(found) == ['nvme0n2', 'nvme3n1']


def test_the_devices_of_a_session(tree: Tree) -> None:
    session = tree.root / 'sys/class/iscsi_session/session4/device'
    for address, disk in (('2:0:0:1', 'sda'), ('2:0:0:9', 'sdb')):
        (session / 'target2:0:0' / address / 'block' / disk).mkdir(
            parents=True
        )
    (session / 'connection4:0').mkdir()
    (session / 'target2:0:0/2:0:0:0').mkdir()
    assert sorted(removals.of_session(4, tree.root)) == ['sda', 'sdb']
    assert removals.of_session(5, tree.root) == []


def test_what_carries_the_host_is_refused(tree: Tree) -> None:
    tree.carried()
    with pytest.raises(PermissionError, match='sda carries / of this host'):
        removals.check_own(['sdb', 'sda'], tree.root)
    removals.check_own(['sdb'], tree.root)


def test_a_mapping_by_name_or_uuid_is_refused(tree: Tree) -> None:
    tree.device('dm-7', 'sdb', number='254:7')
    block = 'sys/devices/virtual/block/dm-7/dm'
    tree.write(f'{block}/name', 'mpatha\n')
    tree.write(f'{block}/uuid', 'mpath-3600140500000000\n')
    tree.mount('30 22 254:7 / /usr rw - ext4 /dev/mapper/mpatha rw\n')
    tree.carried()
    for attribute, value in (
        ('name', 'mpatha'),
        ('uuid', 'mpath-3600140500000000'),
    ):
        with pytest.raises(PermissionError, match='dm-7 carries /usr'):
            removals.check_mapped(attribute, value, tree.root)
        removals.check_mapped(attribute, f'{value}1', tree.root)


@pytest.mark.parametrize('table', removals.TABLES)
def test_without_the_tables_nothing_is_known(tree: Tree, table: str) -> None:
    tree.carried()
    (tree.root / table).unlink()
    with pytest.raises(FileNotFoundError):
        removals.check_own(['sdb'], tree.root)


def test_what_this_machine_is_on_can_be_told() -> None:
    assert removals.carried(['sdzzzzz']) == {}


def test_tables_in_which_nothing_is_the_root_prove_nothing(tree: Tree) -> None:
    tree.mounts[1] = '30 22 8:16 / /srv rw - xfs /dev/sdb rw\n'
    with pytest.raises(OSError, match='/ is not mounted'):
        tree.carried('sdb')


def in_use(
    tree: Tree, device: str, claimed: list[str], opened: list[str]
) -> list[tuple[str, str]]:
    """Whether a device is, if these have an owner or are open."""
    return list(
        removals.users(
            [device],
            tree.root,
            lambda parts: [one for one, _ in parts if one in claimed],
            lambda numbers: (
                [
                    (number, 7, 'qemu', '')
                    for number, (path,) in numbers.items()
                    if path.removeprefix('/dev/') in opened
                ],
                [],
            ),
        )
    )


def add_map(tree: Tree) -> None:
    """A map of sdb, and a partition of that, as kpartx has made it."""
    for name, below, uuid in (
        ('dm-0', 'sdb', 'mpath-36001405'),
        ('dm-1', 'dm-0', 'part1-mpath-36001405'),
    ):
        tree.device(name, below)
        directory = 'sys/class/block'
        tree.write(f'{directory}/{name}/dm/uuid', f'{uuid}\n')
        tree.write(f'{directory}/{below}/holders/{name}', '')


def test_a_map_that_nobody_uses_is_no_user(tree: Tree) -> None:
    for name, number in (('sda', '8:0'), ('sdb', '8:16'), ('sda1', '8:1')):
        tree.write(f'sys/class/block/{name}/dev', f'{number}\n')
    add_map(tree)
    for number, name in enumerate(('dm-0', 'dm-1')):
        tree.write(f'sys/class/block/{name}/dev', f'254:{number}\n')
    # Given that each has what it stands on exclusively
    assert in_use(tree, 'sdb', ['sdb', 'dm-0'], []) == []
    # Then whoever has the last one, or one of them open, is a user
    assert in_use(tree, 'sdb', ['sdb', 'dm-0', 'dm-1'], []) == [
        ('sdb', 'a file system, swap or another device')
    ]
    for one in ('sdb', 'dm-0', 'dm-1'):
        found = in_use(tree, 'sdb', [], [one])
        assert found == [('sdb', 'process 7 (qemu)')]
    # And of another disk, its partition counts
    assert in_use(tree, 'sda', [], []) == []
    assert in_use(tree, 'sda', ['sda'], []) != []
    assert in_use(tree, 'sda', [], ['sda1']) != []
