# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What a connector is: how volumes of one protocol come to this host."""

import abc
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import enum
import errno
import threading
from typing import Any
from typing import Protocol

from oslo_config import cfg
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as host_layer
from attachworker import objects
from attachworker.host import block
from attachworker.host import locks
from attachworker.host import network
from attachworker.host import uevents
from attachworker.host import verbs
from attachworker.journal import holdings as journal
from attachworker.objects import rules

LOG = logging.getLogger(__name__)

#: One way to a volume: portal, name and LUN; its text identifies it.
Target = objects.Target
Holdings = journal.Holdings


@dataclasses.dataclass(frozen=True)
class Path:
    """A target that is connected.

    :ivar disk: kernel name of its block device, for example ``sda``
    :ivar address: where the kernel keeps it; for SCSI host:channel:target:LUN
    :ivar wwn: the volume's identifier, as the kernel has read it once; None
        if it has not
    :ivar lasting: it is there whether the volume is attached or not
    """

    target: Target
    disk: str
    address: str
    wwn: str | None = dataclasses.field(default=None, compare=False)
    lasting: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass(frozen=True)
class PathOutcome:
    """How the attempt to connect one target went.

    Neither path nor error: it is still going on.
    """

    target: Target
    path: Path | None = None
    error: exception.AttachWorkerError | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """What an attachment wants of a target, or gives up.

    :ivar holdings: of the attachment
    :ivar deadline: of what goes on
    :ivar several: whether other paths stand in for one that is lost
    :ivar force: whether a device goes that somebody may have open
    :ivar warnings: what the caller should know of a success
    """

    target: Target
    holdings: Holdings
    deadline: deadlines.Deadline
    several: bool = False
    force: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)


#: How the kernel fails to reach a portal.
UNREACHABLE = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    )
)
#: Why a name leads nowhere.
NOWHERE = (exception.TargetUnreachable, exception.PortalNotAllowed)
#: Seconds that a lookup of a host name gets.
_LOOKUP = 10.0
#: The state of a device that takes I/O.
RUNNING = 'running'


