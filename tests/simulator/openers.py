# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who has a file open, as the kernel's list of processes shows it."""

from collections.abc import Iterator
import contextlib
import os
import pathlib

#: A kernel in user mode: many processes with thousands of files each, all its
#: own. To look at them takes a second.
_LAB = 'linux.uml'


def of(node: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The processes (pid, command), except this one.

    :param node: need not be there any more
    """
    # deleted: the node is gone, or shows another volume by now
    nodes = (str(node), f'{node} (deleted)')
    for pid in filter(str.isdigit, os.listdir('/proc')):
        if int(pid) == os.getpid() or _command(pid) == _LAB:
            continue
        if any(file in nodes for file in _open_files(pid)):
            yield int(pid), _command(pid)


def _open_files(pid: str) -> Iterator[str]:
    directory = f'/proc/{pid}/fd'
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return  # it ended meanwhile
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(f'{directory}/{descriptor}')


def _command(pid: str) -> str:
    try:
        return pathlib.Path(f'/proc/{pid}/comm').read_text().strip()
    except OSError:
        return '?'
