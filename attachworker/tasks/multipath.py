# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps that put several paths under one multipath map."""

from collections.abc import Callable

from oslo_log import log as logging

from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.host.multipath import Map
from attachworker.tasks import attach
from attachworker.tasks import base
from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)

#: Seconds that a map gets until all paths are in it that are connected.
_JOINING = 3.0


def note_listed(run: Run) -> None:
    """Note what is on multipath's list before devices come: it stays there.

    multipathd itself adds a volume as it makes a map of it, which may be
    before anybody knows which volume it is.
    """
    try:
        if run.connector.assembler is connectors.Assembler.MULTIPATHD:
            run.holdings.found_listed(run.host.multipath.listed(run.deadline))
    except (exception.AttachWorkerError, OSError) as error:
        LOG.info("%s: no look at multipath's list: %s", run.name, error)


class MapMultipath(base.Task):
    """Have multipathd put the paths under a map, if one is wanted.

    Reversion strategy: remove the map, unless others have paths in it.
    """

    default_provides = 'map'

    def execute(self) -> Map | None:
        run, connector = self.run, self.run.connector
        if connector.assembler is not connectors.Assembler.MULTIPATHD:
            if run.assembles:
                # what the kernel puts together by itself
                run.attempts.wait_for_all(run.deadline.sooner(run.path_grace))
            elif (
                run.multipath
                and connector.assembler is connectors.Assembler.KERNEL
            ):
                reason = connector.cannot_assemble()
                run.warnings.append(f'a single path: {reason}')
            return None
        if not run.multipath:
            found = self._theirs()
            if found is None:
                self._remove_unwanted()
            return found
        if self._others(had_map=False):
            self._do_without('another attachment uses it without one')
            return None
        if run.kept and run.map_wwid is None:
            self._do_without('this attachment has it without one')
            return None
        if not run.host.multipath.returns(run.deadline):
            self._do_without('multipathd is not running; start it')
            return None
        run.made_map = self._find() is None
        return self._assemble()

    def _assemble(self) -> Map | None:
        run, wwn = self.run, self.run.wwn
        if run.made_map:
            # Unless it is configured to make maps of its own accord,
            # multipathd makes one only of what is in this list.
            run.host.multipath.remember(wwn, run.deadline)
        # Others may be about to come.
        run.attempts.wait_for_all(run.deadline.sooner(run.path_grace))
        paths, _ = attach.verified(run, run.attempts.paths())
        self._grow(paths)
        joining = min(_JOINING, run.map_timeout)
        found = self._wait(
            paths, len(paths), joining, lambda: self._older(paths) is not None
        )
        if found is None:
            # multipathd may have made a map of an older disk meanwhile.
            self._grow(paths)
            found = self._wait(paths, run.min_paths, run.map_timeout)
        if found is not None:
            attach.check_members(run, found, paths)
            if found.wwid != wwn:
                run.holdings.note_line(found.wwid)
            return found
        unready = self._find()
        if unready is not None:
            # it holds the paths: they are of no use on their own
            raise exception.MultipathFailed(
                reason=f'{unready.name} is suspended, read-only, or has '
                f'fewer than {run.min_paths} of its paths'
            )
        self._do_without(
            f'multipathd has made none of {wwn}; see its log, and the '
            'blacklist of multipath.conf'
        )
        return None

    def _find(self) -> Map | None:
        """The map of the volume, whatever multipathd calls that."""
        multipath = self.run.host.multipath
        disks = [path.disk for path in self.run.attempts.paths()]
        return multipath.of_any(disks) or multipath.find(self.run.wwn)

    def _wait(
        self,
        paths: list[connectors.Path],
        wanted: int,
        seconds: float,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Map | None:
        run = self.run
        return run.host.multipath.wait_for(
            run.wwn,
            [path.disk for path in paths],
            wanted,
            run.info.access_mode == 'rw',
            run.deadline.sooner(seconds),
            give_up,
        )

    def _grow(self, paths: list[connectors.Path]) -> None:
        """Have the map and all paths know the volume's present size.

        Those that came before it grew have the old one, and multipathd takes
        no path of another size into a map.
        """
        run, host = self.run, self.run.host
        found = self._older(paths)
        if found is None:
            return
        working = host.multipath.working(found, run.deadline)
        members = map(run.connector.path_of, working)
        for path in {*paths, *filter(None, members)}:
            run.connector.rescan(path, run.deadline)
        if self._older(paths) is not None:
            host.multipath.resize(found, run.deadline.sooner(run.map_timeout))

    def _older(self, paths: list[connectors.Path]) -> Map | None:
        """The volume's map, if it has another size than a path."""
        found = self._find()
        if found is None:
            return None
        sizes = self.run.sizes([found.name, *(path.disk for path in paths)])
        size = sizes.pop(found.name, None)
        return found if size and set(sizes.values()) - {size} else None

    def revert(self, **kwargs: object) -> None:
        self.run.leftovers += self.run.remove_own_map()

    def _theirs(self) -> Map | None:
        """The map that this, or another, attachment has of the volume.

        :raises MultipathFailed: the disk of this one does not join it
        """
        run = self.run
        if not run.map_wwid and not self._others(had_map=True):
            return None
        found = self._find()
        if found is None:
            return None
        paths = run.attempts.paths()
        self._grow(paths)
        seconds = min(_JOINING, run.map_timeout)
        joined = self._wait(paths, 1, seconds)
        if joined is None:
            raise exception.MultipathFailed(
                reason=f'{paths[0].disk} does not become a path of '
                f'{found.name}, as which another attachment has the volume'
            )
        attach.check_members(run, joined, paths)
        return joined

    def _remove_unwanted(self) -> None:
        """Remove a map of a disk that is to be used as it is.

        multipathd makes one when two attachments without a map come and go
        at the same time, each with a disk of its own.
        """
        run = self.run
        disk = run.attempts.paths()[0].disk
        held = run.host.multipath.of(disk)
        if held is not None and attach.is_map_of(run, held, disk):
            down = run.take_down(run.deadline, undo=True)
            down.remove_unwanted(held.wwid, disk)

    def _others(self, had_map: bool) -> bool:
        """Whether another attachment has the volume with, or without, one."""
        run, holdings = self.run, self.run.holdings
        holders = holdings.volume_holders(run.wwn, run.targets[0])
        return any(holdings.has_map(name) is had_map for name in holders)

    def _do_without(self, reason: str) -> None:
        run = self.run
        if run.enforce_multipath:
            raise exception.MultipathFailed(reason=reason)
        if run.min_paths > 1:
            raise exception.NotEnoughPaths(found=1, wanted=run.min_paths)
        attach.reject_unreadable(run)
        run.warnings.append(f'a single path, without a map: {reason}')


class FindMap(base.Task):
    """See which map holds the devices, or is left without any.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    default_provides = 'map'

    def execute(self, paths: list[connectors.Path]) -> Map | None:
        return self.run.takedown.find_map()


class RemoveMap(base.Task):
    """Remove the map, before the paths below it go.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, map: Map | None) -> None:
        run = self.run
        left = run.takedown.remove_map() if map else []
        if left and not run.force:
            raise exception.MultipathFailed(
                reason=f'{"; ".join(left)}: it cannot be removed; see the '
                'log of multipathd'
            )
        run.warnings += [f'{one} outlived its paths' for one in left]
