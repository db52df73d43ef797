# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Multipath maps: seen in sysfs, made and removed by multipathd."""

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import dataclasses
import errno
import re
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import sysfs

LOG = logging.getLogger(__name__)

_UUID = re.compile(r'mpath-(.+)')
#: A partition of a map; kpartx makes them by itself.
_PARTITION = re.compile(r'part\d+-mpath-.+')

#: Seconds in which udev is done with a map that has lost its last disk, or got
#: one.
_RELEASE = 3.0
#: Seconds in which a multipathd that has died is started again, and in which
#: it learns of a map.
_RETURN = 10.0
#: What an answer of a multipathd that is not there looks like.
_SILENCE = frozenset((errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE))
#: In the path of each uevent of a map.
_MAPS = '/block/dm-'
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


@dataclasses.dataclass(frozen=True)
class Map:
    """A multipath map that the kernel has.

    :ivar name: kernel name, for example ``dm-0``
    :ivar wwid: of the volume, as multipath spells it
    :ivar disks: those of its paths that the kernel has, by kernel name
    """

    name: str
    wwid: str
    disks: tuple[str, ...]


class Multipath(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._uuids = known.Known(
            self._root / sysfs.VIRTUAL,
            'dm-',
            lambda name: sysfs.read_dm(self._block(name), 'uuid') or None,
        )

    # -- looking

    def of(self, disk: str) -> Map | None:
        """The map that holds a disk.

        LVM, dm-crypt and partitions hold disks too: a map is known by its
        uuid.
        """
        for holder in sysfs.names(self._block(disk) / 'holders'):
            found = self._map(holder)
            if found is not None:
                return found
        return None

    def of_any(self, disks: Iterable[str]) -> Map | None:
        """The map that holds one of a volume's disks."""
        return next(filter(None, map(self.of, disks)), None)

    def find(self, wwid: str) -> Map | None:
        """The map of a volume."""
        for name, uuid in self._uuids.all().items():
            if uuid == f'mpath-{wwid}':
                found = self._map(name)
                if found is not None and found.wwid == wwid:
                    return found
        return None

    def maps(self) -> list[Map]:
        """All maps, whoever made them."""
        found = [
            self._map(name)
            for name, uuid in sorted(self._uuids.all().items())
            if _UUID.fullmatch(uuid)
        ]
        return [one for one in found if one is not None]

    def ready(self, found: Map, writable: bool) -> bool:
        """Whether a map takes I/O."""
        directory = self._block(found.name)
        return (
            bool(found.disks)
            and bool(sysfs.read_int(directory / 'size'))
            and sysfs.read_dm(directory, 'suspended') == '0'
            and not (writable and sysfs.read_int(directory / 'ro'))
            and sysfs.exists(self._root / 'dev' / found.name)
        )

    def running(self, deadline: deadlines.Deadline) -> bool:
        """Whether multipathd answers."""
        return bool(self._call('multipath.running', deadline, about=''))

    def missing(self, deadline: deadlines.Deadline) -> str | None:
        """What is to be done so that multipathd answers; None if it does."""
        if self.running(deadline):
            return None
        return 'multipathd is not running; start it'

    def returns(self, deadline: deadlines.Deadline) -> bool:
        """Whether multipathd answers; if it has died, once it is back.

        Whoever does without it then has the disks taken from under him a
        moment later.
        """

        def look() -> bool | None:
            if self.running(deadline):
                return True
            return None if self._was_not_stopped() else False

        # Nothing tells when it answers; the slow timer does it.
        return bool(
            self._machine.uevents.wait_for(
                look, lambda _: False, deadline.sooner(_RETURN)
            )
        )

    def working(self, found: Map, deadline: deadlines.Deadline) -> list[str]:
        """The disks of a map that multipathd has not given up.

        :raises OSError: multipathd does not say
        """
        states = self._until_answered(
            'map_paths', found, deadline.sooner(_RETURN)
        )
        return [disk for disk, state in states if state == 'active']

    def _was_not_stopped(self) -> bool:
        """It leaves the file with its number behind when it dies."""
        return sysfs.exists(self._root / 'run/multipathd.pid')

    # -- changing

    def wait_for(
        self,
        wwid: str,
        disks: list[str],
        wanted: int,
        writable: bool,
        deadline: deadlines.Deadline,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Map | None:
        """The volume's map, once so many of the disks are in it.

        multipathd looks at a disk when udev has done so. Should it have
        passed over one by then, it is told to make a map of it. It may call
        the volume otherwise: the map that holds a disk is its map.

        :param wwid: what multipathd calls the volume, unless the operator has
            configured something else (uid_attribute)
        :param wanted: how many of the disks
        :param writable: whether a map that is read-only will not do
        :param give_up: asked now and then
        :returns: None when the deadline has passed, or multipathd is
            configured to leave all of the disks alone
        """

        def look() -> Map | None:
            found = self.of_any(disks) or self.find(wwid)
            if found is None or not self.ready(found, writable):
                return None
            joined = set(found.disks).intersection(disks)
            return found if len(joined) >= wanted else None

        pause = _FIRST_PAUSE
        while True:
            found = self._wait(look, _MAPS, deadline.sooner(pause))
            if found is not None or deadline.passed or give_up():
                return found
            pause = min(2 * pause, _LONGEST_PAUSE)
            refused = {
                disk
                for disk in disks
                if self.of(disk) is None
                and self._udev_has_seen(disk)
                and self._refuses('make_map', disk, deadline)
            }
            if refused.issuperset(disks):
                return None

    def listed(self, deadline: deadlines.Deadline) -> frozenset[str]:
        """The WWIDs that are to have a map, whoever wants it."""
        return frozenset(self._call('multipath.listed', deadline, about=''))

    def remember(self, wwid: str, deadline: deadlines.Deadline) -> None:
        """Have a map made even of a single path, as soon as it comes.

        Where /etc cannot be written, :meth:`wait_for` has one made.
        """
        try:
            self._call('multipath.remember', deadline, wwid)
        except (OSError, ValueError) as error:  # ValueError: see forget()
            LOG.info(
                'multipathd cannot be told %s in advance: %s', wwid, error
            )

    def forget(self, wwid: str, deadline: deadlines.Deadline) -> None:
        # A target calls its volume as it likes: what does not fit into the
        # list of multipath was never put there.
        with contextlib.suppress(ValueError):
            self._call('multipath.forget', deadline, wwid)

    def release(
        self, disk: str, wwid: str | None, deadline: deadlines.Deadline
    ) -> None:
        """Have multipathd let go of a disk that is about to be removed.

        With the last disk of a volume its map goes, unless somebody has it
        open.

        :param wwid: of the volume; None if nobody knows
        """
        held = self.of(disk)
        self._call('multipath.remove_path', deadline, disk)
        wwid = held.wwid if held else wwid
        if wwid is None:
            return
        left = self.find(wwid)
        if left is not None and not left.disks:
            self.remove(left, deadline.sooner(_RELEASE))

    def drop(self, disk: str, deadline: deadlines.Deadline) -> None:
        """Take a disk out of its map, and leave it to itself."""
        self._call('multipath.remove_path', deadline, disk)

    def remove(self, found: Map, deadline: deadlines.Deadline) -> bool:
        """Remove a map; True once the kernel no longer has it.

        udev opens each new map for a moment: that multipathd refuses is not
        final.
        """

        def attempt() -> bool | None:
            current = self._map(found.name)
            if current is None or current.wwid != found.wwid:
                return True
            if deadline.passed:
                return None
            with contextlib.suppress(OSError):
                # whether it is gone is what counts
                self._call('multipath.remove_map', deadline, found.name)
            return None if self._map(found.name) else True

        return bool(self._wait(attempt, f'/{found.name}', deadline))

    def resize(self, found: Map, deadline: deadlines.Deadline) -> None:
        """Give a map the size of its disks.

        :raises OSError: multipathd has refused until the deadline
        """
        self._until_answered('resize_map', found, deadline)

    def set_queueing(
        self, found: Map, queue: bool, deadline: deadlines.Deadline
    ) -> None:
        """Whether I/O waits while no path works, as configured, or fails.

        :raises OSError: multipathd has refused
        """
        self._until_answered(
            'set_queueing', found, deadline.sooner(_RETURN), queue
        )

    def _until_answered(
        self,
        verb: str,
        about: Map,
        deadline: deadlines.Deadline,
        *arguments: Any,
    ) -> Any:
        """Ask multipathd about a map until it knows it.

        It may not for a moment: a new map, before udev has seen it; one that
        was given the kernel name of an earlier one, whose removal multipathd
        hears of after that; any map, once multipathd was started again.

        :raises OSError: it has refused until the deadline, or is stopped
        """
        refusal = OSError(errno.ETIMEDOUT, 'multipathd was not asked in time')

        def ask() -> tuple[Any] | None:
            nonlocal refusal
            if deadline.passed:
                return None
            try:
                return (
                    self._call(
                        f'multipath.{verb}', deadline, about.name, *arguments
                    ),
                )
            except OSError as error:
                if not self._may_pass(error):
                    raise
                refusal = error
                return None

        answer = self._wait(ask, _MAPS, deadline)
        if answer is None:
            raise refusal
        return answer[0]

    def _may_pass(self, refusal: OSError) -> bool:
        if refusal.errno in _SILENCE:
            return self._was_not_stopped()
        return refusal.errno == errno.EBUSY

    def add(self, disk: str, to: Map, deadline: deadlines.Deadline) -> bool:
        """Have multipathd take a disk into a map again."""
        self._refuses('add_path', disk, deadline)
        within = deadline.sooner(_RELEASE)
        joined = self._wait(
            lambda: self._holds(to.name, disk) or None, _MAPS, within
        )
        return bool(joined)

    def _refuses(
        self, verb: str, disk: str, deadline: deadlines.Deadline
    ) -> bool:
        """Ask for something; True if it is no use to ask again."""
        try:
            self._call(f'multipath.{verb}', deadline, disk)
        except OSError as error:
            # on the blacklist; otherwise the caller looks what has come of it
            return error.errno == errno.EPERM
        except (exception.DeadlineExceeded, exception.TargetQuarantined):
            pass  # not yet, or never
        return False

    def _udev_has_seen(self, disk: str) -> bool:
        database = self._root / 'run/udev/data'
        number = sysfs.read(self._block(disk) / 'dev')
        return not sysfs.exists(database) or sysfs.exists(
            database / f'b{number}'
        )

    def _map(self, name: str) -> Map | None:
        directory = self._block(name)
        uuid = _UUID.fullmatch(sysfs.read_dm(directory, 'uuid') or '')
        if uuid is None:
            return None
        return Map(name, uuid[1], tuple(self._disks(name)))

    def _disks(self, name: str) -> list[str]:
        """The disks in a map's table that are still there.

        One that was removed stays in it until multipathd has loaded another
        table, and its kernel name is free for another disk.
        """
        return [
            disk
            for disk in sysfs.names(self._block(name) / 'slaves')
            if self._holds(name, disk)
        ]

    def _holds(self, name: str, disk: str) -> bool:
        return sysfs.exists(self._block(disk) / 'holders' / name)


def is_part(uuid: str) -> bool:
    """Whether a device-mapper uuid is a map's, or that of its partition."""
    return bool(_UUID.fullmatch(uuid) or _PARTITION.fullmatch(uuid))
