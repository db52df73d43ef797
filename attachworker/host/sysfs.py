# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Reads of what may vanish meanwhile: sysfs, and the like in proc and dev.

Only what the kernel says of a thing that is gone counts as its absence. Any
other error tells nothing of it, and is raised as OSError, with the path that
could not be read.
"""

from collections.abc import Callable
import errno
import os
import pathlib
import stat
from typing import Any
from typing import TypeVar

T = TypeVar('T')

#: There is no such name; what it led through is something else by now; or
#: the device has gone while its attribute was open.
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENODEV))

#: The devices that stand on others, without the thousand disks that there may
#: be below them; relative to the root.
VIRTUAL = 'sys/devices/virtual/block'

#: Text for what there may be a thousand of: pathlib needs as long to make the
#: name of an attribute as the kernel to give its value.
Place = str | os.PathLike[str]


def read(path: Place, *without: int) -> str | None:
    """The attribute's text without the newline; None if it is gone.

    :param without: further error numbers by which the kernel says that this
        attribute has no value
    """
    data = read_bytes(path, *without)
    return None if data is None else data.decode(errors='replace').strip()


def read_bytes(path: Place, *without: int) -> bytes | None:
    """The attribute as it is; see :func:`read`."""
    try:
        with open(path, 'rb', buffering=0) as file:
            return file.readall()
    except OSError as error:
        _unless_gone(error, path, *without)
        return None


def read_int(path: Place, *without: int) -> int | None:
    """The attribute's number; None if it is gone or not a number."""
    text = read(path, *without)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def names(directory: Place) -> list[str]:
    """What a directory holds, sorted; nothing if it is gone."""
    return sorted(_ask(os.listdir, directory) or ())


def nodes(directory: pathlib.Path) -> dict[str, int]:
    """What a directory holds, with its inode number; nothing if it is gone.

    The kernel counts these numbers up: what is known of a name is true of it
    for as long as it has the same one.
    """
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except OSError as error:
        _unless_gone(error, directory)
        return {}


def node(path: pathlib.Path) -> int | None:
    """The inode number of one name, see :func:`nodes`; None if it is gone."""
    status = _ask(os.lstat, path)
    return None if status is None else status.st_ino


def read_dm(device: pathlib.Path, name: str) -> str | None:
    """What device-mapper says of one of its devices; None if it is gone.

    :param device: its directory
    """
    # EINVAL while it is being removed
    return read(device / 'dm' / name, errno.EINVAL)


def exists(path: Place) -> bool:
    """Whether there is something, where a link leads to it."""
    return _ask(os.stat, path) is not None


def instance(directory: Place) -> int | None:
    """What no later device has, under whatever name; None if it is gone.

    :param directory: of the device, or a link to it
    """
    # The kernel counts these numbers up.
    status = _ask(os.stat, directory)
    return None if status is None else status.st_ino


def node_number(path: pathlib.Path) -> str | None:
    """``major:minor`` of a node of a block device; None if it is none."""
    status = _ask(os.stat, path)
    if status is None or not stat.S_ISBLK(status.st_mode):
        return None
    return f'{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}'


def resolved(path: pathlib.Path) -> pathlib.Path | None:
    """Where a path leads, without symbolic links; None if it is gone."""
    found = _ask(_real, path)
    return None if found is None else pathlib.Path(found)


def _real(path: Place) -> str:
    # realpath() of Python asks for each part of the path, this for none.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(f'/proc/self/fd/{descriptor}')
    finally:
        os.close(descriptor)


def _ask(question: Callable[[Any], T], path: Place) -> T | None:
    """The answer to a system call; None if what it is about is gone."""
    try:
        return question(path)
    except OSError as error:
        _unless_gone(error, path)
        return None


def _unless_gone(error: OSError, path: Place, *without: int) -> None:
    """Raise an error that does not mean that there is nothing."""
    if error.errno not in _GONE and error.errno not in without:
        # what fails after it was opened does not tell where
        error.filename = error.filename or str(path)
        raise error
