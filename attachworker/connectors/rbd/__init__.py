# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""rbd: images of a Ceph cluster, mapped by the kernel's own client."""

import errno
from typing import Any

from oslo_config import cfg

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.conf import rbd
from attachworker.connectors import base
from attachworker.connectors.rbd import mappings
from attachworker.host import Host
from attachworker.host import network
from attachworker.objects.rbd import SECOND_PORT

_LEGACY = 'legacy'


class RBDConnector(base.Connector):
    """Serves ``driver_volume_type`` rbd.

    An image is mapped once on a host, however many attachments it has.
    Nothing but a program that was told to maps an image: what an attach finds
    belongs to somebody else.
    """

    assembler = base.Assembler.NONE
    leaves_found = True
    target_class = objects.ImageTarget

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._mapped = mappings.Mappings(host)

    @classmethod
    def options(cls) -> list[Any]:
        return [
            cfg.IntOpt(
                'map_timeout',
                mutable=True,
                default=30,
                min=1,
                help='Seconds that a cluster may take to answer when an '
                'image is mapped.',
            ),
            cfg.StrOpt(
                'ms_mode',
                mutable=True,
                choices=[
                    'legacy',
                    'crc',
                    'secure',
                    'prefer-crc',
                    'prefer-secure',
                ],
                help='How the kernel speaks to a cluster; see ms_mode in '
                'rbd(8). All but legacy is the second version of the protocol '
                'and needs Linux 5.11. Unset: legacy, and prefer-crc where '
                'all monitors are on port 3300.',
            ),
            cfg.IntOpt(
                'device_timeout',
                mutable=True,
                default=10,
                min=1,
                help='Seconds that the block device of a mapped image may '
                'take to appear, to show a new size or to go.',
            ),
            cfg.BoolOpt(
                'exclusive',
                mutable=True,
                default=False,
                help='Whether an image that can be written to is mapped so '
                'that its lock never goes to another client. The image needs '
                'the feature exclusive-lock, and a live migration fails: for '
                'a moment it has the image on two hosts.',
            ),
            rbd.KEYRING_USERS,
        ]

    def unavailable(self) -> str | None:
        if not self._mapped.available():
            return 'the kernel has no /sys/bus/rbd; load the module rbd'
        return None

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        """With addresses in place of names: the kernel asks no resolver.

        A name may stand for all monitors. One that is not known costs
        nothing where another is.
        """
        (target,) = info.targets
        found: set[str] = set()
        unknown: list[exception.AttachWorkerError] = []
        for portal in target.portal.split(','):
            try:
                found.update(
                    base.allowed_portals(self._host, portal, deadline)
                )
            except base.NOWHERE as error:
                unknown.append(error)
        if not found:
            raise unknown[0]
        return [target._replace(portal=','.join(sorted(found)))]

    def links(self, claimed: list[str]) -> list[base.Link]:
        return [self._link_of(one, claimed) for one in self._mapped.mappings()]

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        found = self._mapped.find(path.disk)
        if found is not None:
            found = self._mapped.refresh(found, deadline)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, f'{path.disk} is gone')
        within = self._for_device(deadline)
        self._host.block.wait_for_size(found.disk, found.size, within)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        # Of an image that was deleted, the kernel still knows all that there
        # was to know; the cluster does not.
        found = self._mapped.find(path.disk)
        if found is not None and found.spec == path.target.lun:
            try:
                found = self._mapped.refresh(found, deadline)
            except OSError as error:
                if error.errno == errno.ESHUTDOWN:
                    raise _blocklisted(path.disk) from error
                raise
        if found is None or found.spec != path.target.lun:
            raise base.not_found(path.target)
        return found.identifier

    # -- mappings

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> Any:
        if not self._mappings(claim.target):
            within = claim.deadline.sooner(self._settings.map_timeout)
            _, monitors = self._reached(claim.target)
            network.probe_any(monitors, within.remaining())

    def _lock_name(self, target: base.Target) -> str:
        # Whichever monitors of its cluster lead to the image.
        return target.volume_name

    def _devices(self, target: base.Target) -> list[base.Path]:
        return [_path(target, one) for one in self._mappings(target)]

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        assert isinstance(info, objects.RBDConnectionInfo)
        target, deadline = claim.target, claim.deadline
        if not self._mappings(target):
            claim.holdings.intend_device(target)
            self._map(info, target, deadline)
        found = self._mapped.wait_for_disk(
            target.portal, target.lun, self._for_device(deadline)
        )
        if found is None:
            raise base.not_found(target)
        return _path(target, found)

    def _remove(self, path: base.Path, claim: base.Claim) -> bool:
        found = self._mapped.find(path.disk)
        if found is None or _path(path.target, found) != path:
            return True
        within = self._for_device(claim.deadline)
        return self._mapped.remove(found, within, claim.force)

    def _mappings(self, target: base.Target) -> list[mappings.Mapping]:
        return self._mapped.at(target.portal, target.lun)

    def _map(
        self,
        info: objects.RBDConnectionInfo,
        target: base.Target,
        deadline: deadlines.Deadline,
    ) -> None:
        within = deadline.sooner(self._settings.map_timeout)
        mode, monitors = self._reached(target)
        options = {
            'name': info.auth_username,
            'mount_timeout': str(max(1, int(within.remaining()))),
        }
        if mode != _LEGACY:
            options['ms_mode'] = mode
        if info.namespace:
            options['_pool_ns'] = info.namespace
        if info.read_only:
            options['read_only'] = ''
        elif self._settings.exclusive:
            options['exclusive'] = ''
        try:
            self._host.call(
                'rbd.add',
                deadline,
                monitors,
                info.pool,
                info.image,
                info.snapshot or '',
                options,
                info.cluster_name if info.auth_enabled else '',
                info.keyring or '',
                about=str(target),
            )
        except OSError as error:
            raise _refusal(error, info, target) from error

    def _reached(self, target: base.Target) -> tuple[str, list[str]]:
        """How the kernel is to speak to which of the monitors.

        A client speaks one version of the protocol with all of them.
        """
        portals = target.portal.split(',')
        second = [
            one for one in portals if network.split(one)[1] == SECOND_PORT
        ]
        first = [one for one in portals if one not in second]
        mode = self._settings.ms_mode
        if mode is None:
            mode = _LEGACY if first else 'prefer-crc'
        return mode, (first if mode == _LEGACY else second) or portals

    def _link_of(
        self, mapping: mappings.Mapping, claimed: list[str]
    ) -> base.Link:
        monitors = self._mapped.monitors(mapping)
        mapped = objects.ImageTarget(
            ','.join(sorted(monitors)),
            objects.RBDConnectionInfo.TARGET_NAME,
            mapping.spec,
        )
        portals = {
            objects.ImageTarget.from_key(key).portal
            for key in claimed
            if key.endswith(mapping.spec) and mapped.leads_to_device_of(key)
        }
        device = base.LinkedDevice(
            mapping.spec, mapping.disk, mapping.disk, wwn=mapping.identifier
        )
        return base.Link(
            f'mapping {mapping.disk}',
            mapped.name,
            frozenset(portals or {mapped.portal}),
            (device,),
        )


