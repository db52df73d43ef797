# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What the tasks of one operation share."""

from collections.abc import Callable
import dataclasses
import functools

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors import base
from attachworker.host import Host
from attachworker.host import encryption
from attachworker.tasks import attempts


@dataclasses.dataclass
class Run:
    """One operation while its flow runs.

    :ivar info: what to connect to; read only
    :ivar targets: the ways to it, in the order of the request
    :ivar multipath: whether the caller asked for a multipath map
    :ivar encryption: how the device is to be opened; None: as it is
    :ivar min_paths: how many the device must have for success
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
    :ivar force: go on where data or a user may be lost
    :ivar grace: seconds that undoing may take after the deadline
    :ivar name: of the attachment
    :ivar opened: whether there may be a mapping: it was there, or this run
        has begun to make it
    :ivar on_change: called before the first change that a detach makes
    :ivar strangers: targets whose device belongs to another volume by now
    :ivar leftovers: what could not be put back
    :ivar warnings: what the caller should know of a success
    """

    info: objects.ConnectionInfo
    targets: list[base.Target]
    host: Host
    get_connector: Callable[[str], base.Connector]
    claims: base.Claims
    deadline: deadlines.Deadline
    multipath: bool = False
    enforce_multipath: bool = False
    encryption: objects.Encryption | None = None
    min_paths: int = 1
    path_grace: float = 0.5
    map_timeout: float = 30.0
    flush_timeout: float = 30.0
    expected_wwn: str | None = None
    expected_size: int | None = None
    kept: frozenset[base.Target] = frozenset()
    force: bool = False
    grace: float = 30.0
    name: str = ''
    opened: bool = False
    on_change: Callable[[], None] = lambda: None
    strangers: set[base.Target] = dataclasses.field(default_factory=set)
    leftovers: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def attempts(self) -> attempts.Attempts:
        # Without a map a device has one path, however many are connected.
        wanted = self.min_paths if self.multipath else 1
        return attempts.Attempts(wanted, together=self.multipath)

    @functools.cached_property
    def undo_deadline(self) -> deadlines.Deadline:
        """When undoing gives up, counted from the first thing undone."""
        return self.deadline.extended(self.grace)

    @property
    def mapping(self) -> str:
        """What the mapping of dm-crypt is called, if there is one."""
        return encryption.name_of(self.name)

    def before(self, step: str) -> None:
        """Called as each task starts; raises if the run must end."""
        self.deadline.check(step)

    def after(self, step: str) -> None:
        """Called as each task ends; raises if the run must end."""
        self.deadline.check(step)

    def let_go(self, target: base.Target) -> list[str]:
        """Stop connecting a target and put its part of the host back.

        :returns: what could not be put back
        """
        connector = self.get_connector(self.info.protocol)
        if not self.attempts.abandon(target, self.undo_deadline):
            return [f'connecting {target} has not returned']
        if target in self.kept or self.attempts.refused(target):
            return []
        try:
            return connector.disconnect(
                target, self.claims, self.undo_deadline, keep_found=True
            )
        except OSError as error:
            return [f'{target}: {error}']
