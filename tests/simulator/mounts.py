# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""mounts: a server of NFS, what the host has mounted of it, and the verbs.

A mount is a link to the directory of the share, and a line in the table of
the first process.
"""

import dataclasses
import errno
import hashlib
import itertools
import os
import pathlib
import shutil
import stat
import threading
from typing import Any
import uuid

from tests.contract.bed import MOUNT_BASE
from tests.simulator import openers
from tests.simulator import portals as network
from tests.simulator import tree as trees

TABLE = 'proc/1/mountinfo'
TOOL = 'usr/sbin/mount.nfs'
_EXPORTS = 'run/exports'
_BASE = MOUNT_BASE.lstrip('/')


@dataclasses.dataclass(frozen=True)
class Mount:
    """What the host has mounted in one directory.

    :ivar ours: whether a verb has mounted it
    """

    identifier: int
    share: str
    kind: str
    options: str
    ours: bool


class Mounts:
    """Server and host; its methods include the verbs."""

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        portals: network.Portals,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._portals = portals
        self._portal = ''
        #: By share, its directory below the root.
        self._shares: dict[str, str] = {}
        self._mounted: dict[str, Mount] = {}
        self._identifiers = itertools.count(40)
        tree.clear(_EXPORTS)

    def boot(self) -> None:
        """Nothing is mounted."""
        with self._lock:
            self._mounted.clear()
            shutil.rmtree(self._tree.root / _BASE, ignore_errors=True)
            (self._tree.root / _BASE).mkdir(parents=True)
            self._show()

    # -- the server

    def create_volume(
        self, size: int, share: str | None
    ) -> tuple[str, str, pathlib.Path]:
        """A file, on a new share unless one is named.

        :returns: the share, the portal of its server, and the file
        """
        with self._lock:
            self._portal = self._portal or self._portals.create()
            if share is None:
                name = uuid.uuid4().hex[:12]
                share = f'127.0.0.1:/exports/{name}'
                self._shares[share] = f'{_EXPORTS}/{name}'
                (self._tree.root / _EXPORTS / name).mkdir(parents=True)
            name = f'volume-{uuid.uuid4()}'
            file = self._tree.root / self._shares[share] / name
            with open(file, 'xb') as opened:
                opened.write((f'{share} {name}\n'.encode() * 4096)[:4096])
                opened.truncate(size)
            return share, self._portal, file

    # -- the verbs

    def mount(
        self, kind: str, share: str, options: list[str], timeout: float
    ) -> tuple[int, str]:
        port = dict(one.partition('=')[::2] for one in options)['port']
        portal = f'127.0.0.1:{port}'
        if not self._portals.wait_listening(portal, timeout):
            return 32, 'mount.nfs: Connection timed out'
        with self._lock:
            if share not in self._shares:
                reason = 'reason given by server: No such file or directory'
                return 32, f'mount.nfs: mounting {share} failed, {reason}'
            directory = _directory(share)
            if directory in self._mounted:
                raise FileExistsError(errno.EEXIST, f'{directory} is mounted')
            self.make(share, kind, f'rw,addr=127.0.0.1,port={port}', ours=True)
            return 0, ''

    def unmount(self, kind: str, directory: str, lazy: bool) -> None:
        with self._lock:
            found = self._known(directory)
            if not found.ours:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            place = self._tree.root / self._shares[found.share]
            if not lazy and any(openers.of(list(place.iterdir()))):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self.take_away(directory)

    def inspect(
        self, kind: str, directory: str, name: str, fresh: bool
    ) -> list[int]:
        status = os.lstat(self._file(directory, name))
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(
                errno.EPERM, f'{name} is no regular file of its share'
            )
        return [status.st_ino, status.st_size]

    def flush(self, kind: str, directory: str, name: str) -> None:
        os.lstat(self._file(directory, name))

    def users(
        self, kind: str, directory: str, name: str, inode: int | None
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[str]]:
        file = self._file(directory, name)
        return [(pid, comm) for _, pid, comm in openers.of([file])], [], []

    # -- the host

    def make(self, share: str, kind: str, options: str, ours: bool) -> None:
        """Mount something where a share has its place.

        :param kind: of its file system
        """
        with self._lock:
            directory = _directory(share)
            self._tree.symlink(
                f'{_BASE}/{directory}', self._shares.get(share, _EXPORTS)
            )
            self._mounted[directory] = Mount(
                next(self._identifiers), share, kind, options, ours
            )
            self._show()

    def take_away(self, directory: str) -> None:
        """Unmount it, whoever has made it."""
        with self._lock:
            self._tree.remove(f'{_BASE}/{directory}')
            del self._mounted[directory]
            self._show()

    def vanish(self, arguments: dict[str, Any]) -> None:
        """Take a mount away, unasked.

        :param arguments: of the verb that was about it
        """
        with self._lock:
            directory = arguments.get('directory') or _directory(
                arguments['share']
            )
            if directory in self._mounted:
                self.take_away(directory)

    def _show(self) -> None:
        lines = [
            f'{one.identifier} 22 0:{one.identifier} / '
            f'{MOUNT_BASE}/{directory} rw,nosuid,nodev,noexec - {one.kind} '
            f'{one.share} {one.options}\n'
            for directory, one in self._mounted.items()
        ]
        root = '22 1 259:1 / / rw,relatime - ext4 /dev/root rw\n'
        self._tree.write(TABLE, ''.join((root, *lines)))

    def _known(self, directory: str) -> Mount:
        if directory not in self._mounted:
            raise OSError(errno.ENODEV, f'no share is in {directory}')
        return self._mounted[directory]

    def _file(self, directory: str, name: str) -> pathlib.Path:
        with self._lock:
            share = self._known(directory).share
            return self._tree.root / self._shares[share] / name


def _directory(share: str) -> str:
    return hashlib.md5(share.encode(), usedforsecurity=False).hexdigest()
