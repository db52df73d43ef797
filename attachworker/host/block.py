# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Block devices: size, users, and access to the data."""

import errno
import pathlib
from typing import Any

from attachworker import deadline as deadlines
from attachworker.host import multipath
from attachworker.host import opening
from attachworker.host import sysfs
from attachworker.host import uevents
from attachworker.host import verbs

#: The unit of the ``size`` attribute, whatever the device's own block size.
_SECTOR = 512
_BLOCK = 4096
#: How a device that does not answer, or has gone, fails. All other errors are
#: this host's own and say nothing of the device.
NO_ANSWER = frozenset(
    (
        errno.EAGAIN,
        errno.EIO,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOTCONN,
        errno.ENXIO,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    )
)
#: Seconds that a device on top of another gets to say what it is.
_HOLDER_TIMEOUT = 1.0
#: What tells a device from others for good, the best one first, and how the
#: kernel says that a device has none: while it is being removed, or because
#: its driver knows of none.
_IDENTIFIERS = {
    'dm/uuid': errno.EINVAL,
    'md/uuid': errno.EBUSY,
    'wwid': errno.ENXIO,
    'device/wwid': errno.EINVAL,
    'serial': errno.ENXIO,
}


class Block:
    def __init__(
        self,
        root: pathlib.Path,
        privileged: Any,
        calls: verbs.Verbs,
        events: uevents.UeventMonitor,
    ) -> None:
        self._root = root
        self._privileged = privileged
        self._calls = calls
        self._events = events

    def size(self, disk: str) -> int | None:
        """Bytes; None if the device is gone."""
        sectors = sysfs.read_int(self._sysfs(disk) / 'size')
        return None if sectors is None else sectors * _SECTOR

    def read_only(self, disk: str) -> bool:
        return sysfs.read_int(self._sysfs(disk) / 'ro') == 1

    def of_node(self, path: str) -> str | None:
        """The kernel name of the block device that a node below dev is."""
        directory, _, name = path.rpartition('/')
        if directory == '/dev' and sysfs.exists(self._sysfs(name)):
            return name
        return None

    def identifier(self, disk: str) -> str | None:
        """What tells a device from others for good; None if nothing does."""
        directory = self._sysfs(disk)
        partition = sysfs.read(directory / 'partition')
        if partition:
            place = sysfs.resolved(directory)
            whole = place and self.identifier(place.parent.name)
            return f'{whole}-part{partition}' if whole else None
        for name, none in _IDENTIFIERS.items():
            found = sysfs.read(directory / name, none, errno.ENXIO)
            if found:
                return '_'.join(found.split())
        return None

    def users(
        self,
        disks: list[str],
        deadline: deadlines.Deadline,
        mapping: str = '',
    ) -> dict[str, list[str]]:
        """Who uses each device or a partition of it, for people to read.

        Its multipath map and the partitions of that are no users, but theirs
        are.

        :param mapping: name of one of dm-crypt that is no user either
        """
        self._wait_for_holders(disks, deadline)
        parts = {disk: self._parts(disk, mapping) for disk in disks}
        names = sorted({name for found in parts.values() for name in found})
        openers = self._openers(names, deadline)
        return {
            disk: [
                user
                for name in found
                for user in (
                    *(
                        f'device {holder}'
                        for holder in self._holders(name, mapping)
                    ),
                    *self._mounts(name),
                    *openers.get(name, ()),
                )
            ]
            for disk, found in parts.items()
        }

    def flush(self, disk: str, deadline: deadlines.Deadline) -> None:
        """Write back all that is cached.

        :raises OSError: the device refused a write
        """
        self._calls.call(
            self._privileged.flush,
            disk,
            name='block.flush',
            about=disk,
            deadline=deadline,
        )

    def read_first_block(
        self, disk: str, deadline: deadlines.Deadline
    ) -> bytes:
        """The first 4 KiB, read from the device and not from a cache.

        :raises OSError: the device cannot be read
        """

        def attempt() -> bytes:
            data: bytes = self._calls.call(
                self._privileged.read,
                disk,
                0,
                _BLOCK,
                name='block.read',
                about=disk,
                deadline=deadline,
            )
            return data

        return opening.once_open(
            self._root, self._events, disk, attempt, deadline
        )

    def _wait_for_holders(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> None:
        """A new map is seen on its disks before its uuid is, for a moment."""

        def look() -> bool | None:
            holders = {
                holder
                for disk in disks
                for holder in sysfs.names(self._sysfs(disk) / 'holders')
                if holder.startswith('dm-')
            }
            known = all(
                sysfs.exists(self._sysfs(holder) / 'dm/uuid')
                for holder in holders
            )
            return True if known else None

        self._events.wait_for(
            look,
            lambda event: '/block/dm-' in event['DEVPATH'],
            deadline.sooner(_HOLDER_TIMEOUT),
        )

    def _parts(self, disk: str, mapping: str) -> list[str]:
        """The device, its partitions, its map, and the partitions of that."""
        directory = self._sysfs(disk)
        found = [disk]
        found += [
            name
            for name in sysfs.names(directory)
            if sysfs.exists(directory / name / 'partition')
        ]
        for name in tuple(found):
            for holder in sysfs.names(self._sysfs(name) / 'holders'):
                if self._is_part(holder, mapping):
                    found += self._parts(holder, mapping)
        return found

    def _holders(self, disk: str, mapping: str) -> list[str]:
        """The devices on top, without those that are parts of this one."""
        found = sysfs.names(self._sysfs(disk) / 'holders')
        return [
            holder for holder in found if not self._is_part(holder, mapping)
        ]

    def _is_part(self, holder: str, mapping: str) -> bool:
        directory = self._sysfs(holder)
        if mapping and sysfs.read_dm(directory, 'name') == mapping:
            return True
        return multipath.is_part(sysfs.read_dm(directory, 'uuid') or '')

    def _openers(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> dict[str, list[str]]:
        found = self._calls.call(
            self._privileged.openers,
            disks,
            name='block.openers',
            about=', '.join(disks),
            deadline=deadline,
        )
        users: dict[str, list[str]] = {}
        for disk, pid, command in found:
            users.setdefault(disk, []).append(f'process {pid} ({command})')
        return users

    def _mounts(self, disk: str) -> list[str]:
        number = sysfs.read(self._sysfs(disk) / 'dev')
        table = sysfs.read(self._root / 'proc/self/mountinfo') or ''
        rows = [line.split() for line in table.splitlines()]
        return [f'mount {row[4]}' for row in rows if row[2:3] == [number]]

    def _sysfs(self, disk: str) -> pathlib.Path:
        return self._root / 'sys/class/block' / disk
