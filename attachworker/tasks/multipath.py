# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps that put several paths under one multipath map."""

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.host import block
from attachworker.host.multipath import Map
from attachworker.tasks import attach
from attachworker.tasks import base
from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)

#: Seconds in which a map that is in use may turn out not to be.
_GRACE = 2.0


class MapMultipath(base.Task):
    """Have multipathd put the paths under a map, if one is wanted.

    Reversion strategy: have multipathd let go of the paths; the map goes with
    the last of them.
    """

    default_provides = 'map'

    #: The WWID of a map that was not there before.
    _made: str | None = None

    def execute(self, connector: connectors.Connector, wwn: str) -> Map | None:
        run = self.run
        if not run.multipath:
            return None
        if not connector.scsi:
            # what the kernel puts together by itself
            run.attempts.wait_for_all(run.deadline.sooner(run.path_grace))
            return None
        if not run.host.multipath.returns(run.deadline):
            self._do_without('multipathd is not running; start it')
            return None
        if run.host.multipath.find(wwn) is None:
            self._made = wwn
        # Others may be about to come, and two paths need no persuasion.
        run.attempts.wait_for_all(run.deadline.sooner(run.path_grace))
        paths, _ = attach.verified(run, connector, run.attempts.paths(), wwn)
        if len(paths) < 2:
            run.host.multipath.remember(wwn, run.deadline)
        found = run.host.multipath.wait_for(
            wwn,
            [path.disk for path in paths],
            run.min_paths,
            run.info.access_mode == 'rw',
            run.deadline.sooner(run.map_timeout),
        )
        if found is not None:
            check_members(run, found, paths)
            return found
        unready = run.host.multipath.find(wwn)
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

    def revert(self, **kwargs: object) -> None:
        if self._made is None:
            return
        run = self.run
        for path in run.attempts.paths():
            run.host.multipath.release(path.disk, None, run.undo_deadline)
        left = run.host.multipath.find(self._made)
        if left is not None and not left.disks:
            run.leftovers.append(f'map {left.name} ({left.wwid})')

    def _do_without(self, reason: str) -> None:
        run = self.run
        if run.enforce_multipath:
            raise exception.MultipathFailed(reason=reason)
        if run.min_paths > 1:
            raise exception.NotEnoughPaths(found=1, wanted=run.min_paths)
        run.warnings.append(f'a single path, without a map: {reason}')


class FindMap(base.Task):
    """See which map holds the devices, or is left without any.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    default_provides = 'map'

    def execute(self, paths: list[connectors.Path]) -> Map | None:
        run = self.run
        if any(run.claims.shared(target) for target in run.targets):
            return None
        multipath = run.host.multipath
        held = [found for path in paths if (found := multipath.of(path.disk))]
        if not held and run.expected_wwn:
            held = [
                found for found in [multipath.find(run.expected_wwn)] if found
            ]
        if not held:
            return None
        strangers = set(held[0].disks).difference(path.disk for path in paths)
        if strangers:
            # it is somebody else's, too
            return None
        return held[0]


class RemoveMap(base.Task):
    """Remove the map, before the paths below it go.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, map: Map | None) -> None:
        run = self.run
        if map is None:
            return
        multipath = run.host.multipath
        if run.force:
            # nothing below it is to wait for a path that does not come back
            stop_queueing(run, map)
        if not multipath.remove(map, removal_deadline(run, map)):
            if not run.force:
                raise exception.MultipathFailed(
                    reason=f'{map.name} ({map.wwid}) cannot be removed; see '
                    'the log of multipathd'
                )
            run.warnings.append(f'{map.name} outlived its paths')


def removal_deadline(run: Run, found: Map) -> deadlines.Deadline:
    """udev closes a map soon; whoever else has it open may never."""
    block = run.host.block
    name = found.name
    in_use = run.force and block.users([name], run.deadline)[name]
    return run.deadline.sooner(_GRACE if in_use else run.map_timeout)


def stop_queueing(run: Run, found: Map) -> None:
    """Let I/O fail that waits for a path."""
    try:
        run.host.multipath.set_queueing(found, False, run.deadline)
    except OSError as error:
        LOG.warning('Map %s goes on queueing: %s', found.name, error)


def check_members(run: Run, found: Map, paths: list[connectors.Path]) -> None:
    """Make sure that a map has only paths to our volume.

    Two storage systems that give the same identifier to two volumes would
    otherwise be merged without a word.

    :raises IdentityMismatch: a stranger is in it
    """
    host = run.host
    names = {target.name for target in run.targets}
    first = paths[0].disk
    for disk in found.disks:
        name = host.iscsi.target_of(disk)
        if name is not None and name not in names:
            raise exception.IdentityMismatch(
                device=found.name,
                found=f'a map with {disk} of target {name} in it',
                expected='map of ' + ', '.join(sorted(names)),
            )
        if disk == first:
            continue
        for what, ours, theirs in (
            ('size', host.block.size(first), host.block.size(disk)),
            ('unit serial number', _serial(run, first), _serial(run, disk)),
        ):
            if None not in (ours, theirs) and ours != theirs:
                raise exception.IdentityMismatch(
                    device=disk,
                    found=f'of {what} {theirs}',
                    expected=f'{what} {ours} of {first}',
                )


def _serial(run: Run, disk: str) -> str | None:
    try:
        return run.host.scsi.serial(disk, run.deadline)
    except OSError as error:
        if error.errno not in block.NO_ANSWER:
            raise
        return None  # not every volume has one, not every path is alive
