# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What this host has mounted; no server is asked."""

import errno
import pathlib

from attachworker.host import sysfs
from attachworker.privileged import processes

#: Of the first process: what the host has, and not what the namespace of this
#: process has.
TABLE = 'proc/1/mountinfo'

Mount = processes.Mount


def below(root: pathlib.Path, base: str) -> dict[str, Mount]:
    """What is mounted on each directory in another one, by its name.

    Of several on one directory the last: it covers the others.

    :param base: without a slash at its end
    :raises OSError: nobody knows
    """
    table = sysfs.read(root / TABLE)
    if table is None:
        raise FileNotFoundError(
            errno.ENOENT,
            'the mounts of the first process cannot be seen; is /proc mounted '
            'with hidepid?',
        )
    found = {}
    for one in processes.parsed_mounts(table):
        parent, _, name = one.point.rpartition('/')
        if parent == base:
            found[name] = one
    return found
