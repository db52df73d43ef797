# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the helper never removes: it asks this host as it asks a real one."""

from collections.abc import Callable
from typing import Any

from attachworker.privileged import removals
from tests.simulator import processes
from tests.simulator import tree as trees

#: There is one process, and one table.
_TABLES = (processes.MOUNTS,)


class Removals:
    """Has the verbs of ``removals``."""

    def __init__(self, tree: trees.Tree) -> None:
        root = self._root = tree.root
        #: The block devices that go with what each verb takes away.
        self._taken: dict[str, Callable[[dict[str, Any]], list[str]]] = {
            'scsi.delete': lambda given: removals.of_scsi_device(
                given['hctl'], root
            ),
            'iscsi.logout': lambda given: removals.of_session(
                given['session_id'], root
            ),
            'nvme.delete': lambda given: removals.of_controller(
                given['controller'], root
            ),
            'rbd.remove': lambda given: [f'rbd{given["number"]}'],
            'loop.detach': lambda given: [given['device']],
            'multipath.remove_path': lambda given: [given['disk']],
            'multipath.remove_map': lambda given: [given['map_name']],
            'multipath.set_queueing': lambda given: (
                [] if given['queue'] else [given['map_name']]
            ),
        }

    def carried(self, devices: list[str]) -> dict[str, list[str]]:
        return removals.find(devices, self._root, _TABLES)

    def check(self, verb: str, arguments: dict[str, Any]) -> None:
        """Refuse a verb, as it does itself on a real host."""
        if verb in self._taken:
            devices = self._taken[verb](arguments)
            removals.check(devices, self._root, _TABLES)
        elif verb == 'encryption.close':
            self._check_mapped('name', arguments['name'])
        elif verb == 'multipath.forget':
            self._check_mapped('uuid', f'mpath-{arguments["wwid"]}')

    def _check_mapped(self, attribute: str, value: str) -> None:
        removals.check_mapped(attribute, value, self._root, _TABLES)