def _path(target: base.Target, mapping: mappings.Mapping) -> base.Path:
    # The number goes to the next image that is mapped.
    address = f'{mapping.disk}:{mapping.instance}'
    return base.Path(target, mapping.disk, address, mapping.identifier)


def _refusal(
    error: OSError, info: objects.RBDConnectionInfo, target: base.Target
) -> exception.AttachWorkerError:
    reason = error.strerror or str(error)
    if error.errno == errno.ESHUTDOWN:
        return _blocklisted(target.lun)
    if error.errno == errno.ENOENT:
        return base.not_found(target)
    if error.errno in (errno.EPERM, errno.EACCES):
        reason = 'the cluster refuses its key, or what it may do there'
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENOKEY):
        return exception.CephKeyRefused(user=info.auth_username, reason=reason)
    if error.errno in base.UNREACHABLE:
        return exception.TargetUnreachable(portal=target.portal, reason=reason)
    if error.errno == errno.ENXIO:
        reason = (
            'it has features that this kernel does not know; see dmesg, and '
            'disable them with "rbd feature disable"'
        )
    if error.errno == errno.EINVAL:
        reason = (
            'the kernel does not take its options; see dmesg (ms_mode needs '
            'Linux 5.11)'
        )
    return exception.HostToolFailed(
        what=f'Mapping {target.lun}', reason=reason
    )


def _blocklisted(what: object) -> exception.HostToolFailed:
    return exception.HostToolFailed(
        what=f'Reading {what}',
        reason='the cluster has blocklisted this host; when it may come back, '
        'detach all images of that cluster from this host, or have "ceph osd '
        'blocklist rm" take the block away',
    )
