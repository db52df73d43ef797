# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What the tasks of one operation share."""

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import dataclasses
import functools

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors import base
from attachworker.host import Host
from attachworker.host import encryption
from attachworker.host import locks
from attachworker.tasks import attempts
from attachworker.tasks.takedown import Takedown


@dataclasses.dataclass
class Rotation:
    """Two keys of a volume, of which the new one takes the old one's place.

    :ivar note_intention: writes down that the new key is about to be added
    :ivar intended: whether it was, by an earlier worker perhaps
    :ivar settled: whether it is known that one of the two keys alone opens
        the volume, but for a keyslot that was there before
    :ivar done: whether that is the new one
    """

    old_key: str = dataclasses.field(repr=False)
    new_key: str = dataclasses.field(repr=False)
    note_intention: Callable[[], None]
    intended: bool = False
    settled: bool = False
    done: bool = False

    def intend(self) -> None:
        """From now on the new key may open the volume because of us."""
        self.note_intention()
        self.intended = True


@dataclasses.dataclass
class Run:
    """One operation while its flow runs.

    :ivar info: what to connect to; read only
    :ivar targets: the ways to it, in the order of the request
    :ivar multipath: whether the caller asked for a multipath map
    :ivar encryption: how the device is to be opened; None: as it is
    :ivar rotation: how its key is to be changed; None: it is not
    :ivar min_paths: how many the device must have for success
    :ivar turn: seconds that one device gets to come to the host before the
        next one is tried, where the host is to have one of them
    :ivar path_grace: seconds that further paths get before a map is made
    :ivar map_timeout: seconds that multipathd may take to make, or to
        remove, a map
    :ivar flush_timeout: seconds that a forced detach waits for a flush
    :ivar expected_wwn: the identifier that the volume must have, normalised;
        None if nobody knows it yet
    :ivar expected_size: bytes that the volume must have, at least, once it
        is extended
    :ivar kept: targets that are not undone: their devices belong to an
        attachment that existed before
    :ivar volumes: locks by identity; :meth:`lock_volume` holds one to the end
    :ivar force: go on where data or a user may be lost
    :ivar undoes: whether a detach is of what a failed attach has left: what
        was there before that stays
    :ivar adopts: whether a detach is of what no attachment of this worker has:
        it takes what somebody else has made, for it is told to
    :ivar forces_foreign: whether it may do so by force
    :ivar grace: seconds that undoing may take after the deadline
    :ivar name: of the attachment
    :ivar opened: whether there may be a mapping: it was there, or this run
        has begun to make it
    :ivar map_wwid: what multipathd called the volume when the attachment was
        given a map of it; None: it was given none
    :ivar made_map: whether this run has begun to make a map: there was none
    :ivar on_change: called before the first change that a detach makes
    :ivar leftovers: what could not be put back
    :ivar warnings: what the caller should know of a success
    """

    info: objects.ConnectionInfo
    targets: list[base.Target]
    host: Host
    get_connector: Callable[[str], base.Connector]
    holdings: base.Holdings
    deadline: deadlines.Deadline
    multipath: bool = False
    enforce_multipath: bool = False
    encryption: objects.Encryption | None = None
    rotation: Rotation | None = None
    min_paths: int = 1
    turn: float = 10.0
    path_grace: float = 0.5
    map_timeout: float = 30.0
    flush_timeout: float = 30.0
    expected_wwn: str | None = None
    expected_size: int | None = None
    kept: frozenset[base.Target] = frozenset()
    force: bool = False
    undoes: bool = False
    adopts: bool = False
    forces_foreign: bool = False
    grace: float = 30.0
    name: str = ''
    volumes: locks.NamedLocks = dataclasses.field(
        default_factory=locks.NamedLocks
    )
    held: contextlib.ExitStack = dataclasses.field(
        default_factory=contextlib.ExitStack
    )
    opened: bool = False
    map_wwid: str | None = None
    made_map: bool = False
    on_change: Callable[[], None] = lambda: None
    leftovers: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def connector(self) -> base.Connector:
        return self.get_connector(self.info.protocol)

    @property
    def wwn(self) -> str:
        """The volume's identifier, once it is known."""
        assert self.expected_wwn is not None
        return self.expected_wwn

    @property
    def assembles(self) -> bool:
        """Whether several paths become one device."""
        return self.multipath and self.connector.cannot_assemble() is None

    @functools.cached_property
    def attempts(self) -> attempts.Attempts:
        # Otherwise a device has one path, however many are connected.
        wanted = self.min_paths if self.assembles else 1
        return attempts.Attempts(wanted, self.assembles, self.turn)

    @functools.cached_property
    def takedown(self) -> Takedown:
        """Of a detach; see :attr:`undo` for an attach."""
        return self.take_down(self.deadline, undo=self.undoes)

    @functools.cached_property
    def undo(self) -> Takedown:
        """Of what this run has made."""
        return self.take_down(self.undo_deadline, undo=True)

    def take_down(self, deadline: deadlines.Deadline, undo: bool) -> Takedown:
        """What takes down all, or a part, of what the attachment holds."""
        return Takedown(self, deadline, undo)

    def lock_volume(self, identity: str) -> None:
        """Keep others from the volume until this run is closed.

        :raises DeadlineExceeded: others had it until the deadline
        """
        name = objects.normalise_wwn(identity)
        if name not in self._locked:
            self.held.enter_context(self.volumes.hold(name, self.deadline))
            self._locked.add(name)

    def lock_known_volume(self) -> None:
        """The same, if anybody knows which volume the attachment is about.

        An attach that has failed may have learned it.

        :raises DeadlineExceeded: others had it until the deadline
        """
        self.expected_wwn = self.expected_wwn or self.holdings.identity()
        if self.expected_wwn is not None:
            self.lock_volume(self.expected_wwn)

    @functools.cached_property
    def _locked(self) -> set[str]:
        return set()

    @functools.cached_property
    def undo_deadline(self) -> deadlines.Deadline:
        """When undoing gives up, counted from the first thing undone."""
        return self.deadline.extended(self.grace)

    @property
    def mapping(self) -> str:
        """What the mapping of dm-crypt is called, if there is one."""
        return encryption.name_of(self.name)

    def sizes(self, disks: Iterable[str]) -> dict[str, int | None]:
        """The sizes of devices, in bytes, as far as anybody knows them.

        One of 0 is unknown: a path through an unavailable port (ALUA) has it,
        and a map without a table. None: the device is gone.
        """
        devices = self.connector.devices
        sizes = {disk: devices.size(disk) for disk in disks}
        return {disk: size for disk, size in sizes.items() if size != 0}

    def before(self, step: str) -> None:
        """Called as each task starts; raises if the run must end."""
        self.deadline.check(step)

    def after(self, step: str) -> None:
        """Called as each task ends; raises if the run must end."""
        self.deadline.check(step)

    def remove_own_map(self) -> list[str]:
        """Remove the map that this run has made, before its paths go.

        :returns: what could not be put back
        """
        if not self.made_map:
            return []
        return self.undo.collect(self.undo.remove_map, 'map')

    def let_go(
        self, target: base.Target, beside: str | None = None
    ) -> list[str]:
        """Stop connecting a target and put its part of the host back.

        :param beside: the disk that is used in its place
        :returns: what could not be put back
        """
        if not self.attempts.abandon(target, self.undo_deadline):
            return [f'connecting {target} has not returned']
        if target in self.kept or self.attempts.refused(target):
            return []
        try:
            return self.undo.disconnect(target, beside)
        except OSError as error:
            return [f'{target}: {error}']
