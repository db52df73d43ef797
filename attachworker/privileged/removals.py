# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What may be removed from this host, whatever the worker says.

Each verb that takes something away asks :func:`check` first, for all block
devices that go with it.

* What the host lives on itself stays: a device that carries a file system
  which the host cannot do without, or that the host swaps to, and everything
  below such a device.
* What was made here may go (:mod:`attachworker.privileged.made`).
* What somebody else has made may go while nobody uses it: an attachment may
  have found its device, or its record be older than the notes. In use it
  stays, unless the operator allows it (``allow_forced_foreign_detach``).

The kernel alone is asked: the tables of mounts, the list of swaps, sysfs, who
has a device exclusively, and who has it open.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import errno
import os
import pathlib
import re
import stat

from attachworker import privileged
from attachworker.privileged import block
from attachworker.privileged import made
from attachworker.privileged import processes

#: Whether what others have made goes although it is in use. It is set before
#: the helper is forked off, and no verb changes it.
allow_foreign = False

ROOT = pathlib.Path('/')
#: The uuid of a multipath map, or of a partition that kpartx has made of one.
_MAP = re.compile(r'(?:part\d+-)?mpath-')
#: Where the first process of the host has its mounts, and where this one has.
TABLES = ('proc/1/mountinfo', 'proc/self/mountinfo')

#: What a host cannot do without.
_OWN = ('/', '/boot', '/boot/efi', '/efi', '/usr', '/var')
_SWAP = 'swap'
#: Where overlayfs takes its files from.
_LAYERS = re.compile(r'(?:lowerdir|upperdir)\+?=([^,]*)')
_DELETED = ' (deleted)'
#: A path of a namespace of NVMe, which has no node: nvme0c1n1 of nvme0n1.
_NVME_PATH = re.compile(r'(nvme\d+)c\d+(n\d+)')
_NVME_NAMESPACE = re.compile(r'nvme\d+(?:c\d+)?n\d+')
#: How the kernel says that something is not there, or not any more.
_GONE = (FileNotFoundError, NotADirectoryError)


@privileged.readonly.entrypoint
def carried(devices: list[str]) -> dict[str, list[str]]:
    """What the host cannot do without, for each device that carries any.

    :param devices: kernel names
    :returns: mount points and ``swap``, by kernel name, however much there is
        in between; nothing for other devices
    :raises OSError: nobody knows
    """
    return find(devices)


def find(
    devices: Iterable[str],
    root: pathlib.Path = ROOT,
    tables: Iterable[str] = TABLES,
) -> dict[str, list[str]]:
    """See :func:`carried`.

    :param root: holds sys, proc and dev
    :param tables: of mounts, below it
    """
    wanted = list(dict.fromkeys(devices))
    if not wanted:
        return {}
    every = _everything(root, tables)
    return {device: every[device] for device in wanted if device in every}


def check(devices: list[str], *instances: int) -> None:
    """Refuse a removal that takes away what is not ours to take.

    :param devices: kernel names of all block devices that go with it
    :param instances: of what is removed, the inode number of its directory in
        sysfs; none: it is proven to have been made here
    :raises PermissionError: one of the devices carries what the host needs,
        or is in use and was not made here
    :raises OSError: nobody knows
    """
    check_own(devices)
    if not instances or allow_foreign or any(map(made.has, instances)):
        return
    for device, user in users(devices, ROOT, block.claimed, processes.users):
        raise PermissionError(
            errno.EPERM,
            f'{device} was not made by attachworker, and {user} uses it; see '
            'option allow_forced_foreign_detach',
        )


def check_own(
    devices: Iterable[str],
    root: pathlib.Path = ROOT,
    tables: Iterable[str] = TABLES,
) -> None:
    """Refuse a removal that takes away what the host lives on.

    :raises PermissionError: one of them carries what the host needs
    :raises OSError: nobody knows
    """
    _refuse(find(devices, root, tables))


def check_mapped(
    attribute: str,
    value: str,
    root: pathlib.Path = ROOT,
    tables: Iterable[str] = TABLES,
) -> None:
    """The same for a device of device-mapper, which may be gone.

    :param attribute: ``name`` or ``uuid``
    :param value: that its attribute has
    """
    block = root / 'sys/class/block'
    _refuse(
        {
            device: names
            for device, names in _everything(root, tables).items()
            if _read(block / device / 'dm' / attribute).strip() == value
        }
    )


