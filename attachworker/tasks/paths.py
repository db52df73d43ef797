# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Which paths of an attached volume work."""

from typing import NamedTuple

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.tasks import takedown
from attachworker.tasks.run import Run


class LivePaths(NamedTuple):
    """The devices of a volume that is attached.

    :ivar paths: those that answer
    :ivar map: their map; None: there is none
    :ivar silent: those that do not answer
    """

    paths: list[connectors.Path]
    map: multipath.Map | None
    silent: list[connectors.Path]


def live_paths(
    run: Run,
    deadline: deadlines.Deadline,
    failure: type[exception.ExtendFailed | exception.EncryptionFailed],
) -> LivePaths:
    """See which devices of the volume answer, and that they are its own.

    The caller has the lock of the volume.

    :param failure: raised if none answers
    :raises IdentityMismatch: one is another volume's
    """
    connector = run.connector
    found = [
        path for target in run.targets for path in connector.paths(target)
    ]
    held = run.host.multipath.of_any(path.disk for path in found)
    working = None
    if held is not None:
        found = _members(run, found, held)
        working = _working(run, held, deadline, failure)
    for path in found:
        run.host.check_device(path.disk, path.address)
    alive: list[connectors.Path] = []
    silent: list[connectors.Path] = []
    for path in found:
        works = working is None or path.disk in working
        answers = works and _answers(run, path, deadline)
        (alive if answers else silent).append(path)
    if not alive:
        raise failure(device=run.name, reason='no path to it works; mend one')
    return LivePaths(alive, held, silent)


def _members(
    run: Run, paths: list[connectors.Path], held: multipath.Map
) -> list[connectors.Path]:
    """All paths of a map: those of other attachments are the volume's, too."""
    known = {path.disk: path for path in paths}
    others = map(
        run.connector.path_of,
        (disk for disk in held.disks if disk not in known),
    )
    return [*paths, *filter(None, others)]


def _working(
    run: Run,
    held: multipath.Map,
    deadline: deadlines.Deadline,
    failure: type[exception.ExtendFailed | exception.EncryptionFailed],
) -> list[str]:
    try:
        return run.host.multipath.working(held, deadline)
    except OSError as error:
        raise failure(
            device=held.name, reason=f'multipathd does not answer: {error}'
        ) from error


def _answers(
    run: Run, path: connectors.Path, deadline: deadlines.Deadline
) -> bool:
    try:
        wwn = run.connector.identify(path, deadline)
    except exception.DeviceNotFound:
        return False
    takedown.check_identity(path, wwn, run.expected_wwn or wwn)
    return True
