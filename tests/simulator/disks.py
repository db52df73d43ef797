# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""sd: a block device for each logical unit, and what is done with it."""

from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import itertools
import os
import pathlib
import threading

from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents

_SECTOR = 512
_MAJORS = (8, *range(65, 72), *range(128, 136))


@dataclasses.dataclass(frozen=True)
class Disk:
    """A block device; its directory is below sys."""

    name: str
    number: str
    directory: str
    target_name: str
    lun: int


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


def _open_files(process: pathlib.Path) -> Iterator[str]:
    try:
        descriptors = list((process / 'fd').iterdir())
    except OSError:
        return  # it ended meanwhile
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(descriptor)


def _command(process: pathlib.Path) -> str:
    try:
        return (process / 'comm').read_text().strip()
    except OSError:
        return '?'


class Disks:
    """All block devices; its methods include the verbs of ``block``."""

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        targets: storage.Storage,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._storage = targets
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._disks: dict[str, Disk] = {}
        # names that are taken until the last who has them open closes them
        self._lingering: set[str] = set()

    def add(self, directory: str, target_name: str, lun: int) -> Disk | None:
        """Make the block device of a logical unit.

        :param directory: of the logical unit, below sys
        :returns: None if the target has taken the volume back already
        """
        volume = self._storage.volume(target_name, lun)
        if volume is None:
            return None
        self._lingering = {
            old for old in self._lingering if any(self._openers(old))
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
            target_name,
            lun,
        )
        self._disks[disk.name] = disk
        hctl = directory.rpartition('/')[2]
        self._emit('add', disk, 'scsi_disk', f'{directory}/scsi_disk/{hctl}')
        self._tree.place(
            f'sys/{directory}/block', self._contents(disk, volume, hctl)
        )
        self._tree.symlink(
            f'sys/class/block/{disk.name}', f'sys/{disk.directory}'
        )
        self._tree.hardlink(f'dev/{disk.name}', volume.path)
        self._emit('add', disk)
        return disk

    def remove(self, disk: Disk) -> None:
        del self._disks[disk.name]
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

    def mapping_changed(self, target_name: str, lun: int) -> None:
        """Let I/O go to what the target has there now, or nowhere."""
        with self._lock:
            volume = self._storage.volume(target_name, lun)
            for disk in self._disks.values():
                if (disk.target_name, disk.lun) == (target_name, lun):
                    self._tree.hardlink(
                        f'dev/{disk.name}', volume.path if volume else None
                    )

    def open(self, device: str) -> tuple[Disk, storage.Volume]:
        """A device with the volume that answers for it now.

        :raises OSError: no such device (ENOENT), or no answer (EIO)
        """
        with self._lock:
            disk = self._disks.get(device)
        if disk is None:
            raise FileNotFoundError(
                errno.ENOENT, f'No such file or directory: /dev/{device}'
            )
        volume = self._storage.volume(disk.target_name, disk.lun)
        if volume is None:
            raise OSError(errno.EIO, f'Input/output error: /dev/{device}')
        return disk, volume

    def flush(self, device: str) -> None:
        self.open(device)

    def read(self, device: str, offset: int, length: int) -> bytes:
        _, volume = self.open(device)
        if offset % _SECTOR or length % _SECTOR:
            # O_DIRECT takes whole blocks only
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with open(volume.path, 'rb') as file:
            file.seek(offset)
            return file.read(length)

    def openers(self, device: str) -> list[tuple[int, str]]:
        with self._lock:
            if device not in self._disks:
                raise FileNotFoundError(
                    errno.ENOENT, f'No such file or directory: /dev/{device}'
                )
        return list(self._openers(device))

    def _openers(self, device: str) -> Iterator[tuple[int, str]]:
        node = str(self._tree.root / 'dev' / device)
        # deleted: the node is gone, or shows another volume by now
        nodes = (node, f'{node} (deleted)')
        for process in pathlib.Path('/proc').iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            if any(file in nodes for file in _open_files(process)):
                yield int(process.name), _command(process)

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
    def _contents(
        disk: Disk, volume: storage.Volume, hctl: str
    ) -> trees.Contents:
        files: dict[str, str | None] = {
            'dev': f'{disk.number}\n',
            'size': f'{volume.size // _SECTOR}\n',
            'ro': '0\n',
            'removable': '0\n',
            'queue/logical_block_size': f'{_SECTOR}\n',
            'holders': None,
            'slaves': None,
            'device': trees.Link(f'../../../{hctl}'),
        }
        return {f'{disk.name}/{name}': text for name, text in files.items()}
