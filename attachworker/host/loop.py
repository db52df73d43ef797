# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Loop devices, from sysfs."""

import pathlib
from typing import Any

from attachworker import deadline as deadlines
from attachworker.host import sysfs
from attachworker.host import uevents
from attachworker.host import verbs

# The kernel adds it when the file has lost its name.
_DELETED = ' (deleted)'


class Loop:
    def __init__(
        self,
        root: pathlib.Path,
        privileged: Any,
        calls: verbs.Verbs,
        monitor: uevents.UeventMonitor,
    ) -> None:
        self._root = root
        self._privileged = privileged
        self._calls = calls
        self._uevents = monitor

    def backing_files(self) -> dict[str, str]:
        """The file of each loop device that has one."""
        directory = self._root / 'sys/class/block'
        found = {}
        for name in sysfs.names(directory):
            if name.startswith('loop'):
                path = sysfs.read(directory / name / 'loop/backing_file')
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
        self._call('attach', path, read_only, about=path, deadline=deadline)

    def detach(self, device: str, deadline: deadlines.Deadline) -> bool:
        """Take its file away; True once the kernel has let go of it.

        :raises OSError: it does not
        """

        def gone() -> bool | None:
            return None if device in self.backing_files() else True

        def relevant(event: uevents.Uevent) -> bool:
            return event['DEVPATH'].endswith(f'/{device}')

        try:
            self._call('detach', device, about=device, deadline=deadline)
        except OSError:
            if not gone():
                raise
        return bool(self._uevents.wait_for(gone, relevant, deadline))

    def resize(self, device: str, deadline: deadlines.Deadline) -> None:
        """Have it read the size of its file again.

        :raises OSError: there is no such device
        """
        self._call('resize', device, about=device, deadline=deadline)

    def inode(self, device: str, deadline: deadlines.Deadline) -> int:
        """The inode number of its file.

        :raises OSError: it has none
        """
        return int(
            self._call('inode', device, about=device, deadline=deadline)
        )

    def _call(
        self,
        verb: str,
        *arguments: Any,
        about: str,
        deadline: deadlines.Deadline,
    ) -> Any:
        return self._calls.call(
            getattr(self._privileged, verb),
            *arguments,
            name=f'loop.{verb}',
            about=about,
            deadline=deadline,
        )