def _refuse(found: dict[str, list[str]]) -> None:
    for device, names in found.items():
        raise PermissionError(
            errno.EPERM,
            f'{device} carries {", ".join(names)} of this host itself, and '
            'attachworker never removes that',
        )


def _everything(
    root: pathlib.Path, tables: Iterable[str]
) -> dict[str, list[str]]:
    """All devices that carry something of the host's own, and what."""
    look = _Look(root, tables)
    found: dict[str, list[str]] = {}
    for name, carrying in look.own().items():
        for device in look.below(carrying):
            found.setdefault(device, []).append(name)
    return found


def users(
    devices: list[str],
    root: pathlib.Path,
    claimed: Callable[[list[tuple[str, str]]], list[str]],
    open_or_mounted: Callable[
        [dict[str, list[str]]],
        tuple[list[processes.Use], list[tuple[int, str]]],
    ],
) -> Iterator[tuple[str, str]]:
    """Those of some devices that somebody uses, and who it is.

    A multipath map that nobody uses is no user of its paths.

    :param claimed: the verb :func:`attachworker.privileged.block.claimed`
    :param open_or_mounted: :func:`attachworker.privileged.processes.users`
    """
    directory = root / 'sys/class/block'
    parts = {one: top for top in devices for one in _parts(top, directory)}
    numbers = {
        number: one
        for one in parts
        if (number := _read(directory / one / 'dev').strip())
    }
    if not numbers:
        return
    # What a part stands on, that part has exclusively.
    openable = [
        (one, number)
        for number, one in numbers.items()
        if not _is_there(directory / one / 'partition')
        and parts.keys().isdisjoint(_names(directory / one / 'holders'))
    ]
    for one in claimed(openable):
        yield parts[one], 'a file system, swap or another device'
    uses, _ = open_or_mounted(
        {number: [f'/dev/{one}'] for number, one in numbers.items()}
    )
    for number, pid, command, _ in uses:
        yield parts[numbers[number]], f'process {pid} ({command})'


def _parts(device: str, block_class: pathlib.Path) -> list[str]:
    """A device, its partitions, its multipath map, and those of that."""
    found = [device]
    for one in found:
        directory = block_class / one
        found += [
            name
            for name in _names(directory)
            if name.startswith(one)
            and _is_there(directory / name / 'partition')
        ]
        found += [
            holder
            for holder in _names(directory / 'holders')
            if holder not in found
            and _MAP.match(_read(block_class / holder / 'dm/uuid'))
        ]
    return found


# -- the block devices that go with something else


def of_scsi_device(hctl: str, root: pathlib.Path = ROOT) -> list[str]:
    """Those of a SCSI device.

    :param hctl: its address
    """
    return _names(root / f'sys/class/scsi_device/{hctl}/device/block')


def of_session(number: int, root: pathlib.Path = ROOT) -> list[str]:
    """Those that come through an iSCSI session."""
    session = root / f'sys/class/iscsi_session/session{number}/device'
    return [
        device
        for target in _names(session)
        if target.startswith('target')
        for address in _names(session / target)
        for device in _names(session / target / address / 'block')
    ]


def of_controller(name: str, root: pathlib.Path = ROOT) -> list[str]:
    """Those that a controller of NVMe is a path to, or has alone."""
    return [
        _NVME_PATH.sub(r'\1\2', one)
        for one in _names(root / f'sys/class/nvme/{name}')
        if _NVME_NAMESPACE.fullmatch(one)
    ]


# -- what is mounted, and on what


