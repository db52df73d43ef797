# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What a connector is: how volumes of one protocol come to this host."""

import abc
from collections.abc import Callable
import dataclasses
import threading
from typing import Any
from typing import Protocol

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as host_layer
from attachworker import objects

#: One way to a volume: portal, name and LUN; its text identifies it.
Target = objects.Target


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
    state: str
    wwn: str | None
    identifiers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection of this host to storage, whoever made it.

    :ivar name: for people: ``session 3``
    :ivar number: grows with each new one until the next boot; None: it is
        not logged in to, and belongs to who uses its devices
    :ivar portals: one, or two if the target has redirected the login
    :ivar works: whether it takes I/O
    :ivar state: as the kernel says
    """

    name: str
    number: int | None
    target: str
    portals: frozenset[str]
    works: bool
    state: str
    devices: tuple[LinkedDevice, ...]


class Interest:
    """Whether somebody still wants what an attempt to connect may bring.

    :param take_turn: blocks until the device may come to this host
    :ivar several: whether other paths stand in for one that is lost
    """

    def __init__(
        self,
        take_turn: Callable[[str], None] | None = None,
        several: bool = False,
    ) -> None:
        self._take_turn = take_turn
        self.several = several
        self._lock = threading.Lock()
        self._lost = False
        self._committed = False

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def committed(self) -> bool:
        """Whether the host may have been changed."""
        return self._committed

    def commit(self, step: str) -> None:
        """To be called before the first change of the host.

        :raises OperationCancelled: nobody wants the path any more
        """
        self.check(step)
        with self._lock:
            self._committed = not self._lost
        self.check(step)

    def check(self, step: str) -> None:
        """To be called between changes.

        :raises OperationCancelled: nobody wants the path any more
        """
        if self._lost:
            raise exception.OperationCancelled(step=step)

    def take_turn(self, step: str) -> None:
        """To be called before the device is brought to this host.

        :raises OperationCancelled: nobody wants the path any more
        """
        self.check(step)
        if self._take_turn is not None:
            self._take_turn(step)

    def lose(self) -> bool:
        """Give up the path.

        :returns: True if nothing was changed for it, and nothing will be
        """
        with self._lock:
            self._lost = True
            return not self._committed


class Claims(Protocol):
    """What the journal remembers for one attachment.

    Each is written before the act that it speaks of, so that whatever a crash
    leaves behind is known to be ours.
    """

    #: What an earlier worker has begun is begun again at once, and meets
    #: whatever comes of it.
    cut_short: bool

    def take(self, target: Target) -> None:
        """This attachment uses a target from now on."""

    def release(self, target: Target) -> None: ...

    def intend_device(self, target: Target) -> None:
        """The device of this target is about to be made by us."""

    def made_device(self, target: Target) -> bool: ...

    def shared(self, target: Target) -> bool:
        """Another attachment uses the same device."""

    def session_shared(self, target: Target) -> bool:
        """Another attachment uses the same session."""

    def intend_session(self, target: Target, after: int) -> None:
        """A session is about to be made; its number will be above this."""

    def intends_session(self, target: Target) -> bool:
        """A login was begun, and nobody knows yet how it has ended."""

    def confirm_session(self, target: Target, number: int) -> None: ...

    def owns_session(self, target: Target, number: int) -> bool: ...

    def forget_session(self, target: Target) -> None: ...


class Connector(abc.ABC):
    """Connects and disconnects the targets of one protocol.

    One instance serves all operations at once: it keeps no state of theirs.
    Connectors are loaded from the entry points ``attachworker.connectors``.

    :param host: the machine
    :param settings: the options of the connector's own group
    """

    #: Type of its devices for the caller: see objects.DeviceInfo.
    device_type = 'block'

    #: Whether its devices are SCSI disks, of which multipathd makes maps.
    scsi = True

    def __init__(self, host: host_layer.Host, settings: Any) -> None:
        self._host = host
        self._settings = settings

    @classmethod
    @abc.abstractmethod
    def options(cls) -> list[Any]:
        """The oslo.config options of its group, named like the protocol."""

    @abc.abstractmethod
    def unavailable(self) -> str | None:
        """Why this host cannot use the protocol, and what to do."""

    @abc.abstractmethod
    def properties(self) -> dict[str, Any]:
        """What storage has to know of this host, os-brick's keys."""

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

    @abc.abstractmethod
    def connect(
        self,
        info: objects.ConnectionInfo,
        target: Target,
        claims: Claims,
        deadline: deadlines.Deadline,
        interest: Interest,
    ) -> Path:
        """Bring one target's device to this host, or find it here.

        :param interest: tells when nobody wants the path any more
        :raises AttachWorkerError: it could not be connected
        """

    @abc.abstractmethod
    def disconnect(
        self,
        target: Target,
        claims: Claims,
        deadline: deadlines.Deadline,
        keep_found: bool,
    ) -> list[str]:
        """Take one target away; that it is gone already is fine.

        Needs nothing but journal and kernel: revert, detach and recovery all
        use it.

        :param keep_found: leave a device alone that was there before
        :returns: what could not be taken away; empty if it is proven gone
        """

    @abc.abstractmethod
    def paths(self, target: Target) -> list[Path]:
        """The devices that this host has for a target now."""

    def links(self, claimed: list[Target]) -> list[Link]:
        """All connections of this protocol; nobody is asked but sysfs.

        :param claimed: what the journal has of all protocols
        """
        return []

    @abc.abstractmethod
    def rescan(self, path: Path, deadline: deadlines.Deadline) -> None:
        """Have the kernel read the size of a device again.

        :raises OSError: it does not
        """

    @abc.abstractmethod
    def identify(self, path: Path, deadline: deadlines.Deadline) -> str:
        """The volume's identifier, asked from the storage and not a cache.

        :raises WwnNotFound: the volume has none
        :raises DeviceNotFound: the device does not answer
        """
