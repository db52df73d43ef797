# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the helper removes: it asks this host as it asks a real one."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
from typing import Any

from attachworker.privileged import removals
from tests.simulator import block
from tests.simulator import processes
from tests.simulator import tree as trees

#: There is one process, and one table.
_TABLES = (processes.MOUNTS,)

#: What each verb may make, as it is found in sysfs.
_MADE = {
    'scsi.scan': 'sys/class/scsi_device/*/device',
    'iscsi.login': 'sys/class/iscsi_session/*',
    'nvme.connect': 'sys/class/nvme/nvme*',
    'rbd.add': 'sys/bus/rbd/devices/*',
}
#: What each verb takes away, likewise; what the others take away is proven
#: by its name to have been made here, or not in use.
_TAKEN = {
    'scsi.delete': 'sys/class/scsi_device/{hctl}/device',
    'iscsi.logout': 'sys/class/iscsi_session/session{session_id}',
    'nvme.delete': 'sys/class/nvme/{controller}',
    'rbd.remove': 'sys/bus/rbd/devices/{number}',
    'multipath.remove_path': 'sys/class/block/{disk}/device',
    'multipath.set_queueing': 'sys/class/block/{map_name}/slaves/*/device',
}


class Removals:
    """Has the verbs of ``removals``."""

    def __init__(
        self,
        tree: trees.Tree,
        blocks: block.Block,
        uses: processes.Processes,
    ) -> None:
        root = self._root = tree.root
        self._block = blocks
        self._processes = uses
        #: As attachworker.privileged.made has them.
        self.made: set[int] = set()
        #: The block devices that go with what each verb takes away.
        self._devices: dict[str, Callable[[dict[str, Any]], list[str]]] = {
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
            'encryption.add_key': lambda given: [given['device']],
            'encryption.remove_key': lambda given: [given['device']],
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
        if verb in self._devices:
            devices = self._devices[verb](arguments)
            removals.check_own(devices, self._root, _TABLES)
            if verb in _TAKEN:
                self._check_others(_TAKEN[verb].format(**arguments), devices)
        elif verb == 'encryption.close':
            self._check_mapped('name', arguments['name'])
        elif verb == 'multipath.forget':
            self._check_mapped('uuid', f'mpath-{arguments["wwid"]}')

    def _check_others(self, place: str, devices: list[str]) -> None:
        taken = set(self._instances(place))
        if not taken or taken & self.made:
            return
        for device, user in removals.users(
            devices,
            self._root,
            self._block.claimed,
            self._processes.users,
        ):
            raise PermissionError(
                errno.EPERM,
                f'{device} was not made by attachworker, and {user} uses it',
            )

    @contextlib.contextmanager
    def noted(self, verb: str) -> Iterator[None]:
        """Write down what a verb makes meanwhile."""
        if verb not in _MADE:
            yield
            return
        before = set(self._instances(_MADE[verb]))
        try:
            yield
        finally:
            self.made.update(set(self._instances(_MADE[verb])) - before)

    def _instances(self, pattern: str) -> Iterator[int]:
        for path in self._root.glob(pattern):
            # it may be gone meanwhile
            with contextlib.suppress(FileNotFoundError):
                yield path.stat().st_ino

    def _check_mapped(self, attribute: str, value: str) -> None:
        removals.check_mapped(attribute, value, self._root, _TABLES)
