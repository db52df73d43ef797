# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""dm-multipath: a block device on top of several disks."""

import dataclasses
import errno
import itertools
import os
import pathlib
import threading

from tests.simulator import disks as sd
from tests.simulator import openers
from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents

MAJOR = 254


@dataclasses.dataclass(eq=False)
class Map:
    """A map.

    :ivar name: the kernel's, ``dm-0``
    :ivar alias: multipathd's
    :ivar size: bytes
    :ivar queueing: whether I/O waits while no path works
    :ivar shown: the file that its node is a name of
    """

    name: str
    number: str
    alias: str
    wwid: str
    size: int
    queueing: bool
    disks: list[sd.Disk]
    removed: bool = False
    shown: pathlib.Path | None = None

    @property
    def directory(self) -> str:
        return f'devices/virtual/block/{self.name}'


class Maps:
    """All maps; callers hold the machine's lock.

    :param changed: of that lock; told when I/O may have become possible
    """

    def __init__(
        self,
        changed: threading.Condition,
        tree: trees.Tree,
        events: uevents.Uevents,
        block: sd.Disks,
    ) -> None:
        self._changed = changed
        self._tree = tree
        self._events = events
        self._disks = block
        block.listeners.append(lambda action, disk: self.refresh())
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._maps: dict[str, Map] = {}

    def all(self) -> list[Map]:
        return list(self._maps.values())

    def find(self, name: str) -> Map | None:
        with self._changed:
            return self._maps.get(name)

    def holding(self, disk: sd.Disk) -> Map | None:
        return next((m for m in self.all() if disk in m.disks), None)

    def volume(self, found: Map) -> storage.Volume | None:
        """What answers for a map now; None: no path works."""
        answers = (self._disks.readable(disk) for disk in found.disks)
        return next((volume for volume in answers if volume), None)

    def create(
        self, wwid: str, alias: str, disks: list[sd.Disk], queueing: bool
    ) -> Map:
        index = free_number(self._tree)
        made = Map(
            f'dm-{index}',
            f'{MAJOR}:{index}',
            alias,
            wwid,
            max(disk.size for disk in disks),
            queueing,
            disks,
        )
        self._maps[made.name] = made
        self._tree.place(f'sys/{made.directory}', self._contents(made))
        for disk in disks:
            self._link(made, disk)
        self._tree.symlink(
            f'sys/class/block/{made.name}', f'sys/{made.directory}'
        )
        self._tree.hardlink(f'dev/{made.name}', None)
        self._emit('add', made)
        # the kernel announces it first and gives it its table then
        self.refresh()
        self._write_size(made)
        self._emit('change', made)
        return made

    def set_disks(self, found: Map, disks: list[sd.Disk]) -> None:
        """Give a map other paths."""
        for disk in set(found.disks) - set(disks):
            self._tree.unlink(f'sys/{found.directory}/slaves/{disk.name}')
            if not disk.removed:
                self._tree.unlink(f'sys/{disk.directory}/holders/{found.name}')
        for disk in disks:
            if disk not in found.disks:
                self._link(found, disk)
        found.disks = disks
        self.refresh()
        self._emit('change', found)

    def resize(self, found: Map) -> None:
        """Give a map the size of its disks.

        :raises OSError: they are not all of one size
        """
        sizes = {disk.size for disk in found.disks if disk.size}
        if len(sizes) != 1:
            raise OSError(errno.EBUSY, 'the sizes of the paths differ')
        (found.size,) = sizes
        self._write_size(found)
        self._emit('change', found)

    def set_queueing(self, found: Map, queueing: bool) -> None:
        found.queueing = queueing
        self._changed.notify_all()

    def remove(self, found: Map) -> None:
        """Take a map away.

        :raises OSError: something uses it (EBUSY)
        """
        holders = self._tree.root / f'sys/{found.directory}/holders'
        node = self._tree.root / 'dev' / found.name
        if any(holders.iterdir()) or any(openers.of([node])):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), found.name)
        self.set_disks(found, [])
        del self._maps[found.name]
        found.removed = True
        self._tree.unlink(f'dev/{found.name}')
        self._tree.remove(f'sys/class/block/{found.name}')
        # the kernel reports first and removes the directory then
        self._emit('remove', found)
        self._tree.remove(f'sys/{found.directory}')
        self._changed.notify_all()

    def refresh(self) -> None:
        """Let I/O go to a path that works, or nowhere."""
        for found in self._maps.values():
            volume = self.volume(found)
            path = volume.path if volume else None
            if path != found.shown:
                found.shown = path
                self._tree.hardlink(f'dev/{found.name}', path)
        self._changed.notify_all()

    def _link(self, found: Map, disk: sd.Disk) -> None:
        self._tree.symlink(
            f'sys/{found.directory}/slaves/{disk.name}',
            f'sys/{disk.directory}',
        )
        self._tree.symlink(
            f'sys/{disk.directory}/holders/{found.name}',
            f'sys/{found.directory}',
        )

    def _write_size(self, found: Map) -> None:
        self._tree.write(
            f'sys/{found.directory}/size', f'{found.size // sd.SECTOR}\n'
        )

    def _emit(self, action: str, found: Map) -> None:
        major, _, minor = found.number.partition(':')
        self._events.emit(
            action,
            'block',
            f'/{found.directory}',
            DEVTYPE='disk',
            DEVNAME=found.name,
            MAJOR=major,
            MINOR=minor,
        )

    @staticmethod
    def _contents(made: Map) -> trees.Contents:
        return {
            'dev': f'{made.number}\n',
            'size': '0\n',
            'ro': '0\n',
            'removable': '0\n',
            'queue/logical_block_size': f'{made.disks[0].block_size}\n',
            'holders': None,
            'slaves': None,
            'dm/uuid': f'mpath-{made.wwid}\n',
            'dm/name': f'{made.alias}\n',
            'dm/suspended': '0\n',
        }


def free_number(tree: trees.Tree) -> int:
    """Of the next device of device-mapper."""
    directory = tree.root / 'sys/devices/virtual/block'
    return next(
        number
        for number in itertools.count()
        if not (directory / f'dm-{number}').exists()
    )
