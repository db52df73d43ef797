# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs of ``processes``: what they have open, and have mounted.

Open are the nodes of the simulated host, to the real processes of this
machine. Mounts are lines that a test has written.
"""

from collections.abc import Iterator
import pathlib

from tests.simulator import openers
from tests.simulator import tree as trees

#: Of the first process; the tables of others are below ``proc`` too.
MOUNTS = 'proc/self/mountinfo'

Use = tuple[str, int, str, str]


def of(root: pathlib.Path) -> Iterator[tuple[int, str, str, str]]:
    """Process, number of the device, mount point and source of all mounts."""
    tables = [(1, root / MOUNTS)] + [
        (int(path.parent.name), path)
        for path in sorted(root.glob('proc/[0-9]*/mountinfo'))
        # which has shares alone
        if path.parent.name != '1'
    ]
    for pid, path in tables:
        for line in path.read_text().splitlines():
            fields = line.split(' ')
            source = fields[fields.index('-') + 2]
            yield pid, fields[2], fields[4], source


class Processes:
    """Its methods are the verbs.

    :ivar hidden: those whose files nobody may look at: pid, command
    """

    def __init__(self, tree: trees.Tree) -> None:
        self._tree = tree
        self.hidden: list[tuple[int, str]] = []

    def users(
        self, devices: dict[str, list[str]]
    ) -> tuple[list[Use], list[tuple[int, str]]]:
        root = self._tree.root
        nodes = {
            root / paths[0].lstrip('/'): number
            for number, paths in devices.items()
        }
        named = {
            path: number for number, paths in devices.items() for path in paths
        }
        uses: list[Use] = []
        for pid, number, point, source in of(root):
            found = number if number in devices else named.get(source)
            if found is not None:
                command = 'systemd' if pid == 1 else 'container'
                uses.append((found, pid, command, point))
        for node, pid, command in openers.of(nodes):
            uses.append((nodes[node], pid, command, ''))
        return uses, self.hidden
