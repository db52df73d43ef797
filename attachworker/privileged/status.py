# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a file is, asked from its server or not: statx(2).

stat(2) asks the server of a file on NFS if what the kernel knows is old, and
waits for one that is dead.
"""

import ctypes
import os

# linux/fcntl.h, linux/stat.h
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
#: Tell of a link, and not of what it leads to.
NO_FOLLOW = 0x100
#: Ask the server whatever the kernel knows.
FRESH = 0x2000
#: Ask nobody: what the kernel has in memory will do.
CACHED = 0x4000
_STATX_BASIC_STATS = 0x7FF

_libc = ctypes.CDLL(None, use_errno=True)


class Status(ctypes.Structure):
    """struct statx, as far as it matters here."""

    _fields_ = (
        ('before', ctypes.c_uint8 * 28),
        ('mode', ctypes.c_uint16),
        ('between', ctypes.c_uint16),
        ('ino', ctypes.c_uint64),
        ('size', ctypes.c_uint64),
        ('times', ctypes.c_uint8 * 80),
        ('rdev_major', ctypes.c_uint32),
        ('rdev_minor', ctypes.c_uint32),
        ('dev_major', ctypes.c_uint32),
        ('dev_minor', ctypes.c_uint32),
        ('after', ctypes.c_uint8 * 112),
    )


def read(
    path: str, found: Status, how: int, directory: int = _AT_FDCWD
) -> None:
    """Have a status say what something is.

    :param how: FRESH or CACHED, and NO_FOLLOW
    :param directory: descriptor of that in which the path begins
    """
    if _libc.statx(
        directory,
        path.encode(),
        how,
        _STATX_BASIC_STATS,
        ctypes.byref(found),
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)


def of(descriptor: int, how: int) -> Status:
    """The status of what is open."""
    found = Status()
    read('', found, how | _AT_EMPTY_PATH, descriptor)
    return found
