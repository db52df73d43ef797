# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: controllers and namespaces, from sysfs."""

from collections.abc import Callable
import dataclasses
import re

from attachworker import deadline as deadlines
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import system

#: The state of a controller that takes I/O.
LIVE = 'live'

_PAGE_NAMESPACE = 0x00
_PAGE_DESCRIPTORS = 0x03

# With native multipath a controller has paths (nvme0c3n1) of a namespace whose
# block device (nvme0n1) belongs to the subsystem.
_PATH = re.compile(r'(nvme\d+)(?:c\d+)?(n\d+)')

#: Kinds of identifier, by their number in the descriptors; the best one first.
_KINDS = {3: 'uuid', 2: 'nguid', 1: 'eui'}


@dataclasses.dataclass(frozen=True)
class Controller:
    """A connection of this host to a subsystem.

    :ivar name: kernel name, ``nvme3``
    :ivar nqn: of the subsystem
    :ivar portal: ``address:port``
    :ivar state: as the kernel says
    """

    name: str
    nqn: str
    portal: str
    state: str

    @property
    def number(self) -> int:
        return int(self.name.removeprefix('nvme'))


@dataclasses.dataclass(frozen=True)
class Namespace:
    """A namespace as one controller shows it.

    :ivar disk: kernel name of its block device
    :ivar identifiers: as the kernel has read them once, ``uuid.…``,
        ``nguid.…`` or ``eui.…`` and 32 or 16 digits, the best one first
    """

    disk: str
    nsid: int
    identifiers: tuple[str, ...]