@dataclasses.dataclass(frozen=True)
class LinkedDevice:
    """A device that comes through a link.

    :ivar lun: see :class:`attachworker.objects.Target`
    :ivar disk: kernel name of its block device; None while it has none
    :ivar address: see :class:`Path`
    :ivar state: as the kernel says
    :ivar wwn: as the kernel has read it once; None if it has not
    :ivar identifiers: what targets may have in place of the number
    """

    lun: Any
    disk: str | None
    address: str
    state: str = RUNNING
    wwn: str | None = None
    identifiers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection of this host to storage, whoever made it.

    :ivar name: for people: ``session 3``
    :ivar portals: one, or two if the target has redirected the login
    :ivar number: grows with each new one until the next boot; None: it is
        not logged in to, and belongs to who uses its devices
    :ivar works: whether it takes I/O
    :ivar state: as the kernel says
    """

    name: str
    target: str
    portals: frozenset[str]
    devices: tuple[LinkedDevice, ...]
    number: int | None = None
    works: bool = True
    state: str = RUNNING


class Interest:
    """Whether somebody still wants what an attempt to connect may bring.

    Its methods raise OperationCancelled once nobody wants the path any more.

    :param take_turn: blocks until the device may come to this host
    :ivar withdrawn: whether nobody wants it any more
    :ivar committed: whether the host may have been changed
    """

    def __init__(
        self, take_turn: Callable[[str], None] = lambda step: None
    ) -> None:
        self._take_turn = take_turn
        self._lock = threading.Lock()
        self.withdrawn = False
        self.committed = False

    def commit(self, step: str) -> None:
        """To be called before the first change of the host."""
        with self._lock:
            self.check(step)
            self.committed = True

    def check(self, step: str) -> None:
        """To be called between changes."""
        if self.withdrawn:
            raise exception.OperationCancelled(step=step)

    def take_turn(self, step: str) -> None:
        """To be called before the device is brought to this host."""
        self.check(step)
        self._take_turn(step)

    def withdraw(self) -> bool:
        """Give up the path.

        :returns: True if nothing was changed for it, and nothing will be
        """
        with self._lock:
            self.withdrawn = True
            return not self.committed


#: Asked by a connector, under its lock, right before it removes a device:
#: whether it may, and what keeps it from that, for people.
MayRemove = Callable[[Path], tuple[bool, list[str]]]


class Assembler(enum.Enum):
    """What puts the paths of a volume together."""

    MULTIPATHD = 'multipathd'
    #: The kernel's own driver (NVMe).
    KERNEL = 'kernel'
    #: A volume has one path only.
    NONE = 'none'


class Devices(Protocol):
    """What is asked of the devices of a connector, block devices or not.

    See :class:`attachworker.host.block.Block`, which has it for all those
    that are in sysfs.
    """

    def device(self, disk: str) -> block.Device | None: ...

    def size(self, disk: str) -> int | None: ...

    def read_only(self, disk: str) -> bool: ...

    def check_readable(
        self, device: block.Device, deadline: deadlines.Deadline
    ) -> None: ...

    def flush(self, disk: str, deadline: deadlines.Deadline) -> None: ...

    def resumes(self, disk: str, deadline: deadlines.Deadline) -> bool: ...


class Users(Protocol):
    """Who uses them; see :class:`attachworker.host.users.Users`."""

    def of(
        self,
        disks: list[str],
        deadline: deadlines.Deadline,
        mapping: str = '',
    ) -> dict[str, list[str]]: ...

    def own_file_systems(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> dict[str, list[str]]: ...


class Connector(abc.ABC):
    """Connects and disconnects the targets of one protocol.

    One instance serves all operations at once: it keeps no state of theirs.
    Connectors are loaded from the entry points ``attachworker.connectors``.

    :param host: the machine
    :param settings: the options of the connector's own group
    """

    #: Type of its devices for the caller: see objects.DeviceInfo.
    device_type = 'block'

    #: What puts its paths together.
    assembler = Assembler.MULTIPATHD

    #: Whether a device that was there before it was attached stays after its
    #: detach: whoever made it goes on with it.
    leaves_found = False

    #: How its paths are read back from the journal.
    target_class: type[Target] = Target

    def __init__(self, host: host_layer.Host, settings: Any) -> None:
        self._host = host
        self._settings = settings
        #: By whatever stands for a device, or a link, of the protocol.
        self._locks = locks.NamedLocks()

    @property
    def devices(self) -> Devices:
        """What answers for its devices."""
        return self._host.block

    @property
    def users(self) -> Users:
        """What knows who uses them."""
        return self._host.users

    def node(self, disk: str) -> str:
        """Where whoever uses a device finds it."""
        return f'/dev/{disk}'

    @classmethod
    @abc.abstractmethod
    def options(cls) -> list[Any]:
        """The oslo.config options of its group, named like the protocol."""

    @abc.abstractmethod
    def unavailable(self) -> str | None:
        """Why this host cannot use the protocol, and what to do."""

    def properties(self) -> dict[str, Any]:
        """What storage has to know of this host, os-brick's keys."""
        return {}

    def cannot_assemble(self) -> str | None:
        """Why several paths would not become one device; None if they do."""
        if self.assembler is Assembler.NONE:
            return 'a volume of this protocol has one path'
        return None

    def puts_together(self) -> bool:
        """Whether the kernel itself makes one device of several paths."""
        return (
            self.assembler is Assembler.KERNEL
            and self.cannot_assemble() is None
        )

    def check_allowed(self, target: Target) -> None:
        """Refuse a target that callers may not have anything to do with.

        Asked for an attach, and for whatever else a caller names that no
        attachment holds.

        :raises InvalidConnectionInfo: the operator has not allowed it
        """
        return

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[Target]:
        """All targets that lead to the volume; nothing is changed for it.

        Only asked where ``info.is_complete(multipath)`` is false.

        :raises AttachWorkerError: the storage does not say
        """
        return info.targets

    def connect(
        self,
        info: objects.ConnectionInfo,
        claim: Claim,
        interest: Interest,
    ) -> Path:
        """Bring one target's device to this host, or find it here.

        :param interest: tells when nobody wants the path any more
        :raises AttachWorkerError: it could not be connected
        """
        target, deadline = claim.target, claim.deadline
        self.check_allowed(target)
        self._check_portals(info, claim)
        self._host.verbs.check(*self._acted_on(target))
        for path in self._devices(target):
            if path.disk:
                self._host.check_device(path.disk, path.address)
        way = self._find_way(info, claim)
        with (
            self._locks.hold(self._lock_name(target), deadline),
            contextlib.ExitStack() as until_visible,
        ):
            with self._link_held(target, deadline):
                until_visible.enter_context(self._others_kept_off(deadline))
                interest.commit(f'use of {target}')
                claim.holdings.take(target)
                link = self._link(info, claim, way)
            interest.take_turn(f'device of {target}')
            return self._bring(info, claim, link)

    def disconnect(self, claim: Claim, may_remove: MayRemove) -> list[str]:
        """Take one path away; that it is gone already is fine.

        Only :mod:`attachworker.tasks.takedown` calls this.

        :returns: what could not be taken away; empty if it is proven gone
        """
        target, holdings = claim.target, claim.holdings
        leftovers: list[str] = []
        with self._locks.hold(self._lock_name(target), claim.deadline):
            known = self._devices(target)
            ours = known or holdings.made_device(target)
            if ours or not holdings.shares_link(target):
                # Otherwise whatever goes on there is another attachment's.
                names = self._acted_on(target)
                try:
                    self._host.verbs.check(*names, patience=verbs.SLOW_RETURN)
                except exception.TargetQuarantined as error:
                    return [f'{target}: {error}']
                leftovers += [
                    f'{verb} of {names[0]} has not returned'
                    for verb in self._host.verbs.unfinished(names[0])
                ]
            for path in known:
                if not path.lasting:
                    leftovers += self._remove_device(path, claim, may_remove)
            with self._link_held(target, claim.deadline):
                leftovers = self._leave_link(claim, may_remove, leftovers)
                if not leftovers:
                    # Under the lock: of several that leave a link at the same
                    # time, the last one must see that the others have left.
                    holdings.release(target)
        return leftovers

    def paths(self, target: Target) -> list[Path]:
        """The devices that this host has for a target now.

        :raises OSError: nobody can tell
        :raises AttachWorkerError: likewise
        """
        return [path for path in self._devices(target) if path.disk]

    def path_of(self, disk: str) -> Path | None:
        """The path that a disk of this host is; None if it is none of ours."""
        return None

    def current(self, path: Path) -> Path | None:
        """A path as it is now; None if its device is gone.

        The name of a disk may go to another one; its address does not.
        """
        for one in self.paths(path.target):
            if one.address == path.address:
                return one
        return None

    def links(self, claimed: list[str]) -> list[Link]:
        """All connections of this protocol; nobody is asked but sysfs.

        :param claimed: keys of all paths that the journal has
        """
        return []

    @abc.abstractmethod
    def rescan(self, path: Path, deadline: deadlines.Deadline) -> None:
        """Have the kernel read the size of a device again.

        :raises OSError: it does not
        """

    def identify(self, path: Path, deadline: deadlines.Deadline) -> str:
        """The volume's identifier, asked from the storage and not a cache.

        :raises WwnNotFound: the volume has none
        :raises DeviceNotFound: the device does not answer
        """
        with answering(path.target):
            found = self._identifier(path, deadline)
        if found is None:
            raise exception.WwnNotFound(device=path.disk)
        return found

    # -- what is the protocol's own, in the order in which it is asked for

    def _acted_on(self, target: Target) -> list[str]:
        """All that a verb may be stuck at when it is about a target.

        First what the verb is about that brings its device, or its link.
        """
        return [target.link_key or str(target)]

    def _check_portals(
        self, info: objects.ConnectionInfo, claim: Claim
    ) -> None:
        """Refuse a target with a portal that is not to be connected to.

        :raises PortalNotAllowed: it is in a network where none may be
        :raises TargetUnreachable: it is a name that leads nowhere
        """
        for portal in filter(None, claim.target.portal.split(',')):
            check_portal(self._host, portal, claim.deadline)

    @abc.abstractmethod
    def _devices(self, target: Target) -> list[Path]:
        """See :meth:`paths`; also those that have no block device yet."""

    def _find_way(self, info: objects.ConnectionInfo, claim: Claim) -> Any:
        """Make sure that the storage answers, before anything is changed.

        :returns: what :meth:`_link` wants to know of it
        :raises AttachWorkerError: it does not
        """
        return None

    def _lock_name(self, target: Target) -> str:
        """What stands for the device of a target."""
        return target.key

    def _others_kept_off(
        self, deadline: deadlines.Deadline
    ) -> contextlib.AbstractContextManager[None]:
        """What other programs respect until the device is visible."""
        return contextlib.nullcontext()

    def _link(
        self, info: objects.ConnectionInfo, claim: Claim, way: Any
    ) -> Any:
        """Connect to the storage, or find that this host is connected.

        :returns: what :meth:`_bring` wants to know of it
        :raises AttachWorkerError: it could not be connected
        """
        return None

    @abc.abstractmethod
    def _bring(
        self, info: objects.ConnectionInfo, claim: Claim, link: Any
    ) -> Path:
        """The device of a target, which is made if it is not there.

        ``claim.holdings.intend_device()`` comes before it is made.

        :raises AttachWorkerError: there is none
        """

    def _remove(self, path: Path, claim: Claim) -> bool:
        """Remove a device that is not lasting; whether it is gone then."""
        return False

    def _leave_link(
        self, claim: Claim, may_remove: MayRemove, leftovers: list[str]
    ) -> list[str]:
        """End a link that is ours and that nobody else has.

        :param leftovers: what is left of the devices
        :returns: the same with what is left of the link
        """
        return leftovers

    @abc.abstractmethod
    def _identifier(
        self, path: Path, deadline: deadlines.Deadline
    ) -> str | None:
        """See :meth:`identify`; None if the volume has none.

        :raises OSError: the device does not answer
        """

    # -- for the connectors themselves

    def _link_held(
        self, target: Target, deadline: deadlines.Deadline
    ) -> contextlib.AbstractContextManager[None]:
        """The lock of the link of a target, if it has one."""
        if not target.link_key:
            return contextlib.nullcontext()
        return self._locks.hold(target.link_key, deadline)

    def _remove_device(
        self, path: Path, claim: Claim, may_remove: MayRemove
    ) -> list[str]:
        """Remove a device if it may go; what is left, and what keeps it."""
        goes, reasons = may_remove(path)
        if not goes:
            return reasons
        name = f'device {path.disk or path.address}'
        return reasons + remove(name, lambda: self._remove(path, claim))

    def _for_device(self, deadline: deadlines.Deadline) -> deadlines.Deadline:
        """The time that the kernel has to make, change or remove a device."""
        return deadline.sooner(self._settings.device_timeout)

    def _scan_until(
        self,
        target: Target,
        scan: Callable[[], None],
        look: Callable[[], Any],
        relevant: Callable[[uevents.Uevent], bool],
        deadline: deadlines.Deadline,
    ) -> None:
        """Return once the kernel has what a target shows.

        :param look: None if it has not; its disk may follow later
        :raises DeviceNotFound: it has not after ``scan_attempts``, a second
            each
        """
        for _ in range(self._settings.scan_attempts):
            scan()
            soon = deadline.sooner(1.0)
            if self._host.uevents.wait_for(look, relevant, soon) is not None:
                return
        raise not_found(target)


