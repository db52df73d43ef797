# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Who has a file open, as the kernel's list of processes shows it."""

from collections.abc import Iterator
import contextlib
import os
import pathlib


def of(node: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The processes (pid, command), except this one.

    :param node: need not be there any more
    """
    # deleted: the node is gone, or shows another volume by now
    nodes = (str(node), f'{node} (deleted)')
    for process in pathlib.Path('/proc').iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        if any(file in nodes for file in _open_files(process)):
            yield int(process.name), _command(process)


def _open_files(process: pathlib.Path) -> Iterator[str]:
    try:
        descriptors = list((process / 'fd').iterdir())
    except OSError:
        return  # it ended meanwhile
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(descriptor)


def _command(process: pathlib.Path) -> str:
    try:
        return (process / 'comm').read_text().strip()
    except OSError:
        return '?'
