# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: controllers and namespaces, from sysfs."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import errno
import re

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors.nvmeof import exclusions
from attachworker.connectors.nvmeof import host_identity
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import system

LOG = logging.getLogger(__name__)

#: The state of a controller that takes I/O.
LIVE = 'live'

_EXCLUSIONS = 'etc/nvme/exclusions.conf'
_IDENTIFY_LENGTH = 4096
_PAGE_NAMESPACE = 0x00
_PAGE_DESCRIPTORS = 0x03

# With native multipath a controller has paths (nvme0c3n1) of a namespace whose
# block device (nvme0n1) belongs to the subsystem.
_PATH = re.compile(r'(nvme[0-9]+)(?:c[0-9]+)?(n[0-9]+)')

#: Kinds of identifier, by their number in the descriptors; the best one first.
_KINDS = {3: 'uuid', 2: 'nguid', 1: 'eui'}
#: How long each is; bytes.
_LENGTHS = {'uuid': 16, 'nguid': 16, 'eui': 8}
#: Powers of two of the blocks that a namespace may have: the specification
#: has none below 512 bytes, and Linux none that do not fit into its memory.
_SHIFTS = range(9, 32)
#: What the kernel can count; bytes.
_LARGEST = 2**63 - 1
#: Where the page of the namespace itself has two of them.
_IN_NAMESPACE = {'nguid': slice(104, 120), 'eui': slice(120, 128)}


@dataclasses.dataclass(frozen=True)
class Controller:
    """A connection of this host to a subsystem.

    :ivar name: kernel name, ``nvme3``; the kernel gives it to a later one
    :ivar nqn: of the subsystem
    :ivar portal: ``address:port``
    :ivar state: as the kernel says
    :ivar number: what no later controller has
    :ivar host: what this host is called there; None: the kernel does not say
    """

    name: str
    nqn: str
    portal: str
    state: str
    number: int
    host: host_identity.HostIdentity | None = None


@dataclasses.dataclass(frozen=True)
class Namespace:
    """A namespace as one controller shows it.

    :ivar disk: kernel name of its block device
    :ivar access: ANA state of the path, as the kernel says; None: it has none
    :ivar identifiers: as the kernel has read them once, ``uuid.…``,
        ``nguid.…`` or ``eui.…`` and 32 or 16 digits, the best one first;
        of a namespace that has none, what the kernel calls it instead
    """

    disk: str
    nsid: int
    identifiers: tuple[str, ...]
    access: str | None = None


