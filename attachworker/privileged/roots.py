# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The files of this host that may become devices: those below ``local_roots``.

Which directories these are the helper reads by itself, from the configuration
that it was started with: a worker that was taken over cannot add any. What is
checked is what is open, since a name may lead elsewhere a moment later.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import re
import stat

from oslo_config import cfg

from attachworker.conf import local

cfg.CONF.register_opts([local.ROOTS], group=local.GROUP)

#: A place in the tree of directories: nothing is done with what is there.
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSOLUTE = re.compile(r'/[^/\0][^\0]*\Z')
_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """A descriptor of a file that is below one of the roots.

    It is the file that was found below the root, whoever renames a directory
    on the way, or puts a link in its place, meanwhile.

    :param path: absolute, without a symbolic link in it
    :raises ValueError: it is no such path, or that of no regular file
    :raises PermissionError: it may not be used; says why, and what to do
    :raises OSError: it cannot be opened
    """
    if os.path.normpath(path) != path or not _ABSOLUTE.match(path):
        raise ValueError('not the real path of a file')
    root = _root_of(path)
    with (
        found(root, os.O_DIRECTORY) as top,
        found(os.path.relpath(path, root), 0, top) as file,
    ):
        if os.fstat(top).st_mode & _MAY_WRITE:
            raise PermissionError(
                errno.EPERM,
                f'others than its owner may write to {root}, one of the '
                'local_roots, and so choose what is attached: chmod go-w it',
            )
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('not a regular file')
        if status.st_nlink > 1:
            raise PermissionError(
                errno.EPERM,
                f'{path} has another name (a hard link), which may be outside '
                'of the local_roots: copy the file',
            )
        # Only now: to open anything but a file may be an act. This is no way
        # to another file, since the one that was checked is open.
        descriptor = os.open(f'/proc/self/fd/{file}', flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _root_of(path: str) -> str:
    """The root that a path is below, the nearest one."""
    named: list[str] = cfg.CONF[local.GROUP].local_roots
    roots = {os.path.normpath(root) for root in named}
    found = [root for root in roots if path.startswith(root.rstrip('/') + '/')]
    if found:
        return max(found, key=len)
    if roots:
        names = ', '.join(sorted(roots))
        reason = f'{path} is below none of the local_roots, {names}'
    else:
        reason = (
            'the privileged helper knows of no local_roots: if there is a '
            'helper_command, give it the --config-file of the worker'
        )
    raise PermissionError(errno.EPERM, reason)


@contextlib.contextmanager
def found(
    path: str, flags: int, directory: int | None = None
) -> Iterator[int]:
    """What is at a path, absolute or below a directory.

    Each name is looked up in the directory that was opened before it, and none
    is a link, so the way leads nowhere else, whatever is renamed meanwhile.
    openat2(2) does the same in one call (RESOLVE_BENEATH and
    RESOLVE_NO_SYMLINKS), but systemd takes it away from units that have
    RestrictSUIDSGID, as ours has: it cannot look into its arguments.

    :raises PermissionError: there is a link on the way
    """
    *parents, last = path.strip('/').split('/')
    start = '/' if directory is None else '.'
    place = os.open(start, _PLACE, dir_fd=directory)
    try:
        for name in parents:
            place = _step(place, name, os.O_DIRECTORY)
        if last:
            place = _step(place, last, flags)
        yield place
    finally:
        os.close(place)


def _step(place: int, name: str, flags: int) -> int:
    """What has a name in a directory, which is closed."""
    try:
        following = os.open(name, _PLACE | flags, dir_fd=place)
    except NotADirectoryError as error:
        raise _not_followed(name) from error
    if stat.S_ISLNK(os.fstat(following).st_mode):
        os.close(following)
        raise _not_followed(name)
    os.close(place)
    return following


def _not_followed(name: str) -> PermissionError:
    return PermissionError(
        errno.EPERM,
        f'{name} is a symbolic link, or no directory: name what it leads to',
    )
