# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Loop devices: a file as a block device."""

import errno
import os
import stat

from attachworker import privileged
from attachworker.privileged import names
from attachworker.privileged import tools

_device = names.rule(r'loop\d{1,7}', 'the kernel name of a loop device')
_TIMEOUT = 30.0


def _run(*arguments: str) -> str:
    """What losetup prints.

    :raises OSError: it failed
    """
    code, output, errors = tools.run('losetup', *arguments, timeout=_TIMEOUT)
    if code:
        raise OSError(errno.EIO, errors or 'losetup failed')
    return output


def _node(device: str) -> str:
    return f'/dev/{_device(device)}'


@privileged.default.entrypoint
def attach(path: str, read_only: bool) -> None:
    """Make a loop device for a file.

    :param path: absolute, without a symbolic link in it
    :raises OSError: it cannot be made
    """
    if not path.startswith('/') or os.path.realpath(path) != path:
        raise ValueError('not the real path of a file')
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError('not a regular file')
    how = ['--read-only'] if read_only else []
    _run('--find', '--nooverlap', *how, path)


@privileged.default.entrypoint
def detach(device: str) -> None:
    """Take a loop device's file away, once nobody has it open.

    :raises OSError: it has none, or keeps it
    """
    _run('--detach', _node(device))


@privileged.default.entrypoint
def resize(device: str) -> None:
    """Have a loop device read the size of its file again.

    :raises OSError: there is no such device
    """
    _run('--set-capacity', _node(device))


@privileged.default.entrypoint
def inode(device: str) -> int:
    """The inode number of a loop device's file.

    :raises OSError: it has none
    """
    what = ('--list', '--noheadings', '--raw', '--output', 'BACK-INO')
    found = _run(*what, _node(device))
    if not found.isdigit():
        raise FileNotFoundError(errno.ENOENT, f'{device} has no file')
    return int(found)
