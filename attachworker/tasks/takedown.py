# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The one way down: how a volume, or a part of it, leaves this host.

Mapping, map, paths, links: from the top, each only if nobody else holds it and
nobody uses it. The undo of an attach, a detach, clean-up and recovery all go
this way. They differ in what they are told to take down.
"""

from collections.abc import Callable
import functools
from typing import TYPE_CHECKING

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.host.multipath import Map

if TYPE_CHECKING:
    from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)

#: Seconds in which a map that is in use may turn out not to be.
_GRACE = 2.0
#: Seconds that whoever only looks at a new device gets to let go of it.
_LOOKING = 5.0
#: Seconds that whoever looks at all devices gets to let go of one.
_GLANCE = 2.0
#: Seconds that a map which nobody was to have gets to go.
_UNWANTED = 3.0

#: How the identities of files begin.
_FILE = 'inode-'

SHARED = 'the device stays: another attachment of this host uses it'


class Takedown:
    """Takes down what one attachment holds; the caller has the volume's lock.

    Needs nothing but journal and kernel. It can be run again at any time.

    :param run: whose targets are to go
    :param undo: whether an attach is undone: devices that were there before
        stay, and nothing is handed over
    :ivar other_attachments: other attachments of the volume, the oldest first
    :ivar local_attachments: attachments of its device as a local one
    """

    def __init__(
        self, run: 'Run', deadline: deadlines.Deadline, undo: bool
    ) -> None:
        self._run = run
        self._host = run.host
        self._connector = run.connector
        self._holdings = run.holdings
        self._deadline = deadline
        self._undo = undo
        # As they are now: an attach may take up others, and learn more.
        self._targets = run.targets
        self._identity = run.expected_wwn

    def lock_unknown_volume(self) -> None:
        """Keep others from the volume if only the kernel knows which it is.

        An attach that was cut short may have brought devices and not have
        learned their identity. Another one of the volume, which has, may be
        about to take them into its map.

        :raises DeadlineExceeded: others had it until the deadline
        """
        if self._identity is None:
            wwns = {path.wwn for path in self._paths() if path.wwn}
            for wwn in sorted(wwns):
                self._run.lock_volume(wwn)

    # -- whose it is

    @functools.cached_property
    def other_attachments(self) -> list[str]:
        return [
            name
            for like in self._targets[:1]
            for name in self._holdings.volume_holders(self._identity, like)
        ]

    @functools.cached_property
    def local_attachments(self) -> list[str]:
        return [
            f'attachment {name}'
            for like in self._targets[:1]
            for name in self._holdings.local_holders(self._identity, like)
        ]

    @property
    def shared(self) -> bool:
        """Whether the volume itself stays, for other attachments."""
        return bool(self.other_attachments) or any(
            self._holdings.path_holders(target) for target in self._targets
        )

    def is_other_volume(self, path: base.Path) -> bool:
        """Whether a device is known to be another volume's by now.

        Asked from the kernel: the storage may have taken ours away already.
        """
        if self._identity is None or path.wwn is None:
            return False
        return not same_volume(path.wwn, self._identity)

    def _stays(self, path: base.Path) -> bool:
        """Whether a device is not ours to remove, whoever uses it."""
        if path.target in self._run.kept:
            return True
        if self._holdings.path_holders(path.target):
            return True
        if self.was_there(path):
            return True
        return not self._undo and self.is_other_volume(path)

    def was_there(self, path: base.Path) -> bool:
        """Whether a device stays since it was there before the attach.

        An undo takes only what its attach has made. A detach takes what was
        found, too, unless only its maker may.
        """
        leaves_found = self._undo or (
            self._connector.leaves_found and not self._run.adopts
        )
        return (
            leaves_found
            and not path.lasting
            and not self._holdings.made_device(path.target)
        )

    def _paths(self) -> list[base.Path]:
        return [
            path
            for target in self._targets
            for path in self._connector.paths(target)
        ]

    def users(self, disks: list[str]) -> dict[str, list[str]]:
        """Who uses devices, or what is on top of them.

        :raises HostToolFailed: nobody can tell, and force is not asked for
        """
        within = self._deadline
        if self._run.force:
            within = within.sooner(self._run.map_timeout)
        try:
            return self._connector.users.of(disks, within, self._run.mapping)
        except (
            OSError,
            exception.DeadlineExceeded,
            exception.TargetQuarantined,
        ) as error:
            names = ', '.join(disks)
            if self._run.force:
                return {names: [f'nobody knows whom ({error})']}
            if not isinstance(error, OSError):
                raise
            raise exception.HostToolFailed(
                what=f'Looking for users of {names}', reason=str(error)
            ) from error

    def own_file_systems(self, disks: list[str]) -> list[str]:
        """What this host cannot do without, on any of these devices.

        :raises HostToolFailed: nobody can tell
        """
        try:
            found = self._connector.users.own_file_systems(
                disks, self._deadline
            )
        except OSError as error:
            raise exception.HostToolFailed(
                what=f'Looking for file systems on {", ".join(disks)}',
                reason=str(error),
            ) from error
        return [name for names in found.values() for name in names]

    def lasting_users(self, disks: list[str]) -> dict[str, list[str]]:
        """Who uses devices, and goes on using them.

        Some only look at all devices now and then, as lvs and monitors do, or
        at each new one, as udev does, which an undo comes right after: they
        get a moment to let go.
        """
        users = self.users(disks)
        if self._run.force or not any(users.values()):
            return users

        def look() -> bool | None:
            nonlocal users
            users = self.users(disks)
            return None if any(users.values()) else True

        seconds = _LOOKING if self._undo else _GLANCE
        # Nothing tells when it is closed; the slow timer does it.
        self._host.uevents.wait_for(
            look, lambda _: False, self._deadline.sooner(seconds)
        )
        return users

    # -- from the top

    def everything(self) -> list[str]:
        """Mapping, map and all paths.

        :returns: what is left; what is below something that is left stays
        """
        left = self.close_mapping() or self.collect(self.remove_map, 'map')
        if left:
            return left
        for target in self._targets:
            left += self.collect(
                functools.partial(self.disconnect, target), str(target)
            )
        if not left:
            self._unlist(self._holdings.listed_for_us())
        return left

    def collect(self, act: Callable[[], list[str]], what: str) -> list[str]:
        """What is left after an act, also if it raises.

        :param what: it takes down
        """
        try:
            return act()
        except (exception.AttachWorkerError, OSError) as error:
            return [f'{what}: {error}']

    def close_mapping(self) -> list[str]:
        """Close the attachment's mapping of dm-crypt, if it has one.

        :returns: what is left of it
        """
        name = self._run.mapping
        return self.collect(
            lambda: self._host.encryption.close(name, self._deadline),
            f'mapping {name}',
        )

    def find_map(self) -> Map | None:
        """The multipath map that goes with the paths; None if there is none.

        One that has paths of others in it stays.
        """
        if self._connector.assembler is not base.Assembler.MULTIPATHD:
            return None
        if self.shared:
            return None
        multipath = self._host.multipath
        paths = self._paths()
        held = multipath.of_any(path.disk for path in paths)
        if held is not None:
            return held if self._is_ours(held, paths) else None
        wwid = self._run.map_wwid or self._identity
        left = multipath.find(wwid) if wwid else None
        # one whose paths somebody has removed
        return left if left is not None and not left.disks else None

    def _is_ours(self, held: Map, paths: list[base.Path]) -> bool:
        going = {path.disk for path in paths if not self._stays(path)}
        if held.wwid in self._holdings.listed_for_us():
            # It came with us, and goes also from a disk that was there.
            going |= {
                path.disk
                for path in paths
                if self.was_there(path)
                and not self._holdings.path_holders(path.target)
            }
        return going.issuperset(held.disks)

    def remove_map(self) -> list[str]:
        """Remove the map that goes with the paths.

        :returns: what is left of it
        """
        found = self.find_map()
        if found is None:
            return []
        users = self.lasting_users([found.name])[found.name]
        if users and not self._run.force:
            return [f'map {found.name}, in use by {user}' for user in users]
        if self._run.force:
            # nothing below it is to wait for a path that does not come back
            self.stop_queueing(found)
        if self._host.multipath.remove(found, self._patience(users)):
            return []
        return [f'map {found.name} ({found.wwid})']

    def _patience(self, users: list[str]) -> deadlines.Deadline:
        """udev closes a map soon; whoever else has it open may never."""
        return self._deadline.sooner(
            _GRACE if users else self._run.map_timeout
        )

    def stop_queueing(self, found: Map) -> None:
        """Let I/O fail that waits for a path."""
        try:
            self._host.multipath.set_queueing(found, False, self._deadline)
        except OSError as error:
            LOG.warning('Map %s goes on queueing: %s', found.name, error)

    def disconnect(
        self, target: base.Target, beside: str | None = None
    ) -> list[str]:
        """Take one path away, and its link with the last one.

        A detach leaves the paths to those who have the same volume still.

        :param beside: a disk of the volume that stays, and is to have no map
        :returns: what is left
        """
        if self.other_attachments and not self._undo:
            self._holdings.hand_over(target, self.other_attachments[0])
            return []
        claim = base.Claim(
            target,
            self._holdings,
            self._deadline,
            force=self._run.force,
            warnings=self._run.warnings,
        )
        if self._connector.assembler is not base.Assembler.MULTIPATHD:
            return self._connector.disconnect(claim, self._may_remove)
        left: list[str] = []
        paths = set(self._connector.paths(target))
        wwids = self._wwids_of_maps({path.disk for path in paths})
        try:
            left += self._connector.disconnect(claim, self._may_remove)
        finally:
            # Also when it fails: without its devices nobody knows any more
            # what an attach that learned no identity has left on the list.
            gone = paths.difference(self._connector.paths(target))
            wwids.update(path.wwn for path in gone if path.wwn)
            if gone:
                failed = self.collect(
                    functools.partial(self._clear_up, wwids, beside),
                    "multipath's list",
                )
                if failed:
                    self._note_lines(wwids)
                left += failed
        return left

    def _note_lines(self, wwids: set[str]) -> None:
        """Have the journal know what is to go off the list of multipath."""
        for wwid in sorted(wwids):
            if self._holdings.identity() is None:
                self._holdings.identify(wwid)
            else:
                self._holdings.note_line(wwid)

    def _clear_up(self, wwids: set[str], beside: str | None) -> list[str]:
        """Remove what multipathd has made as the devices came and went.

        A map may have come meanwhile, of another disk as well. multipathd may
        have heard of a disk only after it was told to let go of it, and have
        made a map, with a line, until the disk was gone.
        """
        if beside is not None:
            wwids = wwids | self._wwids_of_maps({beside})
        for wwid in wwids:
            self.remove_unwanted(wwid, beside)
        self._unlist(wwids)
        return []

    def _wwids_of_maps(self, disks: set[str]) -> set[str]:
        maps = map(self._host.multipath.of, disks)
        return {one.wwid for one in maps if one is not None}

    def _unlist(self, wwids: set[str]) -> None:
        """Take volumes without a map off the list of multipath.

        What was there before us stays.
        """
        for wwid in wwids:
            if self._host.multipath.find(wwid) is not None:
                continue
            if not self._holdings.was_listed(wwid):
                self._host.multipath.forget(wwid, self._deadline)

    def remove_unwanted(self, wwid: str, beside: str | None) -> None:
        """Remove a map if its last disk is one that was given away as it is.

        For a moment the volume had two disks, because the storage has two
        names for it, or one was late, and multipathd has made a map of them.
        """
        multipath = self._host.multipath
        now = multipath.find(wwid)
        if now is None or len(now.disks) != 1:
            return
        if now.disks[0] != beside:
            path = self._connector.path_of(now.disks[0])
            holders = self._holdings.path_holders(path.target) if path else []
            if not holders or any(map(self._holdings.has_map, holders)):
                return
        multipath.remove(now, self._deadline.sooner(_UNWANTED))
        self._unlist({wwid})

    def _may_remove(self, path: base.Path) -> tuple[bool, list[str]]:
        """See :data:`attachworker.connectors.base.MayRemove`."""
        if self._stays(path):
            return False, []
        if path.disk:
            own = self.own_file_systems([path.disk])
            if own:
                return False, [f'device {path.disk}, with {", ".join(own)}']
            reasons = self._last_path_of_others(path)
            if reasons is None:
                users = self.lasting_users([path.disk])[path.disk]
                users = users + self.local_attachments
                reasons = [f'in use by {user}' for user in users]
                if users:
                    # A map of others may have come meanwhile.
                    theirs = self._last_path_of_others(path)
                    reasons = reasons if theirs is None else theirs
            if reasons and not self._run.force:
                return False, [f'device {path.disk}, {x}' for x in reasons]
            for reason in reasons:
                LOG.warning('%s goes though it is %s', path.disk, reason)
        return True, []

    def _last_path_of_others(self, path: base.Path) -> list[str] | None:
        """What others would lose with a path of a map that is theirs, too.

        :returns: None if it is in no map of others
        """
        held = self._host.multipath.of(path.disk)
        if held is None or self._is_ours(held, self._paths()):
            return None
        working = self._host.multipath.working(held, self._deadline)
        if set(working).difference([path.disk]) or not working:
            return []
        return [f'the last path of {held.name} that works']

    # -- afterwards

    def leftovers(self, map: Map | None) -> list[str]:
        """What the kernel has still of what was to go.

        :param map: that there was when this began
        """
        mapping = self._host.encryption.find(self._run.mapping)
        left = [f'mapping {self._run.mapping}'] if mapping else []
        if self.shared:
            return left
        wwid = map.wwid if map else self._run.map_wwid
        if wwid is not None:
            left += self._check_map(wwid, ours=map is not None)
        if not left:
            wwids = self._holdings.listed_for_us()
            self._unlist(wwids if wwid is None else {wwid, *wwids})
        left += [
            f'device {path.disk}'
            for path in self._paths()
            if not path.lasting
            and not self.is_other_volume(path)
            and not self.was_there(path)
        ]
        return left

    def _check_map(self, wwid: str, ours: bool) -> list[str]:
        """It may have outlived its removal, or have come back."""
        multipath = self._host.multipath
        left = multipath.find(wwid)
        if left is not None and left.disks and not ours:
            return []  # the paths that it has are somebody else's
        if left is not None:
            users = (
                self.users([left.name])[left.name] if self._run.force else []
            )
            if not multipath.remove(left, self._patience(users)):
                return [f'map {left.name} ({wwid})']
        return []


def same_volume(one: str, other: str) -> bool:
    """Whether two identities, in any spelling, are the same.

    Of a file, less may be known of one of them: which file system, or on which
    device it is now. What is known has to agree.
    """
    one, other = sorted(map(objects.normalise_wwn, (one, other)), key=len)
    if one.startswith(_FILE):
        return f'{other}.'.startswith(f'{one}.')
    return bool(one == other)


def check_identity(path: base.Path, found: str, expected: str) -> None:
    """Make sure that a path leads to the volume that it is to lead to.

    :param found: what it says it is; in any spelling, as the other one
    :raises IdentityMismatch: it leads to another volume
    """
    if not same_volume(found, expected):
        raise exception.IdentityMismatch(
            device=path.disk, found=found, expected=expected
        )
