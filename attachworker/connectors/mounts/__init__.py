# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of shares: the share is mounted, and the file is the volume."""

import errno
import re
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.conf import nfs
from attachworker.connectors import base
from attachworker.connectors.mounts import shares
from attachworker.host import Host
from attachworker.host import mounts
from attachworker.host import network
from attachworker.host import sysfs
from attachworker.objects import rules

LOG = logging.getLogger(__name__)

#: A mount has a number that another one may get. What is in the journal as a
#: link that was made is the share, and whether it was made here the helper
#: knows.
_MADE = 1
_BEFORE = 0
#: What mount.nfs says of a share that is not there, and of a server that does
#: not answer.
_NOT_THERE = re.compile('No such file or directory')
_NO_ANSWER = re.compile(
    'Connection refused|[Tt]imed out|No route to host|unreachable'
)
#: Those that a TCP connection tells of.
_PROTOCOLS = ('tcp', 'tcp6')
#: Options that say the same, or the opposite.
_ALIKE = {
    'nfsvers': 'vers',
    'soft': 'hard',
    'softerr': 'hard',
    'ro': 'rw',
    'async': 'sync',
} | {
    f'no{name}': name
    for name in (
        'ac',
        'acl',
        'cto',
        'lock',
        'rdirplus',
        'resvport',
        'sharecache',
    )
}
#: Seconds that a mount gets to go of which nobody waits for the server.
_LAZY = 5.0


