# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The steps of a detach; each can be run again until all is gone."""

import errno
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.tasks import base
from attachworker.tasks import multipath as maps


class FindPaths(base.Task):
    """See which devices of the volume this host has, and nobody shares.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    default_provides = 'paths'

    def execute(
        self, connector: connectors.Connector
    ) -> list[connectors.Path]:
        run = self.run
        shared = [one for one in run.targets if run.claims.shared(one)]
        if shared:
            run.warnings.append(
                'the device stays: another attachment of this host uses it'
            )
        found = [
            path
            for target in run.targets
            if target not in shared
            for path in connector.paths(target)
            if self._is_ours(path)
        ]
        if not run.force:
            for path in found:
                run.host.check_device(path.disk, path.address)
        return found

    def _is_ours(self, path: connectors.Path) -> bool:
        """At the LUN there may be another volume by now.

        Asked from the kernel: the storage may have taken ours away already.
        """
        run, found = self.run, path.wwn
        if run.expected_wwn is None or found is None:
            return True
        if objects.normalise_wwn(found) == objects.normalise_wwn(
            run.expected_wwn
        ):
            return True
        if not run.force:
            raise exception.IdentityMismatch(
                device=path.disk, found=found, expected=run.expected_wwn
            )
        run.strangers.add(path.target)
        run.warnings.append(
            f'{path.disk} is {found} by now and stays: it is another volume'
        )
        return False


class CheckUnused(base.Task):
    """Make sure that nobody uses the devices.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(
        self, paths: list[connectors.Path], map: multipath.Map | None
    ) -> None:
        disks = [path.disk for path in paths]
        if map is not None and not disks:
            disks = [map.name]
        # below it may be something else by now, or what others use, too
        mapping = self.run.host.encryption.find(self.run.mapping)
        disks += [mapping.device] if mapping else []
        told: set[str] = set()
        for disk, found in self._users(disks).items():
            users = [one for one in found if one not in told]
            if users and not self.run.force:
                raise exception.DeviceInUse(
                    device=map.name if map else disk, users=', '.join(users)
                )
            told.update(users)
            self.run.warnings += [
                f'{disk} was in use by {user}' for user in users
            ]

    def _users(self, disks: list[str]) -> dict[str, list[str]]:
        try:
            return self.run.host.block.users(
                disks, self.run.deadline, self.run.mapping
            )
        except OSError as error:
            names = ', '.join(disks)
            if not self.run.force:
                raise exception.HostToolFailed(
                    tool=f'Looking for users of {names}',
                    reason=str(error),
                ) from error
            return {names: [f'nobody knows whom ({error})']}


class FlushDevice(base.Task):
    """Write back what the kernel still holds for the volume.

    Through the mapping, if there is one, and then through the map: single
    paths may be dead.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(
        self, paths: list[connectors.Path], map: multipath.Map | None
    ) -> None:
        deadline = self.run.deadline
        if self.run.force:
            deadline = deadline.sooner(self.run.flush_timeout)
        if map is not None and not map.disks:
            self._give_up(map)
            return
        mapping = self.run.host.encryption.find(self.run.mapping)
        disks = [mapping.device] if mapping and mapping.disks else []
        disks += [map.name] if map else [path.disk for path in paths]
        for disk in disks:
            try:
                if map is not None:
                    self._prepare(map)
                self.run.host.block.flush(disk, deadline)
            except (
                OSError,
                exception.DeadlineExceeded,
                exception.TargetQuarantined,
            ) as error:
                if self.run.host.block.size(disk) is None:
                    continue  # gone meanwhile, and with it what it held
                if not self.run.force:
                    raise exception.FlushFailed(
                        device=disk, reason=str(error)
                    ) from error
                self.run.warnings.append(
                    f'{disk} could not be flushed ({error}): data that '
                    'was written last may be lost'
                )

    def _give_up(self, found: multipath.Map) -> None:
        """Somebody has removed all paths of a map, and they do not return."""
        maps.stop_queueing(self.run, found)
        self.run.warnings.append(
            f'{found.name} had no path left: what it still held is lost'
        )

    def _prepare(self, found: multipath.Map) -> None:
        """A map without a working path queues what is to be flushed.

        :raises OSError: the flush would not end
        """
        run = self.run
        if not run.host.multipath.running(run.deadline):
            return
        if run.host.multipath.working(found, run.deadline):
            return
        if not run.force:
            raise OSError(errno.EIO, 'none of its paths works')
        run.host.multipath.set_queueing(found, False, run.deadline)


class RecordDetaching(base.Task):
    """Have the journal say that the device is not whole any more.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self) -> None:
        self.run.on_change()


class DisconnectTarget(base.Task):
    """Take one target away, as the revert of ConnectTarget does.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def __init__(self, run: Any, target: connectors.Target) -> None:
        super().__init__(run, target)
        self._target = target

    def execute(self, connector: connectors.Connector) -> None:
        if self._target in self.run.strangers:
            self.run.claims.release(self._target)
            return
        self.run.leftovers += connector.disconnect(
            self._target, self.run.claims, self.run.deadline, keep_found=False
        )


class VerifyGone(base.Task):
    """Prove that nothing of the volume is left.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(
        self, connector: connectors.Connector, map: multipath.Map | None
    ) -> None:
        run = self.run
        wwid = map.wwid if map else run.expected_wwn
        shared = any(run.claims.shared(target) for target in run.targets)
        if wwid is not None and not shared and (map or run.multipath):
            self._check_map(wwid, ours=map is not None)
        for target in run.targets:
            if target in run.strangers or run.claims.shared(target):
                continue
            run.leftovers += [
                f'device {path.disk}'
                for path in connector.paths(target)
                if not path.lasting
                and f'device {path.disk}' not in run.leftovers
            ]
        if run.host.encryption.find(run.mapping):
            run.leftovers.append(f'mapping {run.mapping}')
        if run.leftovers:
            raise exception.HostToolFailed(
                tool='The detach', reason='; '.join(run.leftovers)
            )

    def _check_map(self, wwid: str, ours: bool) -> None:
        """It may have outlived its removal, or have come back."""
        run = self.run
        multipath = run.host.multipath
        left = multipath.find(wwid)
        if left is not None and left.disks and not ours:
            return  # the paths that it has are somebody else's
        if left is not None and not multipath.remove(
            left, maps.removal_deadline(run, left)
        ):
            run.leftovers.append(f'map {left.name} ({wwid})')
        else:
            multipath.forget(wwid, run.deadline)
