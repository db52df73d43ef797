# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which block device stands on which."""

from collections.abc import Callable
from collections.abc import Iterable
import functools
import pathlib

from attachworker.host import encryption
from attachworker.host import multipath
from attachworker.host import sysfs

_DELETED = ' (deleted)'


class Stack:
    """The devices as they are now: it is made anew for each look.

    Partitions, a multipath map with its partitions, and a mapping that is
    named are parts of the device that they stand on. Each method raises
    OSError if the kernel does not tell.

    :param mapping: name of one of dm-crypt; empty: none is a part
    """

    def __init__(self, root: pathlib.Path, mapping: str = '') -> None:
        self.root = root
        self._mapping = mapping

    # -- upwards

    def parts(self, device: str) -> list[str]:
        """The device itself, and what is a part of it."""
        return _closure(
            [device],
            lambda one: [
                *self._partitions(one),
                *filter(self._is_part, self._holders(one)),
            ],
        )

    def users(self, part: str) -> list[str]:
        """The devices that stand on a part and are none."""
        return [
            *(one for one in self._holders(part) if not self._is_part(one)),
            *self._loops.get(part, ()),
        ]

    def above(self, part: str) -> list[str]:
        """The same, and what stands on these in turn."""
        return _closure(
            self.users(part),
            lambda one: [
                *self._partitions(one),
                *self._holders(one),
                *self._loops.get(one, ()),
            ],
        )

    def openable(self, parts: Iterable[str]) -> list[str]:
        """Those parts that no other part has exclusively, the whole of each.

        Whoever has a partition keeps others from the whole device.
        """
        known = set(parts)
        return [
            part
            for part in sorted(known)
            if self._whole(part) not in known
            and not any(map(self._is_part, self._holders(part)))
        ]

    # -- names

    def numbers(self, devices: Iterable[str]) -> dict[str, str]:
        """``major:minor`` of those that are there."""
        return {
            device: number
            for device in sorted(devices)
            if (number := sysfs.read(self._sysfs(device) / 'dev')) is not None
        }

    def paths(self, device: str) -> list[str]:
        """By which a program may know it."""
        alias = self._alias(device)
        return [
            f'/dev/{device}',
            *([f'/dev/mapper/{alias}'] if alias else ()),
        ]

    def title(self, device: str) -> str:
        """What people know it by."""
        alias = self._alias(device)
        return f'device {device} ({alias})' if alias else f'device {device}'

    def name_of(self, path: str) -> str | None:
        """The kernel name of the device that a node below /dev is.

        Elsewhere no file is looked at: its server may be dead.
        """
        if not path.startswith('/dev/') or '\0' in path:
            return None
        node = self.root / path.removesuffix(_DELETED).lstrip('/')
        node = sysfs.resolved(node) or node
        number = sysfs.node_number(node)
        if number is not None:
            return self.numbered(number)
        known = node.parent == self.root / 'dev' and sysfs.exists(
            self._sysfs(node.name)
        )
        return node.name if known else None

    def numbered(self, number: str) -> str | None:
        """The kernel name of the device that has a number."""
        found = sysfs.resolved(self.root / 'sys/dev/block' / number)
        return found.name if found else None

    # -- what the kernel shows

    def _holders(self, device: str) -> list[str]:
        return sysfs.names(self._sysfs(device) / 'holders')

    def _partitions(self, device: str) -> list[str]:
        directory = self._sysfs(device)
        return [
            name
            for name in sysfs.names(directory)
            if name.startswith(device)
            and sysfs.exists(directory / name / 'partition')
        ]

    def _whole(self, device: str) -> str | None:
        """The device that a partition is one of."""
        directory = self._sysfs(device)
        if not sysfs.exists(directory / 'partition'):
            return None
        place = sysfs.resolved(directory)
        return place.parent.name if place else None

    def _is_part(self, holder: str) -> bool:
        directory = self._sysfs(holder)
        pair = (self._mapping, f'{self._mapping}{encryption.LOWER}')
        if self._mapping and self._alias(holder) in pair:
            return True
        return multipath.is_part(sysfs.read_dm(directory, 'uuid') or '')

    def _alias(self, device: str) -> str | None:
        return sysfs.read_dm(self._sysfs(device), 'name')

    @functools.cached_property
    def _loops(self) -> dict[str, list[str]]:
        """The loop devices on each device: the kernel has no holder there."""
        found: dict[str, list[str]] = {}
        for name in sysfs.names(self.root / sysfs.VIRTUAL):
            file = self._backing_file(name)
            device = self.name_of(file) if file else None
            if device is not None:
                found.setdefault(device, []).append(name)
        return found

    def _backing_file(self, device: str) -> str | None:
        if not device.startswith('loop'):
            return None
        return sysfs.read(self._sysfs(device) / 'loop/backing_file')

    def _sysfs(self, device: str) -> pathlib.Path:
        return self.root / 'sys/class/block' / device


def _closure(
    start: Iterable[str], further: Callable[[str], Iterable[str]]
) -> list[str]:
    """What is reached from something, each once, the nearest first."""
    found = list(dict.fromkeys(start))
    for one in found:
        found += [each for each in further(one) if each not in found]
    return found
