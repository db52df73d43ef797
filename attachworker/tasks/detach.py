# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The steps of a detach; each can be run again until all is gone."""

import errno
from typing import Any

from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.tasks import base
from attachworker.tasks import takedown


class FindPaths(base.Task):
    """See which devices of the volume this host has, and nobody shares.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    default_provides = 'paths'

    def execute(self) -> list[connectors.Path]:
        run = self.run
        if run.adopts:
            for target in run.targets:
                run.connector.check_allowed(target)
        if run.takedown.shared:
            run.warnings.append(takedown.SHARED)
        found = [
            path
            for target in run.targets
            if not run.takedown.other_attachments
            and not run.holdings.path_holders(target)
            for path in run.connector.paths(target)
            if not (run.undoes and run.takedown.was_there(path))
            if self._is_ours(path)
        ]
        run.warnings += [
            f'{path.disk} stays: it was there before it was attached'
            for path in found
            if run.takedown.was_there(path)
        ]
        if not run.force:
            for path in found:
                run.host.check_device(path.disk, path.address)
        return found

    def _is_ours(self, path: connectors.Path) -> bool:
        """At the LUN there may be another volume by now."""
        run = self.run
        if not run.takedown.is_other_volume(path):
            return True
        if not run.force:
            raise exception.IdentityMismatch(
                device=path.disk, found=path.wwn, expected=run.expected_wwn
            )
        run.warnings.append(
            f'{path.disk} is {path.wwn} by now and stays: it is another volume'
        )
        return False


class CheckUnused(base.Task):
    """Make sure that nobody uses the devices.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(
        self, paths: list[connectors.Path], map: multipath.Map | None
    ) -> None:
        run = self.run
        disks = [
            path.disk for path in paths if not run.takedown.was_there(path)
        ]
        if map is not None and not disks:
            disks = [map.name]
        # below it may be something else by now, or what others use, too
        mapping = self.run.host.encryption.find(self.run.mapping)
        disks += [mapping.device] if mapping else []
        own = run.takedown.own_file_systems(disks)
        if own:
            raise exception.DeviceOfHost(
                device=', '.join(disks), what=', '.join(own)
            )
        foreign = [path.disk for path in paths if not path.lasting]
        foreign += [map.name] if map is not None else []
        if foreign and run.adopts and run.force and not run.forces_foreign:
            raise exception.ForeignDevice(device=', '.join(foreign))
        if run.takedown.local_attachments and not run.force:
            raise exception.DeviceInUse(
                device=', '.join(disks),
                users=', '.join(run.takedown.local_attachments),
            )
        told: set[str] = set()
        for disk, found in run.takedown.lasting_users(disks).items():
            users = [one for one in found if one not in told]
            if users and not self.run.force:
                raise exception.DeviceInUse(
                    device=map.name if map else disk, users=', '.join(users)
                )
            told.update(users)
            self.run.warnings += [
                f'{disk} was in use by {user}' for user in users
            ]


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
                self._check_resumed(disk)
                if map is not None:
                    self._prepare(map)
                self.run.connector.devices.flush(disk, deadline)
            except (
                OSError,
                exception.DeadlineExceeded,
                exception.TargetQuarantined,
            ) as error:
                if self.run.connector.devices.device(disk) is None:
                    continue  # gone meanwhile, and with it what it held
                if not self.run.force:
                    raise exception.FlushFailed(
                        device=disk, reason=str(error)
                    ) from error
                self.run.warnings.append(
                    f'{disk} could not be flushed ({error}): data that '
                    'was written last may be lost'
                )

    def _check_resumed(self, disk: str) -> None:
        """:raises OSError: the flush would not end"""
        devices = self.run.connector.devices
        if not devices.resumes(disk, self.run.deadline):
            raise OSError(
                errno.EBUSY,
                f'{disk} is suspended; dmsetup resume /dev/{disk} has it '
                'take I/O again',
            )

    def _give_up(self, found: multipath.Map) -> None:
        """Somebody has removed all paths of a map, and they do not return."""
        self.run.takedown.stop_queueing(found)
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

    def execute(self) -> None:
        self.run.leftovers += self.run.takedown.disconnect(self._target)


class VerifyGone(base.Task):
    """Prove that nothing of the volume is left.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, map: multipath.Map | None) -> None:
        run = self.run
        left = run.takedown.leftovers(map)
        run.leftovers += [one for one in left if one not in run.leftovers]
        if run.leftovers:
            raise exception.HostToolFailed(
                what='The detach', reason='; '.join(run.leftovers)
            )
