# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The steps of an attach that are the same for every protocol."""

from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.tasks import base
from attachworker.tasks.run import Run


class GetConnector(base.Task):
    """Find out how this host connects the volume's protocol.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'connector'

    def execute(self) -> connectors.Connector:
        if self.run.encryption is not None:
            check_cryptsetup(self.run)
        connector = self.run.get_connector(self.run.info.protocol)
        if self.run.enforce_multipath:
            self._check_multipathd()
        return connector

    def _check_multipathd(self) -> None:
        if not self.run.host.multipath.running(self.run.deadline):
            raise exception.MultipathFailed(
                reason='multipathd is not running; start it'
            )


class ConnectTarget(base.Task):
    """Connect one target, or learn that others were quicker.

    That a target cannot be connected is an outcome and not an error: TaskFlow
    would undo the good ones too. GatherPaths judges.

    Reversion strategy: stop the attempt and disconnect the target, whether
    the attempt had succeeded, failed, or not yet ended.
    """

    def __init__(self, run: Any, target: connectors.Target) -> None:
        super().__init__(run, target, provides=outcome_key(target))
        self._target = target

    def execute(
        self, connector: connectors.Connector
    ) -> connectors.PathOutcome:
        run = self.run
        run.attempts.start(
            connector, run.info, self._target, run.claims, run.deadline
        )
        return run.attempts.wait(self._target, run.deadline)

    def revert(self, **kwargs: Any) -> None:
        self.run.leftovers += self.run.let_go(self._target)


class GatherPaths(base.Task):
    """Decide whether enough targets are connected.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'outcomes'

    def __init__(self, run: Any) -> None:
        super().__init__(
            run, requires=[outcome_key(target) for target in run.targets]
        )

    def execute(self, **outcomes: Any) -> list[connectors.PathOutcome]:
        found = [outcomes[outcome_key(target)] for target in self.run.targets]
        good = [outcome for outcome in found if outcome.path]
        errors = [outcome for outcome in found if outcome.error]
        if errors and not good:
            errors[0].error.step = f'ConnectTarget:{errors[0].target}'
            raise errors[0].error
        # Without a map a device has one path, however many are connected.
        usable = len(good) if self.run.multipath else 1
        if usable < self.run.min_paths:
            raise exception.NotEnoughPaths(
                found=usable, wanted=self.run.min_paths
            )
        return found


class FindWwn(base.Task):
    """Learn which volume the paths lead to, and that it is the right one.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'wwn'

    def execute(
        self,
        connector: connectors.Connector,
        outcomes: list[connectors.PathOutcome],
    ) -> str:
        paths = [one.path for one in outcomes if one.path]
        _, wwn = verified(self.run, connector, paths, self.run.expected_wwn)
        return wwn


class VerifyDevice(base.Task):
    """Read from the device and describe it.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'device'

    def execute(
        self, wwn: str, map: multipath.Map | None
    ) -> objects.DeviceInfo:
        run = self.run
        path = run.attempts.paths()[0]
        disk = map.name if map else path.disk
        size = run.host.block.size(disk)
        if not size:
            raise exception.DeviceNotFound(volume=path.target.title)
        try:
            run.host.block.read_first_block(disk, run.deadline)
        except OSError as error:
            raise exception.HostToolFailed(
                tool=f'Reading {disk}', reason=str(error)
            ) from error
        if run.info.access_mode == 'rw' and run.host.block.read_only(disk):
            run.warnings.append(f'{disk} is read-only on the storage')
        return describe(run, wwn, disk, map)


def verified(
    run: Run,
    connector: connectors.Connector,
    paths: list[connectors.Path],
    expected: str | None,
) -> tuple[list[connectors.Path], str]:
    """The paths that answer, and the volume that all of them lead to.

    :param expected: the volume's identifier; None if nobody knows it yet
    :raises IdentityMismatch: one leads to another volume
    :raises DeviceNotFound: none answers
    """
    alive: dict[connectors.Path, str] = {}
    silent: list[exception.AttachWorkerError] = []
    for path in paths:
        try:
            found = connector.identify(path, run.deadline)
        except exception.DeviceNotFound as error:
            # it died meanwhile; another may do
            run.attempts.reject(path, error)
            silent.append(error)
            continue
        expected = expected or found
        if objects.normalise_wwn(found) != objects.normalise_wwn(expected):
            raise exception.IdentityMismatch(
                device=path.disk, found=found, expected=expected
            )
        alive[path] = found
    if not alive:
        raise silent[0]
    return list(alive), next(iter(alive.values()))


def describe(
    run: Run,
    wwn: str,
    disk: str,
    found: multipath.Map | None,
) -> objects.DeviceInfo:
    """What the caller is told of the device, or of the mapping on it.

    :param disk: the device: the map, or a disk where there is no map
    """
    disks = found.disks if found else (disk,)
    paths = [
        _path_info(run.attempts.outcome(one), disks) for one in run.targets
    ]
    connector = run.get_connector(run.info.protocol)
    mapped = bool(found) or (run.multipath and not connector.scsi)
    if not mapped:
        # the others are let go
        paths = [
            one
            for one in paths
            if one.state != 'connecting'
            and one.error != exception.OperationCancelled.code
        ]
    opened = run.encryption and run.host.encryption.find(run.mapping)
    return objects.DeviceInfo(
        type=connector.device_type,
        path=opened.path if opened else f'/dev/{disk}',
        scsi_wwn=wwn if connector.scsi else None,
        multipath_id=found.wwid if found else None,
        size=run.host.block.size(opened.device if opened else disk),
        degraded=run.multipath
        and (not mapped or any(one.state != 'connected' for one in paths)),
        paths=paths,
    )


def check_cryptsetup(run: Run) -> None:
    """:raises HostToolMissing: this host cannot open or close anything"""
    if run.host.tool('cryptsetup') is None:
        raise exception.HostToolMissing(
            tool='cryptsetup', reason='install it, as cryptsetup-bin perhaps'
        )


def outcome_key(target: connectors.Target) -> str:
    """The store key of a target's PathOutcome."""
    return f'outcome:{target}'


def _path_info(
    outcome: connectors.PathOutcome, disks: tuple[str, ...]
) -> objects.PathInfo:
    disk = outcome.path.disk if outcome.path else None
    portal, name, lun = outcome.target
    connected = disk in disks
    return objects.PathInfo(
        device=disk if connected else None,
        portal=portal or None,
        target=name,
        lun=lun if portal and isinstance(lun, int) else None,
        state='connected'
        if connected
        else 'failed'
        if outcome.error
        else 'connecting',
        error=outcome.error.code if outcome.error else None,
    )
