# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The shares that this host has mounted, and the files in them.

What is mounted is read from the kernel's table, and no server is asked. What
is asked of a file is a verb with a deadline: its server may be dead.
"""

import errno
import os
import re
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import block
from attachworker.host import exports
from attachworker.host import machine
from attachworker.host import mounts
from attachworker.host import users

LOG = logging.getLogger(__name__)

_DIRECTORY = re.compile('[0-9a-f]{32}')
#: Seconds that a server gets to tell of a file that is looked at by the way.
_ANSWER = 10.0


class Shares(machine.View):
    """Those that are mounted below one directory.

    :param kind: what mounts them, as mount(8) calls it
    :param base: the directory
    """

    def __init__(
        self, host: machine.Machine, kind: str, base: str | None
    ) -> None:
        super().__init__(host)
        self._kind = kind
        self.base = os.path.normpath(base) if base else ''

    def about(self, directory: str) -> str:
        """What stands for a share where verbs may be stuck."""
        return f'{self._kind}-{directory}'

    def mounted(self) -> dict[str, mounts.Mount]:
        """What is mounted in each directory; the last one covers others.

        :raises OSError: nobody knows
        """
        if not self.base:
            return {}
        found = mounts.below(self._root, self.base.rstrip('/'))
        return {
            name: one
            for name, one in found.items()
            if _DIRECTORY.fullmatch(name)
        }

    def find(self, directory: str) -> mounts.Mount | None:
        return self.mounted().get(directory)

    # -- changes

    def mount(
        self,
        directory: str,
        share: str,
        options: list[str],
        timeout: float,
        deadline: deadlines.Deadline,
    ) -> tuple[int, str]:
        """Exit code and output of the tool; see privileged.mounts.mount."""
        code, output = self._call(
            'mounts.mount',
            deadline,
            self._kind,
            share,
            options,
            timeout,
            about=self.about(directory),
        )
        return code, output

    def unmount(
        self, directory: str, deadline: deadlines.Deadline, lazy: bool
    ) -> None:
        """:raises OSError: see privileged.mounts.unmount"""
        # One that is lazy ends what the others wait for.
        about = '' if lazy else self.about(directory)
        self._call(
            'mounts.unmount',
            deadline,
            self._kind,
            directory,
            lazy,
            about=about,
        )


class Files(machine.View):
    """What others ask of block devices, of files in shares.

    In place of the kernel name of a device a file has ``directory/name``: its
    path below the directory with all mounts.
    """

    def __init__(
        self, host: machine.Machine, kind: str, shares: Shares
    ) -> None:
        super().__init__(host)
        self._kind = kind
        self._shares = shares

    def node(self, disk: str) -> str:
        """Where a file is, absolute."""
        return f'{self._shares.base.rstrip("/")}/{disk}'

    def inspect(
        self, disk: str, deadline: deadlines.Deadline, fresh: bool = True
    ) -> tuple[int, int]:
        """Inode and size of a file.

        :raises OSError: see privileged.mounts.inspect
        """
        inode, size = self._ask('inspect', disk, deadline, fresh)
        return inode, size

    # -- as of host.block.Block

    def device(self, disk: str) -> block.Device | None:
        """The file of a mount, and not one of a later mount."""
        found = self._shares.find(disk.partition('/')[0])
        if found is None:
            return None
        major, _, minor = found.number.partition(':')
        return block.Device(disk, os.makedev(int(major), int(minor)))

    def size(self, disk: str) -> int | None:
        try:
            _, size = self.inspect(disk, deadlines.Deadline.after(_ANSWER))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return None
        return size

    def read_only(self, disk: str) -> bool:
        found = self._shares.find(disk.partition('/')[0])
        return found is not None and 'ro' in (
            *found.flags.split(','),
            *found.options.split(','),
        )

    def check_readable(
        self, device: block.Device, deadline: deadlines.Deadline
    ) -> None:
        """Make sure that the server tells of a file.

        Whether it can be read, root may not know (root_squash).

        :raises OSError: it does not
        """
        self.inspect(device.name, deadline)

    def flush(self, disk: str, deadline: deadlines.Deadline) -> None:
        self._ask('flush', disk, deadline)

    def resumes(self, disk: str, deadline: deadlines.Deadline) -> bool:
        """A mount is never suspended."""
        return True

    # -- as of host.users.Users

    def of(
        self,
        disks: list[str],
        deadline: deadlines.Deadline,
        mapping: str = '',
    ) -> users.Found:
        """Who uses each file; see :meth:`host.users.Users.of`."""
        return {disk: self._users(disk, deadline) for disk in disks}

    def _users(self, disk: str, deadline: deadlines.Deadline) -> list[str]:
        inode: int | None = None
        try:
            inode, _ = self.inspect(disk, deadline.sooner(_ANSWER), False)
        except (exception.DeadlineExceeded, exception.TargetQuarantined):
            pass  # its server is dead: the name of the file has to do
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []  # what is mounted no more nobody has attached
        uses, hidden, kernel = self._ask('users', disk, deadline, inode)
        for pid, command in hidden:
            LOG.warning(
                'A security module of this host hides the open files of '
                'process %s (%s): %s counts as unused if only that has it '
                'open',
                pid,
                command,
                disk,
            )
        return [
            *(f'process {pid} ({command})' for pid, command in uses),
            *kernel,
            *exports.of_file(self._root, self.node(disk)),
        ]

    def own_file_systems(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> users.Found:
        """None: what is on a loop device keeps the file in use."""
        return {}

    def _ask(
        self,
        verb: str,
        disk: str,
        deadline: deadlines.Deadline,
        *arguments: object,
    ) -> Any:
        directory, _, name = disk.partition('/')
        return self._call(
            f'mounts.{verb}',
            deadline,
            self._kind,
            directory,
            name,
            *arguments,
            about=self._shares.about(directory),
        )