class Fabrics(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._known = known.Known(
            self._root / 'sys/class/nvme', 'nvme', self._place_of
        )

    # -- the host

    def available(self) -> bool:
        """Whether the kernel has its interface for fabrics."""
        return sysfs.exists(self._root / 'dev/nvme-fabrics')

    def native_multipath(self) -> bool:
        """Whether the kernel puts the paths of a namespace together."""
        path = self._root / 'sys/module/nvme_core/parameters/multipath'
        return sysfs.read(path) == 'Y'

    def host_nqn(self) -> str | None:
        """The name of this host."""
        return system.read(self._root, 'nqn')

    def host_id(self) -> str | None:
        return system.read(self._root, 'nvme_hostid')

    def create_host_identity(self) -> None:
        """Give this host a name, if it has none.

        :raises OSError: it cannot be written
        """
        self._machine.privileged.nvme.create_host_identity()

    # -- controllers

    def controllers(self) -> list[Controller]:
        """All that are connected through fabrics, whoever made them."""
        return self._controllers(lambda nqn, portal: True)

    def at(self, nqn: str, portal: str) -> list[Controller]:
        """The controllers of a subsystem at a portal."""
        return self._controllers(lambda *place: place == (nqn, portal))

    def _controllers(
        self, wanted: Callable[[str, str], bool]
    ) -> list[Controller]:
        found = []
        for name, place in sorted(self._known.all().items()):
            if wanted(*place):
                path = self._root / 'sys/class/nvme' / name / 'state'
                state = sysfs.read(path)
                if state:
                    found.append(Controller(name, *place, state))
        return found

    def _place_of(self, controller: str) -> tuple[str, str] | None:
        """NQN and portal; None if it does not have both (yet)."""
        directory = self._root / 'sys/class/nvme' / controller
        portal = _portal(sysfs.read(directory / 'address') or '')
        nqn = sysfs.read(directory / 'subsysnqn')
        return (nqn, portal) if nqn and portal else None

    def connect(
        self, options: dict[str, str], about: str, deadline: deadlines.Deadline
    ) -> None:
        """Have the kernel make a controller.

        :raises OSError: why it cannot
        """
        self._call('nvme.connect', deadline, options, about=about)

    def wait_until_live(
        self, nqn: str, portal: str, deadline: deadlines.Deadline
    ) -> Controller | None:
        """The controller once it takes I/O; None if the deadline passed."""

        def look() -> Controller | None:
            for one in self.at(nqn, portal):
                if one.state == LIVE:
                    return one
            return None

        return self._wait(look, '/nvme', deadline)

    def delete(
        self, controller: str, about: str, deadline: deadlines.Deadline
    ) -> bool:
        """End a controller; True once the kernel no longer has it.

        :raises OSError: it does not
        """
        directory = self._root / 'sys/class/nvme' / controller
        return self._remove(
            'nvme.delete',
            controller,
            lambda: not sysfs.exists(directory),
            deadline,
            about,
        )

    def rescan(self, controller: str, deadline: deadlines.Deadline) -> None:
        """Have the kernel ask for the namespaces again; it does so soon.

        :raises OSError: there is no such controller
        """
        self._call('nvme.rescan', deadline, controller)

    # -- namespaces

    def namespaces(self, controller: str) -> list[Namespace]:
        """What the kernel has of a controller's namespaces."""
        directory = self._root / 'sys/class/nvme' / controller
        found = []
        for name in sorted(sysfs.names(directory)):
            match = _PATH.fullmatch(name)
            if match is None:
                continue
            nsid = sysfs.read_int(directory / name / 'nsid')
            if nsid is None:
                continue
            values = {
                kind: _digits(sysfs.read(directory / name / kind) or '')
                for kind in _KINDS.values()
            }
            identifiers = [
                f'{kind}.{values[kind]}' for kind in values if values[kind]
            ]
            found.append(
                Namespace(match[1] + match[2], nsid, tuple(identifiers))
            )
        return found

    def wait_for_namespace(
        self,
        controller: str,
        wanted: Callable[[Namespace], bool],
        deadline: deadlines.Deadline,
    ) -> Namespace | None:
        """A namespace once it has a block device with a node in /dev."""

        def look() -> Namespace | None:
            for one in self.namespaces(controller):
                node = self._root / 'dev' / one.disk
                if wanted(one) and sysfs.exists(node):
                    return one
            return None

        return self._wait(look, '/nvme', deadline)

    def identifiers(
        self, controller: str, nsid: int, deadline: deadlines.Deadline
    ) -> tuple[str, ...]:
        """What a namespace says it is now, the best identifier first.

        :raises OSError: it does not answer
        """
        page: bytes = self._call(
            'nvme.identify', deadline, controller, nsid, _PAGE_DESCRIPTORS
        )
        found: dict[int, str] = {}
        while len(page) > 4 and page[1]:
            kind, length = page[0], page[1]
            value = page[4 : 4 + length].hex()
            if kind in _KINDS and value.strip('0'):
                found[kind] = f'{_KINDS[kind]}.{value}'
            page = page[4 + length :]
        return tuple(found[kind] for kind in _KINDS if kind in found)

    def size(
        self, controller: str, nsid: int, deadline: deadlines.Deadline
    ) -> int:
        """Bytes of a namespace, as the controller says now.

        :raises OSError: it does not answer
        """
        page: bytes = self._call(
            'nvme.identify', deadline, controller, nsid, _PAGE_NAMESPACE
        )
        blocks = int.from_bytes(page[0:8], 'little')
        # the format in use: its third byte is the power of two of a block
        shift = page[128 + 4 * (page[26] & 0xF) + 2]
        return blocks << shift


def _portal(address: str) -> str | None:
    """``address:port`` of the kernel's ``traddr=…,trsvcid=…,…``."""
    values = dict(
        part.split('=', 1) for part in address.split(',') if '=' in part
    )
    host, port = values.get('traddr'), values.get('trsvcid')
    if not host or not port:
        return None
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def _digits(text: str) -> str:
    """An identifier in sysfs, as digits; empty if it has none."""
    digits = text.replace('-', '').replace(' ', '').lower()
    return digits if digits.strip('0') else ''
