# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A directory tree whose changes appear at once, as a kernel's do."""

import collections
from collections.abc import Mapping
import itertools
import os
import pathlib
import shutil
import threading

#: Of what was removed, so much is kept aside.
_KEPT = 500


class Link(str):
    """The text of a symbolic link, among the contents of a directory."""


#: Path below a directory -> text, data, Link; None: an empty directory.
Contents = Mapping[str, str | bytes | None]


class Tree:
    """Readers see a change done or not done, never half of it.

    :param root: the tree; all of its names here are relative to it
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._staging = root / 'run/staging'
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._removed: collections.deque[pathlib.Path] = collections.deque()

    def _stage(self) -> pathlib.Path:
        with self._lock:
            return self._staging / str(next(self._numbers))

    def clear(self, *names: str) -> None:
        for name in (*names, 'run/staging'):
            shutil.rmtree(self.root / name, ignore_errors=True)
        self._staging.mkdir(parents=True)

    def place(self, name: str, contents: Contents) -> None:
        """Make a directory appear, full as it is."""
        staged = self._stage()
        staged.mkdir()
        for inner, content in contents.items():
            path = staged / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, Link):
                path.symlink_to(content)
            elif isinstance(content, str):
                path.write_text(content, encoding='utf-8')
            else:
                path.write_bytes(content)
        destination = self.root / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(destination)

    def write(self, name: str, content: str) -> None:
        """Make or replace a file."""
        staged = self._stage()
        staged.write_text(content, encoding='utf-8')
        destination = self.root / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(destination)

    def symlink(self, name: str, to: str) -> None:
        """Make a relative link to another place in the tree."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(self.root / to, path.parent))

    def hardlink(self, name: str, to: pathlib.Path | None) -> None:
        """Make or replace a name of a file; None: of an empty one."""
        staged = self._stage()
        if to is None:
            staged.touch()
        else:
            staged.hardlink_to(to)
        destination = self.root / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(destination)

    def remove(self, name: str) -> None:
        """Take away a file, a link or a whole directory, if it is there.

        It is kept aside for a while: the kernel gives the inode number of a
        node in sysfs to no later one, and most file systems would.
        """
        staged = self._stage()
        try:
            (self.root / name).rename(staged)
        except FileNotFoundError:
            return
        with self._lock:
            self._removed.append(staged)
            if len(self._removed) <= _KEPT:
                return
            oldest = self._removed.popleft()
        if oldest.is_symlink() or not oldest.is_dir():
            oldest.unlink(missing_ok=True)
        else:
            shutil.rmtree(oldest, ignore_errors=True)

    def unlink(self, name: str) -> None:
        """Take away one name of a file that may be open."""
        (self.root / name).unlink(missing_ok=True)