class Fabrics(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._known = known.Known(
            self._root / 'sys/class/nvme', 'nvme', self._read
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
        """The name of this host; None: it has none that lasts."""
        lasting = self._lasting()
        return None if lasting is None else lasting.nqn

    def own_identity(
        self, deadline: deadlines.Deadline
    ) -> host_identity.HostIdentity:
        """The names of this host, which is given what it lacks of them.

        Where they cannot be written, they are the same at each start all the
        same, as far as the machine has anything that makes it so.

        :raises OSError: they cannot be read; or cannot be written, and would
            be other ones next time
        :raises HostToolFailed: what is there cannot be used
        """
        lasting = self._lasting()
        if lasting is not None and None not in self.stored_identity():
            return lasting
        made = lasting or host_identity.new()
        try:
            self._call(
                'nvme.create_host_identity',
                deadline,
                made.nqn,
                made.id,
                about='/etc/nvme',
            )
        except OSError as error:
            if lasting is None:
                raise
            LOG.warning(
                'The names of this host for NVMe, %s and %s, cannot be '
                'written to /etc/nvme (%s). They are the same at each start '
                'all the same; write them to hostnqn and hostid there, so '
                'that other programs connect by them.',
                lasting.nqn,
                lasting.id,
                error,
            )
            return lasting
        # Somebody else may have been first.
        return self._lasting() or made

    def _lasting(self) -> host_identity.HostIdentity | None:
        """What this host is called at each start."""
        nqn, host_id = self.stored_identity()
        machine = None
        if nqn is None or host_id is None:
            machine = host_identity.of_machine(
                system.read(self._root, 'system uuid'),
                self._first_line('machine id'),
            )
        try:
            return host_identity.complete(nqn, host_id, machine)
        except ValueError as error:
            raise exception.HostToolFailed(
                what='Reading /etc/nvme/hostid',
                reason=f'{error}; write one there, or remove the file',
            ) from error

    def stored_identity(self) -> tuple[str | None, str | None]:
        """What /etc/nvme has of Host NQN and Host Identifier, as it is."""
        return self._first_line('nqn'), self._first_line('nvme_hostid')

    def _first_line(self, name: str) -> str | None:
        text = system.read(self._root, name)
        return text.splitlines()[0].strip() if text else None

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
        for name, fact in sorted(self._known.all().items()):
            if wanted(fact.nqn, fact.portal):
                path = self._root / 'sys/class/nvme' / name / 'state'
                state = sysfs.read(path)
                if state:
                    found.append(dataclasses.replace(fact, state=state))
        return found

    def _read(self, name: str) -> Controller | None:
        """What stays of a controller; None if it does not have all (yet)."""
        directory = self._root / 'sys/class/nvme' / name
        number = sysfs.instance(directory)
        portal = _portal(sysfs.read(directory / 'address') or '')
        nqn = sysfs.read(directory / 'subsysnqn')
        host_nqn = sysfs.read(directory / 'hostnqn')
        host_id = sysfs.read(directory / 'hostid')
        # Meanwhile it may have gone, and another one have its name.
        if not (nqn and portal and number == sysfs.instance(directory)):
            return None
        assert number is not None
        host = None
        if host_nqn and host_id:
            host = host_identity.HostIdentity(host_nqn, host_id.lower())
        return Controller(name, nqn, portal, '', number, host)

    def excluded(self, options: Mapping[str, str]) -> str | None:
        """Where the operator has excluded a connection; None: nowhere.

        :raises OSError: nobody knows
        """
        main = self._root / _EXCLUSIONS
        more = main.with_name(f'{main.name}.d')
        lists = [more / name for name in sysfs.names(more)]
        for path in (main, *(one for one in lists if one.suffix == '.conf')):
            entry = exclusions.match(sysfs.read(path) or '', options)
            if entry is not None:
                return f'"{entry}" in /{path.relative_to(self._root)}'
        return None

    def register(
        self, controller: Controller, made: bool, deadline: deadlines.Deadline
    ) -> None:
        """Have other programs on the host know a controller as ours.

        :param made: whether we have just made it: what is there is older
        """
        entry = self._root / 'run/nvme/registry' / controller.name
        if not made and sysfs.exists(entry / 'owner'):
            return
        try:
            self._call(
                'nvme.register', deadline, controller.name, controller.number
            )
        except OSError as error:
            LOG.warning(
                '%s is not in the registry of nvme-cli (%s): nvme '
                'disconnect-all would end it',
                controller.name,
                error,
            )

    def wait_until_live(
        self,
        look_for: Callable[[], list[Controller]],
        deadline: deadlines.Deadline,
    ) -> Controller | None:
        """A controller once it takes I/O; None if the deadline passed.

        :param look_for: those of which one is wanted
        """

        def look() -> Controller | None:
            for one in look_for():
                if one.state == LIVE:
                    return one
            return None

        return self._wait(look, '/nvme', deadline)

    def delete(
        self, controller: Controller, about: str, deadline: deadlines.Deadline
    ) -> bool:
        """End a controller; True once the kernel no longer has it.

        :raises OSError: it does not
        """
        directory = self._root / 'sys/class/nvme' / controller.name
        return self._remove(
            'nvme.delete',
            controller.name,
            lambda: sysfs.instance(directory) != controller.number,
            deadline,
            controller.number,
            about=about,
        )

    def rescan(
        self, controller: Controller, deadline: deadlines.Deadline
    ) -> None:
        """Have the kernel ask for the namespaces again; it does so soon.

        :raises OSError: there is no such controller
        """
        self._call('nvme.rescan', deadline, controller.name, controller.number)

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
            identifiers = _given(
                {
                    kind: _digits(sysfs.read(directory / name / kind) or '')
                    for kind in _KINDS.values()
                }
            )
            if not identifiers:
                # of the serial number of the subsystem, and the NSID
                wwid = sysfs.read(directory / name / 'wwid')
                identifiers = (wwid,) if wwid else ()
            access = sysfs.read(directory / name / 'ana_state')
            disk = match[1] + match[2]
            found.append(Namespace(disk, nsid, identifiers, access))
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

    def _identify(
        self,
        controller: Controller,
        nsid: int,
        page: int,
        deadline: deadlines.Deadline,
    ) -> bytes:
        """:raises OSError: it does not answer"""
        answer: bytes = self._call(
            'nvme.identify',
            deadline,
            controller.name,
            controller.number,
            nsid,
            page,
        )
        return answer

    def identifiers(
        self, controller: Controller, nsid: int, deadline: deadlines.Deadline
    ) -> tuple[str, ...]:
        """What a namespace says it is now, the best identifier first.

        A controller of NVMe 1.2 or older has no list of identifiers, and one
        of 1.0 none at all: then it is what the kernel has seen it as.

        :raises OSError: it does not answer
        """
        try:
            page = self._identify(
                controller, nsid, _PAGE_DESCRIPTORS, deadline
            )
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            page = b''
        if found := described(page):
            return found
        page = self._identify(controller, nsid, _PAGE_NAMESPACE, deadline)
        values = {
            kind: page[place].hex() for kind, place in _IN_NAMESPACE.items()
        }
        if found := _given(values):
            return found
        return next(
            (
                one.identifiers
                for one in self.namespaces(controller.name)
                if one.nsid == nsid
            ),
            (),
        )

    def size(
        self, controller: Controller, nsid: int, deadline: deadlines.Deadline
    ) -> int:
        """Bytes of a namespace, as the controller says now.

        :raises OSError: it does not answer
        """
        return size_in(
            self._identify(controller, nsid, _PAGE_NAMESPACE, deadline)
        )


def _portal(address: str) -> str | None:
    """``address:port`` of the kernel's ``traddr=…,trsvcid=…,…``."""
    values = dict(
        part.split('=', 1) for part in address.split(',') if '=' in part
    )
    host, port = values.get('traddr'), values.get('trsvcid')
    if not host or not port:
        return None
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def size_in(page: bytes) -> int:
    """Bytes of a namespace, as its page of Identify data says.

    :raises OSError: EPROTO: no device has such a size
    """
    page = page.ljust(_IDENTIFY_LENGTH, b'\0')
    blocks = int.from_bytes(page[0:8], 'little')
    # the format in use: its third byte is the power of two of a block
    shift = page[128 + 4 * (page[26] & 0xF) + 2]
    if shift not in _SHIFTS or blocks << shift > _LARGEST:
        raise OSError(
            errno.EPROTO,
            f'the storage says {blocks} blocks of 2**{shift} bytes, and no '
            'device has such a size',
        )
    return blocks << shift


def described(page: bytes) -> tuple[str, ...]:
    """The identifiers in a list of descriptors.

    The list ends, as to the kernel, at one that has not the length of its
    kind: a part of an identifier may be like that of another volume.
    """
    values: dict[str, str] = {}
    position = 0
    while position + 4 < len(page) and page[position + 1]:
        kind, length = page[position], page[position + 1]
        value = page[position + 4 : position + 4 + length]
        if kind in _KINDS:
            if len(value) != _LENGTHS[_KINDS[kind]] or len(value) != length:
                break
            values[_KINDS[kind]] = value.hex()
        position += 4 + length
    return _given(values)


def _given(values: dict[str, str]) -> tuple[str, ...]:
    """The identifiers that are set, by their kinds, the best one first."""
    return tuple(
        f'{kind}.{values[kind]}'
        for kind in _KINDS.values()
        if values.get(kind, '').strip('0')
    )


def _digits(text: str) -> str:
    """An identifier in sysfs, as digits."""
    return text.replace('-', '').replace(' ', '').lower()
