# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs of ``block``: what is done with disks and maps."""

from collections.abc import Mapping
import errno
import os
import pathlib
import threading
from typing import Protocol

from tests.simulator import disks
from tests.simulator import loops
from tests.simulator import maps
from tests.simulator import nvme
from tests.simulator import processes
from tests.simulator import rbd
from tests.simulator import storage
from tests.simulator import tree as trees


class Crypt(Protocol):
    """One of dm-crypt; see :mod:`tests.simulator.crypts`."""

    number: str
    below: str
    file: pathlib.Path

    @property
    def directory(self) -> str: ...


SWAPS = 'proc/swaps'
NO_SWAPS = 'Filename\tType\tSize\tUsed\tPriority\n'

Device = (
    disks.Disk
    | maps.Map
    | loops.LoopDevice
    | nvme.Device
    | rbd.Mapping
    | Crypt
)


def no_device(device: str) -> OSError:
    return FileNotFoundError(
        errno.ENOENT, f'No such file or directory: /dev/{device}'
    )


def no_answer(device: str) -> OSError:
    return OSError(errno.EIO, f'Input/output error: /dev/{device}')


class Block:
    """Its methods include the verbs.

    :param changed: of the machine's lock; told when a map may work again
    :ivar crypts: mappings of dm-crypt, by kernel name
    :ivar claims: devices that something has that shows nowhere
    """

    def __init__(
        self,
        changed: threading.Condition,
        tree: trees.Tree,
        sd: disks.Disks,
        dm: maps.Maps,
        loop: loops.Loops,
        fabrics: nvme.NVMe,
        ceph: rbd.RBD,
    ) -> None:
        self._changed = changed
        self._tree = tree
        self._disks = sd
        self._maps = dm
        self._loops = loop
        self.crypts: Mapping[str, Crypt] = {}
        self.claims: set[str] = set()
        self._nvme = fabrics
        self._rbd = ceph

    def find(self, device: str) -> Device:
        """:raises OSError: no such device (ENOENT)"""
        found = self._find(device)
        if found is None:
            raise no_device(device)
        return found

    def _find(self, device: str) -> Device | None:
        return (
            self._disks.find(device)
            or self._maps.find(device)
            or self._loops.find(device)
            or self.crypts.get(device)
            or self._nvme.find(device)
            or self._rbd.find(device)
        )

    def file(self, device: str) -> pathlib.Path:
        """The file that answers for a device.

        A map that queues answers only when a path works again.

        :raises OSError: no such device (ENOENT), or no answer (EIO)
        """
        found = self.find(device)
        if isinstance(found, loops.LoopDevice):
            return self._loops.file(found)
        if isinstance(found, nvme.Device | rbd.Mapping):
            if isinstance(found, nvme.Device):
                file = self._nvme.file(found)
            else:
                file = self._rbd.file(found)
            if file is None:
                raise no_answer(device)
            return file
        if isinstance(found, maps.Map):
            volume = self._through(found)
        elif isinstance(found, disks.Disk):
            volume = self._disks.readable(found)
        else:
            self.file(found.below)
            return found.file
        if volume is None:
            raise no_answer(device)
        return volume.path

    def flush(self, device: str) -> None:
        self.file(device)

    def check(self, device: str, instance: int) -> None:
        """:raises OSError: the name is another device's (ESTALE)"""
        self.find(device)
        place = self._tree.root / 'sys/class/block' / device
        if os.stat(place).st_ino != instance:
            raise OSError(errno.ESTALE, f'/dev/{device} is another device')

    def check_readable(self, device: str, instance: int) -> None:
        self.check(device, instance)
        with open(self.file(device), 'rb') as file:
            file.read(1)

    def claimed(self, devices: list[tuple[str, str]]) -> list[str]:
        return [
            device for device, number in devices if self._taken(device, number)
        ]

    def _taken(self, device: str, number: str) -> bool:
        """Whether somebody has a device for himself alone."""
        if self._find(device) is None:
            return False
        root = self._tree.root
        directory = root / 'sys/class/block' / device
        if (directory / 'dev').read_text().strip() != number:
            raise OSError(errno.ESTALE, f'/dev/{device} is another device')
        numbers = {
            path.read_text().strip() for path in directory.glob('*/dev')
        }
        swaps = (root / SWAPS).read_text()
        return (
            device in self.claims
            or any((directory / 'holders').iterdir())
            or f'/dev/{device} ' in swaps
            or any(
                mounted in {number, *numbers}
                for _, mounted, _, _ in processes.of(root)
            )
        )

    def _through(self, found: maps.Map) -> storage.Volume | None:
        def settled() -> bool:
            return (
                found.removed
                or not found.queueing
                or self._maps.volume(found) is not None
            )

        with self._changed:
            self._changed.wait_for(settled)
            return self._maps.volume(found)
