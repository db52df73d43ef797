# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Loop devices, from sysfs."""

from attachworker import deadline as deadlines
from attachworker.host import machine
from attachworker.host import sysfs

# The kernel adds it when the file has lost its name.
_DELETED = ' (deleted)'


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
        """The loop devices of a file."""
        found = self.backing_files()
        return sorted(name for name in found if found[name] == path)

    def attach(
        self, path: str, read_only: bool, deadline: deadlines.Deadline
    ) -> None:
        """Make a loop device for a file.

        :raises OSError: it cannot be made
        """
        self._call('loop.attach', deadline, path, read_only)

    def detach(self, device: str, deadline: deadlines.Deadline) -> bool:
        """Take its file away; True once the kernel has let go of it.

        :raises OSError: it does not
        """
        return self._remove(
            'loop.detach',
            device,
            lambda: device not in self.backing_files(),
            deadline,
        )

    def resize(self, device: str, deadline: deadlines.Deadline) -> None:
        """Have it read the size of its file again.

        :raises OSError: there is no such device
        """
        self._call('loop.resize', deadline, device)

    def inode(self, device: str, deadline: deadlines.Deadline) -> int:
        """The inode number of its file.

        :raises OSError: it has none
        """
        return int(self._call('loop.inode', deadline, device))