class NFSConnector(base.Connector):
    """Serves ``driver_volume_type`` nfs.

    A share is mounted once, for all volumes in it, and the mount goes with
    the last of them. One that somebody else has made is used, and stays.
    """

    device_type = 'file'
    assembler = base.Assembler.NONE
    target_class = objects.FileTarget

    kind = 'nfs'
    #: What the kernel calls its file systems.
    types = ('nfs', 'nfs4')
    tool = 'mount.nfs'

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._shares = shares.Shares(
            host, self.kind, settings.mount_point_base
        )
        self._files = shares.Files(host, self.kind, self._shares)

    @classmethod
    def options(cls) -> list[Any]:
        return [
            nfs.MOUNT_POINT_BASE,
            cfg.StrOpt(
                'mount_options',
                mutable=True,
                default='',
                help='Options of each mount, with commas between them, for '
                'example "vers=4.1,timeo=100,retrans=3". They are those of '
                'nfs(5) that concern the mount alone; what a request says '
                'goes before them. With "soft" or "softerr" whoever reads or '
                'writes gets an error from a server that is dead, and data '
                'may be lost; without, all wait until it comes back. nosuid, '
                'nodev and noexec are always there.',
            ),
            cfg.IntOpt(
                'mount_timeout',
                mutable=True,
                default=30,
                min=1,
                max=600,
                help='Seconds that a server may take to have a share mounted, '
                'or taken away.',
            ),
        ]

    @property
    def devices(self) -> base.Devices:
        return self._files

    @property
    def users(self) -> base.Users:
        return self._files

    def node(self, disk: str) -> str:
        return self._files.node(disk)

    def unavailable(self) -> str | None:
        directory = self._shares.base
        group = f'of group [{self.kind}]'
        if not directory:
            return f'the option mount_point_base {group} is not set'
        if not sysfs.exists(self._host.root / directory.lstrip('/')):
            return (
                f'there is no {directory}, the mount_point_base {group}; make '
                'the directory'
            )
        if self._host.tool(self.tool) is None:
            return (
                f'{self.tool} is not installed; it is in nfs-common or '
                'nfs-utils'
            )
        try:
            rules.mount_options(self._settings.mount_options or 'rw')
        except rules.RuleBroken as error:
            return f'the option mount_options {group} {error}'
        return None

    def disconnect(
        self, claim: base.Claim, may_remove: base.MayRemove
    ) -> list[str]:
        """By force also where a verb waits for a server that is dead."""
        name = claim.target.name
        if not claim.force or not self._host.verbs.unfinished(name):
            return super().disconnect(claim, may_remove)
        with self._link_held(claim.target, claim.deadline):
            left = self._leave_link(claim, may_remove, [])
            if not left:
                claim.holdings.release(claim.target)
        return left

    def links(self, claimed: list[str]) -> list[base.Link]:
        files = [
            objects.FileTarget.from_key(key)
            for key in claimed
            if f',{self.kind}-' in key
        ]
        return [
            self._link_of(directory, mount, files)
            for directory, mount in self._shares.mounted().items()
        ]

    def _link_of(
        self,
        directory: str,
        mount: mounts.Mount,
        files: list[objects.FileTarget],
    ) -> base.Link:
        name = self._shares.about(directory)
        mine = [one for one in files if one.name == name]
        portals = {one.portal for one in mine}
        return base.Link(
            f'mount {mount.source}',
            name,
            frozenset(
                portals or {objects.server_of(mount.source) or mount.source}
            ),
            tuple(
                base.LinkedDevice(path.target.lun, path.disk, path.address)
                for path in (_path(one, mount) for one in mine)
            ),
            number=_MADE,
        )

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        self._files.inspect(path.disk, deadline)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        inode, _ = self._files.inspect(path.disk, deadline)
        return f'inode-{inode}.{path.target.name}'

    # -- the share

    def _acted_on(self, target: base.Target) -> list[str]:
        return [target.name]

    def _check_portals(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> None:
        """By name as well: who mounts the share looks it up himself.

        Where that has led is looked at once it is mounted.
        """
        self._places(info, claim)

    def _places(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> list[str]:
        """The portals of the server, by address."""
        assert isinstance(info, objects.MountConnectionInfo)
        portal = _with_port(claim.target.portal, info.options)
        return base.allowed_portals(self._host, portal, claim.deadline)

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> None:
        """Make sure that the server answers, also where it is mounted.

        What asks a dead one about a file does not return.
        """
        assert isinstance(info, objects.MountConnectionInfo)
        mount = self._shares.find(_directory(claim.target))
        if mount is not None:
            self._check_share(info, mount, claim.deadline)
            answering = _server_of(mount)
            places = [answering] if answering else []
        else:
            places = self._places(info, claim)
        if places:
            network.probe_any(places, self._time(claim.deadline).remaining())

    def _link(
        self, info: objects.ConnectionInfo, claim: base.Claim, way: Any
    ) -> mounts.Mount:
        assert isinstance(info, objects.MountConnectionInfo)
        target, holdings = claim.target, claim.holdings
        mount = self._shares.find(_directory(target))
        if mount is None:
            holdings.intend_link(target, _BEFORE)
            made = self._mount(info, claim)
            mount = self._shares.find(_directory(target))
            if mount is None:
                raise _failed(info, 'it is mounted no more')
            if made:
                holdings.confirm_link(target, _MADE)
            else:
                holdings.withdraw_link(target)
        self._check_share(info, mount, claim.deadline)
        return mount

    def _mount(
        self, info: objects.MountConnectionInfo, claim: base.Claim
    ) -> bool:
        """False if somebody else was quicker."""
        target = claim.target
        seconds = max(1, int(self._time(claim.deadline).remaining()))
        try:
            code, output = self._shares.mount(
                _directory(target),
                info.export,
                self._options(info),
                seconds,
                claim.deadline,
            )
        except FileExistsError:
            return False
        except OSError as error:
            # It may have been mounted before something else went wrong.
            if self._shares.find(_directory(target)) is None:
                claim.holdings.withdraw_link(target)
            if error.errno == errno.ETIMEDOUT:
                raise exception.TargetUnreachable(
                    portal=target.portal,
                    reason=f'the share is not mounted after {seconds} s',
                ) from error
            raise _failed(info, error.strerror or str(error)) from error
        if code == 0:
            return True
        claim.holdings.withdraw_link(target)
        if _NOT_THERE.search(output):
            raise base.not_found(target)
        if _NO_ANSWER.search(output):
            raise exception.TargetUnreachable(
                portal=target.portal, reason=output
            )
        raise _failed(info, output)

    def _options(self, info: objects.MountConnectionInfo) -> list[str]:
        """Those of the request, and the operator's where it says nothing."""
        ours = self._settings.mount_options
        given = {
            _meaning(option): option
            for text in (ours and rules.mount_options(ours), info.options)
            if text
            for option in text.split(',')
        }
        return list(given.values())

    def _check_share(
        self,
        info: objects.MountConnectionInfo,
        mount: mounts.Mount,
        deadline: deadlines.Deadline,
    ) -> None:
        """Make sure that what is mounted is the share that is asked for.

        :raises DeviceInUse: it is something else
        :raises PortalNotAllowed: it is where no storage of this host is
        """
        if mount.kind not in self.types or mount.source.rstrip(
            '/'
        ) != info.export.rstrip('/'):
            raise exception.DeviceInUse(
                device=mount.point,
                users=f'the mount of {mount.source} ({mount.kind})',
            )
        server = _server_of(mount)
        if server is not None:
            base.check_portal(self._host, server, deadline)

    def _leave_link(
        self,
        claim: base.Claim,
        may_remove: base.MayRemove,
        leftovers: list[str],
    ) -> list[str]:
        target, holdings = claim.target, claim.holdings
        if leftovers or holdings.shares_link(target):
            return leftovers
        mount = self._shares.find(_directory(target))
        if mount is not None and holdings.owns_link(target, _MADE):
            left = self._unmount(mount, claim)
            if left or self._shares.find(_directory(target)) is not None:
                return left
        if mount is None or holdings.owns_link(target, _MADE):
            holdings.forget_links(target)
        return []

    def _unmount(self, mount: mounts.Mount, claim: base.Claim) -> list[str]:
        """Take a share away; what is left of it."""
        target = claim.target
        what = f'mount {mount.source} on {mount.point}'
        try:
            self._shares.unmount(
                _directory(target), self._time(claim.deadline), lazy=False
            )
        except (exception.AttachWorkerError, OSError) as error:
            number = getattr(error, 'errno', None)
            if self._shares.find(_directory(target)) != mount:
                return []
            if number == errno.EPERM:
                # Somebody else has mounted it again in the same place.
                claim.holdings.forget_links(target)
                return []
            if claim.force:
                return base.remove(what, lambda: self._unmount_lazily(claim))
            if number == errno.EBUSY:
                warning = f'{what} stays: somebody else uses it'
                LOG.warning('%s', warning)
                claim.warnings.append(warning)
                return []
            LOG.warning('Unmounting %s: %s', mount.point, error)
            return [f'{what}: {error}']
        return []

    def _unmount_lazily(self, claim: base.Claim) -> bool:
        directory = _directory(claim.target)
        self._shares.unmount(
            directory, claim.deadline.extended(_LAZY), lazy=True
        )
        return self._shares.find(directory) is None

    def _time(self, deadline: deadlines.Deadline) -> deadlines.Deadline:
        return deadline.sooner(self._settings.mount_timeout)

    # -- the file

    def _devices(self, target: base.Target) -> list[base.Path]:
        """It is there while its share is mounted: no server is asked."""
        mount = self._shares.find(_directory(target))
        if mount is None or not isinstance(target.lun, str):
            return []
        return [_path(target, mount)]

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        path = _path(claim.target, link)
        with base.answering(claim.target):
            self._files.inspect(path.disk, self._time(claim.deadline))
        return path


def _directory(target: base.Target) -> str:
    return target.name.rpartition('-')[2]


def _path(target: base.Target, mount: mounts.Mount) -> base.Path:
    name = str(target.lun).rpartition('/')[2]
    return base.Path(
        target,
        f'{_directory(target)}/{name}',
        f'{mount.number}/{name}',
        lasting=True,
    )


def _server_of(mount: mounts.Mount) -> str | None:
    """Who answers for a mount, by address; None if the kernel does not say."""
    found = dict(
        option.partition('=')[::2] for option in mount.options.split(',')
    )
    if 'addr' not in found or found.get('proto', 'tcp') not in _PROTOCOLS:
        return None
    port = int(found.get('port', 0)) or rules.NFS_PORT
    return network.join(found['addr'], port)


def _with_port(portal: str, options: str | None) -> str:
    """A portal, with the port that the options name, if they do."""
    found = re.search(r'(?:^|,)port=([0-9]+)', options or '')
    if found is None:
        return portal
    return f'{portal.rpartition(":")[0]}:{found[1]}'


def _meaning(option: str) -> str:
    """The same for options that exclude each other."""
    name = option.partition('=')[0]
    return _ALIKE.get(name, name)


def _failed(
    info: objects.MountConnectionInfo, reason: str
) -> exception.HostToolFailed:
    return exception.HostToolFailed(
        what=f'Mounting {info.export}', reason=reason
    )