def scan_attempts(what: str) -> cfg.IntOpt:
    """The option of those who use :meth:`Connector._scan_until`."""
    return cfg.IntOpt(
        'scan_attempts',
        mutable=True,
        default=3,
        min=1,
        max=100,
        help=f'How often a {what} is looked for before it counts as not '
        'mapped; some arrays need a moment after mapping. Attempts are one '
        'second apart.',
    )


def not_found(target: Target) -> exception.DeviceNotFound:
    return exception.DeviceNotFound(volume=target.label)


def login_failed(target: Target, reason: str) -> exception.LoginFailed:
    return exception.LoginFailed(
        target=target.name, portal=target.portal, reason=reason
    )


def by_address(
    host: host_layer.Host, portal: str, deadline: deadlines.Deadline
) -> list[str]:
    """The portals that one by name stands for, the best first.

    The kernel knows addresses only, and asks no resolver.

    :param portal: one by address stands for itself
    :raises TargetUnreachable: nobody knows the name, or says so in time
    """
    if rules.is_ip_portal(portal):
        return [portal]
    name, port = network.split(portal)
    what = 'no answer to a lookup'
    with answering_within(_LOOKUP, portal, deadline, what) as within:
        found = host.verbs.call(
            network.addresses,
            name,
            port,
            name='host name lookup',
            about=portal,
            deadline=within,
        )
    return [network.join(address, port) for address in found]


