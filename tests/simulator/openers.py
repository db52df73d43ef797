# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who has a file open, as the kernel's list of processes shows it."""

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import os
import pathlib

#: A kernel in user mode: many processes with thousands of files each, all its
#: own. To look at them takes a second.
_LAB = 'linux.uml'


def of(
    nodes: Collection[pathlib.Path],
) -> Iterator[tuple[pathlib.Path, int, str]]:
    """Each of these files that a process (pid, command) except this has open.

    One look at all processes, for all files: they are many on a busy machine.

    :param nodes: need not be there any more
    """
    # deleted: the node is gone, or shows another volume by now
    names = {str(node): node for node in nodes}
    names |= {f'{node} (deleted)': node for node in nodes}
    for pid in filter(str.isdigit, os.listdir('/proc') if names else ()):
        if int(pid) == os.getpid() or _command(pid) == _LAB:
            continue
        for node in {
            names[file] for file in _open_files(pid) if file in names
        }:
            yield node, int(pid), _command(pid)


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
