# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""sd: a block device for each logical unit."""

from collections.abc import Callable
import dataclasses
import itertools
import pathlib
import threading

from tests.simulator import openers
from tests.simulator import sessions
from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents

SECTOR = 512
_MAJORS = (8, *range(65, 72), *range(128, 136))


@dataclasses.dataclass(eq=False)
class Disk:
    """A block device, with what the kernel remembers of it.

    :ivar directory: below sys
    :ivar wwid: what it was when the kernel found it, as udev spells it
    :ivar size: bytes, when the kernel last asked
    :ivar shown: the file that its node is a name of
    """

    name: str
    number: str
    directory: str
    session: sessions.Link
    lun: int
    wwid: str
    size: int
    block_size: int
    removed: bool = False
    shown: pathlib.Path | None = None


def name(index: int) -> str:
    """sda, … sdz, sdaa, …: the kernel's names."""
    letters = ''
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord('a') + letter) + letters
    return f'sd{letters}'


def number(index: int) -> str:
    """The kernel's device number, ``major:minor``."""
    minor = (index & 0xF) << 4 | index & 0xFFF00
    return f'{_MAJORS[index >> 4 & 0xF]}:{minor}'


class Disks:
    """All disks; callers hold the machine's lock."""

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        targets: storage.Storage,
        opened: Callable[[str], bool],
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._storage = targets
        self._opened = opened
        #: Called with ``add`` or ``remove`` and the disk.
        self.listeners: list[Callable[[str, Disk], None]] = []
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._disks: dict[str, Disk] = {}
        # names that are taken until the last who has them open closes them
        self._lingering: set[str] = set()

    def all(self) -> list[Disk]:
        with self._lock:
            return list(self._disks.values())

    def find(self, device: str) -> Disk | None:
        with self._lock:
            return self._disks.get(device)

    def volume(self, disk: Disk) -> storage.Volume | None:
        """What answers for a disk now; None: nothing does."""
        if disk.removed or not disk.session.logged_in:
            return None
        session = disk.session
        return self._storage.volume(
            session.target_name, disk.lun, session.portal
        )

    def readable(self, disk: Disk) -> storage.Volume | None:
        """What can be read through a disk now."""
        serves = self.access(disk) == 'optimized'
        return self.volume(disk) if serves else None

    def access(self, disk: Disk) -> str:
        session = disk.session
        return self._storage.access(
            session.target_name, disk.lun, session.portal
        )

    def _size(self, disk: Disk, volume: storage.Volume) -> int:
        return 0 if self.access(disk) == 'unavailable' else volume.size

    def add(
        self, directory: str, session: sessions.Link, lun: int
    ) -> Disk | None:
        """Make the block device of a logical unit.

        :param directory: of the logical unit, below sys
        :returns: None if the target has taken the volume back already
        """
        volume = self._storage.volume(session.target_name, lun, session.portal)
        if volume is None:
            return None
        dev = self._tree.root / 'dev'
        found = openers.of([dev / old for old in self._lingering])
        opened = {node.name for node, _, _ in found}
        self._lingering = {
            old
            for old in self._lingering
            if old in opened or self._opened(old)
        }
        index = next(
            i
            for i in itertools.count()
            if name(i) not in self._disks and name(i) not in self._lingering
        )
        disk = Disk(
            name(index),
            number(index),
            f'{directory}/block/{name(index)}',
            session,
            lun,
            f'3{volume.wwn}',
            volume.size,
            volume.block_size,
        )
        disk.size = self._size(disk, volume)
        self._disks[disk.name] = disk
        hctl = directory.rpartition('/')[2]
        self._emit('add', disk, 'scsi_disk', f'{directory}/scsi_disk/{hctl}')
        self._tree.place(f'sys/{directory}/block', self._contents(disk, hctl))
        self._tree.symlink(
            f'sys/class/block/{disk.name}', f'sys/{disk.directory}'
        )
        shown = self.readable(disk)
        disk.shown = shown.path if shown else None
        self._tree.hardlink(f'dev/{disk.name}', disk.shown)
        self._emit('add', disk)
        self._tell('add', disk)
        return disk

    def remove(self, disk: Disk) -> None:
        del self._disks[disk.name]
        disk.removed = True
        directory = disk.directory.rpartition('/block/')[0]
        hctl = directory.rpartition('/')[2]
        self._emit(
            'remove', disk, 'scsi_disk', f'{directory}/scsi_disk/{hctl}'
        )
        self._tree.unlink(f'dev/{disk.name}')
        self._lingering.add(disk.name)
        self._tree.remove(f'sys/class/block/{disk.name}')
        # the kernel reports first and removes the directory then
        self._emit('remove', disk)
        self._tree.remove(f'sys/{directory}/block')
        self._tell('remove', disk)

    def rescan(self, disk: Disk) -> None:
        """Ask for the capacity again; one that is silent keeps its own."""
        volume = self.volume(disk)
        size = self._size(disk, volume) if volume else disk.size
        if size == disk.size:
            return
        disk.size = size
        self._tree.write(
            f'sys/{disk.directory}/size', f'{disk.size // SECTOR}\n'
        )
        self._emit('change', disk)

    def refresh(self) -> None:
        """Let I/O go to what the targets have there now, or nowhere."""
        for disk in self._disks.values():
            volume = self.readable(disk)
            path = volume.path if volume else None
            if path != disk.shown:
                disk.shown = path
                self._tree.hardlink(f'dev/{disk.name}', path)

    def _tell(self, action: str, disk: Disk) -> None:
        for listener in self.listeners:
            listener(action, disk)

    def _emit(
        self, action: str, disk: Disk, subsystem: str = '', path: str = ''
    ) -> None:
        if subsystem:
            self._events.emit(action, subsystem, f'/{path}')
            return
        major, _, minor = disk.number.partition(':')
        self._events.emit(
            action,
            'block',
            f'/{disk.directory}',
            DEVTYPE='disk',
            DEVNAME=disk.name,
            MAJOR=major,
            MINOR=minor,
        )

    @staticmethod
    def _contents(disk: Disk, hctl: str) -> trees.Contents:
        files: dict[str, str | None] = {
            'dev': f'{disk.number}\n',
            'size': f'{disk.size // SECTOR}\n',
            'ro': '0\n',
            'removable': '0\n',
            'queue/logical_block_size': f'{disk.block_size}\n',
            'holders': None,
            'slaves': None,
            'device': trees.Link(f'../../../{hctl}'),
        }
        return {f'{disk.name}/{name}': text for name, text in files.items()}