class _Look:
    """The host as it is now: made anew for each question."""

    def __init__(self, root: pathlib.Path, tables: Iterable[str]) -> None:
        self._root = root
        self._block = root / 'sys/class/block'
        self._mounts = [
            mount
            for table in tables
            for mount in processes.parsed_mounts(_text(root / table))
        ]
        if all(mount.point != '/' for mount in self._mounts):
            raise OSError(errno.EPROTO, 'mountinfo says that / is not mounted')
        self._numbers: dict[str, str | None] = {}

    def own(self) -> dict[str, set[str]]:
        """The devices of each thing that the host cannot do without.

        Also of what something else is mounted over: it is in use still.
        """
        found: dict[str, set[str]] = {}
        for mount in self._mounts:
            if mount.point in _OWN and (devices := self._on(mount)):
                found.setdefault(mount.point, set()).update(devices)
        # what is not built with swap has no such file
        swaps = processes.parsed_swaps(_read(self._root / 'proc/swaps'))
        for path in swaps:
            found.setdefault(_SWAP, set()).update(self._of_path(path))
        return found

    def below(self, devices: Iterable[str]) -> set[str]:
        """Some devices, and all that they consist of."""
        found: set[str] = set()
        waiting = list(devices)
        while waiting:
            device = waiting.pop()
            if device not in found:
                found.add(device)
                waiting += self._made_of(device)
        return found

    def _made_of(self, device: str) -> Iterator[str]:
        directory = self._block / device
        yield from _names(directory / 'slaves')
        if _is_there(directory / 'partition'):
            yield pathlib.Path(os.path.realpath(directory)).parent.name
        if device.startswith('loop'):
            file = _read(directory / 'loop/backing_file').rstrip('\n')
            if file:
                yield from self._of_path(file)

    def _on(
        self, mount: processes.Mount, seen: frozenset[str] = frozenset()
    ) -> set[str]:
        """The devices that a file system is on; none if it is on none.

        btrfs and bcachefs have numbers of their own, and may have several
        devices; overlayfs has other file systems.
        """
        named = [self._name_of(one) for one in mount.source.split(':')]
        found = {
            device
            for device in (self._numbered(mount.number), *named)
            if device is not None
        }
        for members in self._members():
            if found & members:
                found |= members
        if mount.kind == 'overlay':
            for layers in _LAYERS.findall(mount.options):
                for path in processes.plain(layers).split(':'):
                    if path.startswith('/'):
                        found |= self._of_file(path, seen | {mount.point})
        return found

    def _of_path(self, path: str) -> set[str]:
        """The device that a path is, or the ones that its file is on."""
        path = path.removesuffix(_DELETED)
        device = self._name_of(path)
        return self._of_file(path) if device is None else {device}

    def _of_file(
        self, path: str, seen: frozenset[str] = frozenset()
    ) -> set[str]:
        """The devices below the file system that a file is on."""
        above = {path, *map(str, pathlib.PurePath(path).parents)} - seen
        points = above.intersection(one.point for one in self._mounts)
        if not points:
            return set()
        nearest = max(points, key=len)
        return {
            device
            for mount in self._mounts
            if mount.point == nearest
            for device in self._on(mount, seen | {nearest})
        }

    def _members(self) -> list[set[str]]:
        """The devices of each btrfs that is mounted."""
        directory = self._root / 'sys/fs/btrfs'
        return [
            set(_names(directory / name / 'devices'))
            for name in _names(directory)
        ]

    def _numbered(self, number: str) -> str | None:
        """The kernel name of the device that has a number, if there is one."""
        if number not in self._numbers:
            place = self._root / 'sys/dev/block' / number
            self._numbers[number] = (
                os.path.basename(os.path.realpath(place))
                if _is_there(place)
                else None
            )
        return self._numbers[number]

    def _name_of(self, path: str) -> str | None:
        """The kernel name of the device that a node below /dev is.

        Elsewhere no file is looked at: its server may be dead.
        """
        if not path.startswith('/dev/'):
            return None
        node = self._root / path.lstrip('/')
        try:
            found = os.stat(node)
        except _GONE:
            found = None
        if found is not None and stat.S_ISBLK(found.st_mode):
            number = f'{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}'
            return self._numbered(number)
        # of a node that udev has taken away, the name tells
        name = os.path.basename(os.path.realpath(node))
        return name if _is_there(self._block / name) else None


def _text(path: pathlib.Path) -> str:
    # sysfs and proc have any bytes in the names that others have given
    return path.read_text(encoding='utf-8', errors='replace')


def _read(path: pathlib.Path) -> str:
    """A text; empty if it is not there."""
    try:
        return _text(path)
    except _GONE:
        return ''
    except OSError as error:
        # ENODEV: gone while it was open; EINVAL: device-mapper, likewise
        if error.errno in (errno.ENODEV, errno.EINVAL):
            return ''
        raise


def _names(directory: pathlib.Path) -> list[str]:
    """What is in a directory; nothing if it is not there."""
    try:
        return os.listdir(directory)
    except _GONE:
        return []


def _is_there(path: pathlib.Path) -> bool:
    try:
        os.stat(path)
    except _GONE:
        return False
    return True
