# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Mounts that one thread sees, and those that the whole host sees."""

from collections.abc import Callable
import concurrent.futures
import ctypes
import os
from typing import TypeVar

T = TypeVar('T')

_CLONE_FS = 0x00000200
_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_AT_FDCWD = -100
# linux/mount.h; these calls have the same number on all architectures, and
# the C library of Debian 12 has names for them that others lack
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
#: The namespace of the first process: that of the host, whatever that of this
#: process is (PrivateMounts of systemd).
_HOST = '/proc/1/ns/mnt'

_libc = ctypes.CDLL(None, use_errno=True)


def in_own_thread(body: Callable[[], T]) -> T:
    """Call something in a thread that ends then, with its namespace."""
    with concurrent.futures.ThreadPoolExecutor(1, 'namespace') as own:
        return own.submit(body).result()


def enter_private() -> None:
    """Give the calling thread, and it alone, a namespace of mounts.

    What the host mounts, or takes away, is seen there; what is mounted there
    is gone with the thread and what it has started.

    :raises OSError: the kernel does not
    """
    _check(_libc.unshare(_CLONE_NEWNS), 'unshare')
    _mount('none', '/', None, _MS_REC | _MS_SLAVE, None)


def enter_host() -> None:
    """Have the calling thread, and it alone, see and make the host's mounts.

    :raises OSError: it may not
    """
    descriptor = os.open(_HOST, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # the kernel wants that first: the directories of this thread change
        _check(_libc.unshare(_CLONE_FS), 'unshare')
        _check(_libc.setns(descriptor, _CLONE_NEWNS), 'setns')
    finally:
        os.close(descriptor)


def cover(directory: str, options: str) -> None:
    """Mount an empty file system in memory over a directory."""
    _mount('attachworker', directory, 'tmpfs', 0, options)


def taken(directory: str) -> int:
    """A descriptor of a copy of what is mounted on a directory.

    It is mounted nowhere, and gone once the descriptor is closed.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    found = _libc.syscall(_OPEN_TREE, _AT_FDCWD, directory.encode(), flags)
    _check(min(found, 0), f'open_tree {directory}')
    return int(found)


def put(tree: int, place: int) -> None:
    """Mount what was taken.

    :param place: descriptor of the directory
    """
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    moved = _libc.syscall(_MOVE_MOUNT, tree, b'', place, b'', flags)
    _check(moved, 'move_mount')


def unmount(name: str, lazy: bool) -> None:
    """Take away what is mounted on a directory in the current one.

    :param lazy: also if somebody uses it, who goes on with it
    :raises OSError: EBUSY: somebody uses it
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    _check(_libc.umount2(name.encode(), flags), f'umount {name}')


def sync(descriptor: int) -> None:
    """Write all of the file system that something open is on."""
    _check(_libc.syncfs(descriptor), 'syncfs')


def _mount(
    source: str, target: str, kind: str | None, flags: int, data: str | None
) -> None:
    encoded = [
        None if text is None else text.encode()
        for text in (source, target, kind, data)
    ]
    _check(
        _libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]),
        f'mount on {target}',
    )


def _check(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f'{os.strerror(number)}: {what}')
