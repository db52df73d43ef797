# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""multipathd: finds disks that lead to one volume, and makes maps of them."""

from collections.abc import Callable
import contextlib
import errno
import itertools
import os
import string
import threading

from tests.simulator import disks
from tests.simulator import maps
from tests.simulator import tree as trees

#: From a disk's event to what multipathd makes of it, unless told otherwise.
REACTION_SECONDS = 0.01

WWIDS = 'etc/multipath/wwids'

#: What multipath.conf(5) knows, and which of three it is for the daemon.
_FIND = {
    'strict': 'strict',
    'off': 'no',
    'no': 'no',
    'greedy': 'no',
    'on': 'yes',
    'yes': 'yes',
    'smart': 'yes',
}


class Multipathd:
    """The daemon; its methods include the verbs of ``multipath``.

    It does not run until :meth:`start`.
    """

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        sd: disks.Disks,
        dm: maps.Maps,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._disks = sd
        self._maps = dm
        self._running = False
        self._find = 'yes'
        self._friendly = False
        self._queueing = False
        self._reaction = REACTION_SECONDS
        self._uid_attribute: str | None = None
        self._blacklist = False
        #: Whether its list of WWIDs is in a file system that is read-only.
        self.read_only = False
        self._paths: dict[str, disks.Disk] = {}
        self._reactions: list[threading.Timer] = []
        sd.listeners.append(self._hear)

    # What tests do.

    def start(
        self,
        find: str | None,
        friendly: bool,
        queueing: bool,
        reaction: float = REACTION_SECONDS,
        uid_attribute: str | None = None,
        blacklist: bool = False,
    ) -> None:
        """Start it, or start it again, with these settings.

        :param find: ``find_multipaths``; None: it is not configured
        :param friendly: ``user_friendly_names``
        :param queueing: ``no_path_retry queue``, not ``fail``
        :param uid_attribute: udev's property that names a volume; None: the
            default
        :param reaction: seconds from a disk's event to what it makes of it
        :param blacklist: all disks are on its blacklist
        :raises ValueError: no such setting
        """
        find = find or 'strict'
        if find not in _FIND:
            raise ValueError(f'no such find_multipaths: {find}')
        with self._lock:
            self._running = True
            self._find = _FIND[find]
            self._friendly = friendly
            self._queueing = queueing
            self._reaction = reaction
            self._uid_attribute = uid_attribute
            self._blacklist = blacklist
            self.clear()
            for found in self._maps.all():
                self._maps.set_queueing(found, queueing)
            for disk in self._disks.all():
                self._take(disk)

    def stop(self) -> None:
        """Its maps stay: they are the kernel's."""
        with self._lock:
            self._running = False
            self.clear()

    def clear(self) -> None:
        """Forget all disks, as a start does."""
        self._paths = {}

    def paths(self) -> list[str]:
        with self._lock:
            self._answer()
            return sorted(self._paths)

    # The verbs.

    def running(self) -> bool:
        return self._running

    def add_path(self, disk: str) -> None:
        with self._lock:
            self._answer()
            found = self._present(disk)
            if self._blacklist:
                raise OSError(errno.EPERM, f'multipathd: blacklisted ({disk})')
            self._take(found)

    def make_map(self, disk: str) -> None:
        with self._lock:
            self.add_path(disk)
            found = self._present(disk)
            if self._of_volume(found) is None:
                self._create(found)

    def _present(self, disk: str) -> disks.Disk:
        found = self._disks.find(disk)
        if found is None:
            raise OSError(errno.EBUSY, f'multipathd: fail (add {disk})')
        return found

    def remove_path(self, disk: str) -> None:
        with self._lock:
            if self._running and disk in self._paths:
                self._lose(self._paths[disk])

    def map_paths(self, map_name: str) -> list[tuple[str, str]]:
        with self._lock:
            return [
                (
                    disk.name,
                    'active' if self._works(disk) else 'failed',
                )
                for disk in self._map(map_name).disks
            ]

    def _works(self, disk: disks.Disk) -> bool:
        return (
            self._disks.volume(disk) is not None
            and self._disks.access(disk) != 'unavailable'
        )

    def remove_map(self, map_name: str) -> None:
        with self._lock:
            self._maps.remove(self._map(map_name))

    def resize_map(self, map_name: str) -> None:
        with self._lock:
            self._maps.resize(self._map(map_name))

    def set_queueing(self, map_name: str, queue: bool) -> None:
        with self._lock:
            found = self._map(map_name)
            # restored is what is configured, which may be no queueing
            self._maps.set_queueing(found, queue and self._queueing)

    def listed(self) -> list[str]:
        with self._lock:
            return [line.strip('/') for line in self._remembered()]

    def remember(self, wwid: str) -> None:
        with self._lock:
            self._check_writable()
            lines = self._remembered()
            if f'/{wwid}/' not in lines:
                self._write([*lines, f'/{wwid}/'])

    def forget(self, wwid: str) -> None:
        with self._lock:
            lines = self._remembered()
            if f'/{wwid}/' in lines:
                self._write([line for line in lines if line != f'/{wwid}/'])

    def _check_writable(self) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), WWIDS)

    # What it does by itself.

    def _hear(self, action: str, disk: disks.Disk) -> None:
        act: Callable[[disks.Disk], None] = {
            'add': self._take,
            'remove': self._lose,
        }[action]

        def react() -> None:
            with self._lock:
                if self._running:
                    act(disk)

        timer = threading.Timer(self._reaction, react)
        timer.daemon = True
        self._reactions = [one for one in self._reactions if one.is_alive()]
        timer.start()
        self._reactions.append(timer)

    def settle(self) -> None:
        """Wait until it has reacted to all that it was told."""
        for one in list(self._reactions):
            one.join()

    def _take(self, disk: disks.Disk) -> None:
        """Know a disk, and put it under a map if it should have one.

        The kernel takes no second map of one volume: a disk of another size
        than the map that is there has none.
        """
        if disk.removed or self._blacklist:
            return
        old = self._paths.get(disk.name)
        if old is not None and old is not disk:
            self._lose(old)
        self._paths[disk.name] = disk
        if self._maps.holding(disk) is not None:
            return
        found = self._of_volume(disk)
        if found is None:
            self._make_map(disk)
        elif disk.size in (0, found.size):
            self._maps.set_disks(found, [*found.disks, disk])

    def _of_volume(self, disk: disks.Disk) -> maps.Map | None:
        """The map of the volume that a disk leads to."""
        wwid = self._wwid(disk)
        return next((m for m in self._maps.all() if m.wwid == wwid), None)

    def _make_map(self, disk: disks.Disk) -> None:
        if (
            self._find == 'no'
            or f'/{self._wwid(disk)}/' in self._remembered()
            or (self._find == 'yes' and len(self._alike(disk)) > 1)
        ):
            self._create(disk)

    def _alike(self, disk: disks.Disk) -> list[disks.Disk]:
        return [
            other
            for other in self._paths.values()
            if other.wwid == disk.wwid and not other.removed
        ]

    def _create(self, disk: disks.Disk) -> None:
        alike = self._alike(disk)
        size = disk.size or max(other.size for other in alike)
        if not size:
            return  # the kernel takes no table without a length
        sizes = (0, size)
        alike = [other for other in alike if other.size in sizes]
        wwid = self._wwid(disk)
        self._maps.create(wwid, self._alias(wwid), alike, self._queueing)
        with contextlib.suppress(OSError):
            self.remember(wwid)

    def _wwid(self, disk: disks.Disk) -> str:
        """What it calls the volume of a disk."""
        if self._uid_attribute == 'ID_WWN':
            return f'0x{disk.wwid[1:17]}'
        return disk.wwid

    def _lose(self, disk: disks.Disk) -> None:
        """Forget a disk; with the last one goes a map that nobody uses."""
        if self._paths.get(disk.name) is disk:
            del self._paths[disk.name]
        found = self._maps.holding(disk)
        if found is None:
            return
        rest = [other for other in found.disks if other is not disk]
        if not rest:
            try:
                self._maps.remove(found)
            except OSError:
                pass  # in use: it stays, without paths
            else:
                return
        self._maps.set_disks(found, rest)

    def _alias(self, wwid: str) -> str:
        if not self._friendly:
            return wwid
        taken = {found.alias for found in self._maps.all()}
        return next(
            f'mpath{letters}'
            for length in itertools.count(1)
            for letters in map(
                ''.join,
                itertools.product(string.ascii_lowercase, repeat=length),
            )
            if f'mpath{letters}' not in taken
        )

    def _answer(self) -> None:
        """:raises OSError: it does not run"""
        if not self._running:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)
            )

    def _map(self, name: str) -> maps.Map:
        found = self._maps.find(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._answer()
        return found

    def _remembered(self) -> list[str]:
        try:
            text = (self._tree.root / WWIDS).read_text()
        except FileNotFoundError:
            return []
        return text.splitlines()

    def _write(self, lines: list[str]) -> None:
        self._tree.write(WWIDS, ''.join(f'{line}\n' for line in lines))
