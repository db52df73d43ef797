# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Loop devices, from sysfs."""

import errno
import os
from typing import NamedTuple

from attachworker import deadline as deadlines
from attachworker.host import block
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import verbs

#: A device that loses its file meanwhile.
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)

# The kernel adds it when the file has lost its name.
_DELETED = ' (deleted)'


class File(NamedTuple):
    """What tells a file from all others.

    :ivar device: its file system's, as stat(2) has it: until the next boot
    :ivar inode: its number there
    :ivar system: what its file system says it is, for good; empty: nobody
        knows
    """

    device: int
    inode: int
    system: str

    @property
    def identity(self) -> str:
        """What lasts comes first; see :func:`attachworker.host.block.lasting`.

        A copy of a file system, a snapshot of it for example, says that it is
        the same one.
        """
        found = f'inode-{self.inode}'
        if self.system:
            found += f'.{self.system}'
        number = f'{os.major(self.device)}:{os.minor(self.device)}'
        return f'{found}{block.UNTIL_BOOT}{number}'


class Loops(machine.View):
    def backing_files(self) -> dict[str, str]:
        """The file of each loop device that has one."""
        found = {}
        for name in sysfs.names(self._block('')):
            if name.startswith('loop'):
                path = sysfs.read(self._block(name) / 'loop/backing_file')
                if path:
                    found[name] = path.removesuffix(_DELETED)
        return found

    def devices(self, path: str) -> list[str]:
        """The loop devices of a file, whoever made them."""
        found = self.backing_files()
        return sorted(name for name in found if found[name] == path)

    def ours(self, path: str) -> list[str]:
        """Those that a worker has made.

        :raises OSError: nobody knows
        """
        return [
            name for name in self.devices(path) if self._is_ours(name, path)
        ]

    def _is_ours(self, device: str, path: str) -> bool:
        deadline = deadlines.Deadline.after(verbs.SLOW_RETURN)
        try:
            return bool(
                self._call('loop.is_ours', deadline, device, path, about='')
            )
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def detach(
        self, device: str, path: str, deadline: deadlines.Deadline
    ) -> bool:
        """Take its file away; True once the kernel has let go of it.

        :raises OSError: it does not, or no worker has made the device
        """
        return self._remove(
            'loop.detach',
            device,
            lambda: self.backing_files().get(device) != path,
            deadline,
            path,
        )

    def file(self, device: str, deadline: deadlines.Deadline) -> File:
        """Its file, whatever has the name of that by now.

        :raises OSError: it has none
        """
        return File(*self._call('loop.identify', deadline, device))
