# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""local: a block device or a file that this host has already."""

from collections.abc import Callable
import os
import pathlib
import stat
from typing import Any

from oslo_config import cfg

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors.local import loops
from attachworker.host import Host
from attachworker.host import block
from attachworker.host import sysfs


class LocalConnector(base.Connector):
    """Serves ``driver_volume_type`` local.

    A block device is used as it is; a file gets a loop device.
    """

    device_type = 'local'
    assembler = base.Assembler.NONE

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._loops = loops.Loops(host)

    @classmethod
    def options(cls) -> list[Any]:
        return [
            cfg.ListOpt(
                'local_roots',
                default=[],
                help='Directories whose block devices and files may be '
                'attached as volumes, for example /dev/vg1 or '
                '/var/lib/volumes. None by default: whoever may write to '
                'the bus could have any disk of this host otherwise.',
            ),
        ]

    def unavailable(self) -> str | None:
        if not self._settings.local_roots:
            return 'the option local_roots of group [local] is empty'
        if not sysfs.exists(self._inside('/dev/loop-control')):
            return 'there is no /dev/loop-control; load the module loop'
        return None

    def connect(
        self,
        info: objects.ConnectionInfo,
        claim: base.Claim,
        interest: base.Interest,
    ) -> base.Path:
        self._check(claim.target)
        return super().connect(info, claim, interest)

    def links(self, claimed: list[str]) -> list[base.Link]:
        targets = [
            base.Target.from_key(key) for key in claimed if key.startswith('/')
        ]
        known = {self._place(target)[0] for target in targets}
        targets += [
            base.Target('', path, 0)
            for path in sorted(set(self._loops.backing_files().values()))
            if path not in known and self._allowed(path)
        ]
        return [
            base.Link(
                path.disk,
                target.name,
                frozenset({''}),
                (base.LinkedDevice(0, path.disk, path.disk, wwn=path.wwn),),
            )
            for target in targets
            for path in self._paths(target, self._loops.devices)
        ]

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        if not path.lasting:
            file, _ = self._place(path.target)
            self._host.call('loop.resize', deadline, path.disk, file)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        if path.disk in self._loops.backing_files():
            return self._loops.file(path.disk, deadline).identity
        return self._host.block.identifier(path.disk)

    # -- devices

    def _acted_on(self, target: base.Target) -> list[str]:
        return [self._lock_name(target)]

    def _lock_name(self, target: base.Target) -> str:
        path, _ = self._place(target)
        return path

    def _devices(self, target: base.Target) -> list[base.Path]:
        """Of a file, the loop devices that a worker has made."""
        return self._paths(target, self._loops.ours)

    def _paths(
        self, target: base.Target, devices: Callable[[str], list[str]]
    ) -> list[base.Path]:
        path, disk = self._place(target)
        if disk is not None:
            wwn = self._host.block.identifier(disk)
            # An attachment from before a reboot had another one.
            wwn = block.lasting(wwn) if wwn else None
            return [base.Path(target, disk, disk, wwn, True)]
        return [base.Path(target, device, device) for device in devices(path)]

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        path, disk = self._place(claim.target)
        if disk is None:
            self._make_loop_device(info, path, claim)
        paths = self._devices(claim.target)
        if not paths:
            raise base.not_found(claim.target)
        return paths[0]

    def _remove(self, path: base.Path, claim: base.Claim) -> bool:
        file, _ = self._place(path.target)
        return self._loops.detach(path.disk, file, claim.deadline)

    # -- where it is

    def _place(self, target: base.Target) -> tuple[str, str | None]:
        """Its path without symbolic links, and its kernel name.

        The name is None if it is no block device.
        """
        path = self._real(pathlib.PurePath(target.name))
        return path, self._host.block.of_node(path)

    def _check(self, target: base.Target) -> None:
        """Refuse what is not there, and what the operator has not allowed.

        :raises DeviceNotFound: there is nothing
        :raises InvalidConnectionInfo: it may not be used
        """
        path, disk = self._place(target)
        # The links in /dev/vg1 or /dev/disk lead to nodes outside of it.
        parent = self._real(pathlib.PurePath(target.name).parent)
        allowed = self._allowed(parent if disk else path)
        try:
            mode = os.stat(self._inside(path)).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            if allowed:
                raise base.not_found(target) from error
            mode = 0
        if not allowed or not (disk or stat.S_ISREG(mode)):
            raise exception.InvalidConnectionInfo(
                key='device_path',
                rule='must be a block device or a file below one of the '
                'local_roots of the worker',
            )

    def _allowed(self, path: str) -> bool:
        return any(
            pathlib.PurePath(path).is_relative_to(
                self._real(pathlib.PurePath(root))
            )
            for root in self._settings.local_roots
        )

    def _real(self, path: pathlib.PurePath) -> str:
        """Without symbolic links, whether it is there or not."""
        place = self._inside(str(path))
        real = sysfs.resolved(place) or os.path.realpath(place)
        return os.path.join('/', os.path.relpath(real, self._host.root))

    def _inside(self, path: str) -> pathlib.Path:
        return pathlib.Path(self._host.root) / path.lstrip('/')

    # -- loop devices

    def _make_loop_device(
        self,
        info: objects.ConnectionInfo,
        path: str,
        claim: base.Claim,
    ) -> None:
        target, holdings = claim.target, claim.holdings
        found = self._loops.devices(path)
        for device in found:
            self._check_same_file(device, path, claim.deadline)
        if not found:
            holdings.intend_device(target)
            self._host.call(
                'loop.attach', claim.deadline, path, info.read_only
            )
        elif not self._loops.ours(path) or not (
            holdings.made_device(target) or holdings.path_holders(target)
        ):
            raise exception.DeviceInUse(
                device=path, users=f'{found[0]}, which somebody else has made'
            )

    def _check_same_file(
        self, device: str, path: str, deadline: deadlines.Deadline
    ) -> None:
        """Another file may have the name of an older one by now.

        It was made anew, or a file system was mounted over it.

        :raises IdentityMismatch: the device is that of the older one
        """
        found = self._loops.file(device, deadline)
        now = os.stat(self._inside(path))
        if (found.device, found.inode) != (now.st_dev, now.st_ino):
            raise exception.IdentityMismatch(
                device=device,
                found=f'{found.identity}, which has lost its name; detach it',
                expected=loops.File(now.st_dev, now.st_ino, '').identity,
            )
