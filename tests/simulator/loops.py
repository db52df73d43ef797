# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""loop: a file as a block device, and its verbs."""

import dataclasses
import errno
import itertools
import os
import pathlib
import threading

from tests.contract.bed import LOCAL_ROOT
from tests.simulator import tree as trees
from tests.simulator import uevents

_MAJOR = 7
_SECTOR = 512
#: What the one file system of the host says it is.
_FILE_SYSTEM = '00c0ffee00c0ffee'


@dataclasses.dataclass(eq=False)
class LoopDevice:
    """A loop device that has a file.

    :ivar path: of the file, as the host spells it
    :ivar ours: whether a worker has made it
    """

    name: str
    number: str
    path: str
    ours: bool = True

    @property
    def directory(self) -> str:
        return f'devices/virtual/block/{self.name}'


class Loops:
    """All loop devices; its methods include the verbs."""

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._devices: dict[str, LoopDevice] = {}

    def find(self, device: str) -> LoopDevice | None:
        with self._lock:
            return self._devices.get(device)

    def attach(self, path: str, read_only: bool) -> None:
        root = os.path.realpath(self._tree.root)
        file = f'{root}{path}'
        if (
            not path.startswith(f'{LOCAL_ROOT}/')
            or os.path.realpath(file) != file
        ):
            raise PermissionError(
                errno.EPERM,
                f'{path} is below none of the local_roots, {LOCAL_ROOT}',
            )
        found = os.stat(file)
        with self._lock:
            for device in self._devices.values():
                if os.path.samestat(os.stat(self.file(device)), found):
                    raise OSError(
                        errno.ETXTBSY,
                        f'{device.name}, which has this file already',
                    )
            self._make(path, read_only, ours=True)

    def make(self, path: str) -> None:
        """What somebody else makes of a file."""
        self._make(path, read_only=False, ours=False)

    def _make(self, path: str, read_only: bool, ours: bool) -> None:
        file = self._tree.root / path.lstrip('/')
        size = os.stat(file).st_size
        with self._lock:
            number = next(
                i for i in itertools.count() if f'loop{i}' not in self._devices
            )
            device = LoopDevice(
                f'loop{number}', f'{_MAJOR}:{number}', path, ours
            )
            self._devices[device.name] = device
            self._tree.place(
                f'sys/{device.directory}',
                {
                    'dev': f'{device.number}\n',
                    'size': f'{size // _SECTOR}\n',
                    'ro': f'{int(read_only)}\n',
                    'queue/logical_block_size': f'{_SECTOR}\n',
                    'loop/backing_file': f'{path}\n',
                    'holders': None,
                    'slaves': None,
                },
            )
            self._tree.hardlink(f'dev/{device.name}', file)
            self._tree.symlink(
                f'sys/class/block/{device.name}', f'sys/{device.directory}'
            )
            self._emit(device)

    def detach(self, device: str, path: str) -> None:
        with self._lock:
            found = self._checked(device, path)
            del self._devices[found.name]
            self._tree.remove(f'sys/class/block/{found.name}')
            self._tree.remove(f'sys/{found.directory}')
            self._tree.unlink(f'dev/{found.name}')
            self._emit(found)

    def resize(self, device: str, path: str) -> None:
        with self._lock:
            found = self._checked(device, path)
            size = os.stat(self.file(found)).st_size
            self._tree.write(
                f'sys/{found.directory}/size', f'{size // _SECTOR}\n'
            )
            self._emit(found)

    def is_ours(self, device: str, path: str) -> bool:
        with self._lock:
            found = self._known(device)
            return found.ours and found.path == path

    def take_away(self, path: str) -> None:
        """Take away what somebody else has made of a file."""
        with self._lock:
            for device in list(self._devices.values()):
                if device.path == path and not device.ours:
                    device.ours = True
                    self.detach(device.name, path)

    def identify(self, device: str) -> list[int | str]:
        with self._lock:
            found = os.stat(self.file(self._known(device)))
            return [found.st_dev, found.st_ino, _FILE_SYSTEM]

    def file(self, device: LoopDevice) -> pathlib.Path:
        """What it was made of, whatever has that name by now."""
        return self._tree.root / 'dev' / device.name

    def vanish(self, path: str) -> None:
        """Take a file's device away, unasked."""
        with self._lock:
            for device in list(self._devices.values()):
                if device.path == path:
                    self.detach(device.name, path)

    def _checked(self, device: str, path: str) -> LoopDevice:
        found = self._known(device)
        if not found.ours or found.path != path:
            raise OSError(
                errno.ESTALE,
                f'{device} was not made by attachworker for {path}',
            )
        return found

    def _known(self, device: str) -> LoopDevice:
        found = self._devices.get(device)
        if found is None:
            raise FileNotFoundError(
                errno.ENXIO, f'No such device: /dev/{device}'
            )
        return found

    def _emit(self, device: LoopDevice) -> None:
        self._events.emit(
            'change', 'block', f'/{device.directory}', DEVNAME=device.name
        )
