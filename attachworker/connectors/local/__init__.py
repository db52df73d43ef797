# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""local: a block device or a file that this host has already."""

from collections.abc import Callable
import errno
import fnmatch
import os
import pathlib
import stat
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.conf import local
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
        return [local.ROOTS]

    def unavailable(self) -> str | None:
        if not self._settings.local_roots:
            return 'the option local_roots of group [local] is empty'
        if not sysfs.exists(self._inside('/dev/loop-control')):
            return 'there is no /dev/loop-control; load the module loop'
        return None

    def check_allowed(self, target: base.Target) -> None:
        path, disk = self._place(target)
        # The links in /dev/vg1 or /dev/disk lead to nodes outside of it.
        parent = self._real(pathlib.PurePath(target.name).parent)
        if not self._allowed(parent if disk else path) and not (
            disk and self._named(path)
        ):
            raise _not_allowed(
                'must be a block device or a file below one of the '
                'local_roots of the worker'
            )
        if disk and not all(
            self._only_root_writes(directory)
            for directory in (parent, *map(str, pathlib.Path(parent).parents))
        ):
            raise _not_allowed(
                'must be in a directory that nobody but root may write to, '
                'nor to those above it, since it is a block device: a link '
                'could lead to any'
            )

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

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> None:
        """Refuse what is not there, no volume, or somebody else's by now.

        :raises DeviceNotFound: there is nothing
        :raises InvalidConnectionInfo: it is neither a device nor a file
        :raises DeviceInUse: it is mounted, or something stands on it
        """
        target = claim.target
        path, disk = self._place(target)
        try:
            mode = os.stat(self._inside(path)).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise base.not_found(target) from error
        if disk is not None:
            self._check_unused(disk, claim)
        elif not stat.S_ISREG(mode):
            raise _not_allowed('must be a block device or a file')

    def _check_unused(self, disk: str, claim: base.Claim) -> None:
        """Who is given a device may use it, also in another attachment."""
        target, holdings = claim.target, claim.holdings
        if target in holdings.paths(self.target_class):
            return
        if holdings.path_holders(target):
            return
        users = self._host.users.holders(disk, claim.deadline)
        if users:
            raise exception.DeviceInUse(device=disk, users=', '.join(users))

    def _only_root_writes(self, directory: str) -> bool:
        """Or the user of this process, who could say what he likes anyway."""
        found = os.stat(self._inside(directory))
        others = stat.S_IWGRP | stat.S_IWOTH
        return found.st_uid in (0, os.geteuid()) and not found.st_mode & others

    def _allowed(self, path: str) -> bool:
        return any(
            pathlib.PurePath(path).is_relative_to(
                self._real(pathlib.PurePath(root))
            )
            for root in self._settings.local_roots
        )

    def _named(self, node: str) -> bool:
        """Whether a root is a pattern for the names of such devices."""
        directory, _, name = node.rpartition('/')
        return any(
            directory == self._real(pathlib.PurePath(root).parent)
            and fnmatch.fnmatchcase(name, pathlib.PurePath(root).name)
            for root in self._settings.local_roots
            if '*' in pathlib.PurePath(root).name
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
            try:
                self._host.call(
                    'loop.attach', claim.deadline, path, info.read_only
                )
            except OSError as error:
                if error.errno != errno.ETXTBSY:
                    raise
                raise exception.DeviceInUse(
                    device=path, users=error.strerror
                ) from error
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


def _not_allowed(rule: str) -> exception.InvalidConnectionInfo:
    return exception.InvalidConnectionInfo(key='device_path', rule=rule)