def allowed_portals(
    host: host_layer.Host, portal: str, deadline: deadlines.Deadline
) -> list[str]:
    """The portals by address, of one, that may be connected to.

    What is looked up is connected to, and nobody looks again: the name may
    lead elsewhere by then.

    :raises TargetUnreachable: see :func:`by_address`
    :raises PortalNotAllowed: none of them may
    """
    places = by_address(host, portal, deadline)
    return host.networks.allowed(portal, places)


def check_portal(
    host: host_layer.Host, portal: str, deadline: deadlines.Deadline
) -> None:
    """Refuse a portal that is not to be connected to.

    :raises PortalNotAllowed: it is where none may be
    :raises TargetUnreachable: it is a name still, for it has led nowhere
    """
    allowed_portals(host, portal, deadline)
    if not rules.is_ip_portal(portal):
        raise exception.TargetUnreachable(
            portal=portal, reason='its name has led to no address that answers'
        )


@contextlib.contextmanager
def answering_within(
    seconds: float,
    portal: str,
    deadline: deadlines.Deadline,
    what: str = 'no answer',
) -> Iterator[deadlines.Deadline]:
    """A block that waits for a portal, for so many seconds at most.

    :param deadline: of what goes on; the block has its own
    :param what: there was not, for people
    :raises TargetUnreachable: the time was over, and not yet the deadline
    """
    try:
        yield deadline.sooner(seconds)
    except exception.DeadlineExceeded as error:
        if deadline.passed:
            raise
        raise exception.TargetUnreachable(
            portal=portal, reason=f'{what} in {seconds:.0f} s'
        ) from error


@contextlib.contextmanager
def answering(target: Target) -> Iterator[None]:
    """A block that asks the device of a target.

    :raises DeviceNotFound: it does not answer
    """
    try:
        yield
    except OSError as error:
        if error.errno not in block.NO_ANSWER:
            raise
        raise not_found(target) from error


def remove(what: str, attempt: Callable[[], bool]) -> list[str]:
    """Remove something.

    :param attempt: whether it is gone then
    :returns: it, if it is left
    """
    try:
        gone = attempt()
    except (exception.AttachWorkerError, OSError) as error:
        LOG.warning('Removal of %s: %s', what, error)
        gone = False
    return [] if gone else [what]
