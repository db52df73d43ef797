# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Paths that come after the answer: they join the map, or are let go."""

from collections.abc import Iterable

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.connectors.base import Assembler
from attachworker.connectors.base import Path
from attachworker.tasks.attach import describe
from attachworker.tasks.attach import verified
from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)


def join(run: Run, device: objects.DeviceInfo) -> objects.DeviceInfo:
    """Wait for the paths of a map that were not there in time.

    The attachment's next operation waits for this; when there is one, what
    has not come is given up.

    :param device: as the caller was told
    :returns: as it is now; ``run.leftovers`` has what could not be put back
    """
    for target in set(run.targets).difference(connected(device, run.targets)):
        outcome = run.attempts.settle(target, run.deadline)
        try:
            joins = outcome.path is not None and _joins(run, outcome.path)
        except OSError as error:
            run.leftovers.append(f'{target}: {error}')
            continue
        if not joins:
            run.leftovers += run.let_go(target)
    if run.connector.assembler is not Assembler.MULTIPATHD:
        # the kernel itself has put the paths together
        return describe(run, run.attempts.paths()[0].disk, None)
    found = run.host.multipath.find(device.multipath_id or run.wwn)
    if found is None:
        return device
    return describe(run, found.name, found)


def connected(
    device: objects.DeviceInfo, targets: Iterable[objects.Target]
) -> list[objects.Target]:
    """Those of the targets that a device consists of."""
    return [
        target_of(path, targets)
        for path in device.paths
        if path.state == 'connected'
    ]


def lacks_paths(device: objects.DeviceInfo) -> bool:
    """Whether a device with a map has less than was asked for."""
    return any(path.state != 'connected' for path in device.paths)


def disk_of(device: objects.DeviceInfo) -> str | None:
    """The disk that a device is, or is on, where it has no map."""
    return next(
        (path.device for path in device.paths if path.state == 'connected'),
        None,
    )


def target_of(
    path: objects.PathInfo, targets: Iterable[objects.Target] = ()
) -> objects.Target:
    """The target of a path, one of those that are given if it is among them.

    A path does not tell the identifier that a target may have.
    """
    found = objects.Target(path.portal or '', path.target or '', path.lun or 0)
    if path.lun is None:
        for one in targets:
            if one[:2] == found[:2]:
                return one
    return found


def _joins(run: Run, path: Path) -> bool:
    try:
        verified(run, [path])
    except exception.AttachWorkerError as error:
        LOG.warning('%s: %s does not join: %s', run.name, path.disk, error)
        run.attempts.reject(path, error)
        return False
    if run.connector.assembler is not Assembler.MULTIPATHD:
        return True
    found = run.host.multipath.wait_for(
        run.wwn,
        [path.disk],
        1,
        False,
        run.deadline.sooner(run.map_timeout),
        give_up=run.attempts.wrapping_up,
    )
    LOG.info(
        '%s: %s of %s %s',
        run.name,
        path.disk,
        path.target,
        'has joined' if found else 'has not joined yet',
    )
    # One that multipathd has not taken yet may be taken later.
    return True
