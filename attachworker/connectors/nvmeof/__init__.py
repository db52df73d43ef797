# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: a controller per subsystem and portal."""

import contextlib
import errno
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors.nvmeof import fabrics
from attachworker.connectors.nvmeof import host_identity
from attachworker.host import Host
from attachworker.host import network
from attachworker.objects import rules

LOG = logging.getLogger(__name__)

#: ANA states of a path that takes no I/O, and may never.
_NOT_SERVING = ('inaccessible', 'persistent-loss')
#: Seconds that the names of this host may take to be read or written.
_NAMING = 10.0
#: The lock of these names.
_NAMES = 'names of this host'


class NVMeOFConnector(base.Connector):
    """Serves ``driver_volume_type`` nvmeof.

    The kernel puts the paths of a namespace together; multipathd has no part
    in it.
    """

    assembler = base.Assembler.KERNEL

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._fabrics = fabrics.Fabrics(host)

    @classmethod
    def options(cls) -> list[Any]:
        return [
            cfg.IntOpt(
                'connect_timeout',
                mutable=True,
                default=15,
                min=1,
                max=600,
                help='Seconds that a portal may take to answer, and again '
                'that a controller may take to be live.',
            ),
            base.scan_attempts('namespace'),
            cfg.IntOpt(
                'device_timeout',
                mutable=True,
                default=30,
                min=1,
                max=600,
                help='Seconds that the kernel may take to make the block '
                'device of a namespace, or to end a controller.',
            ),
            cfg.IntOpt(
                'ctrl_loss_tmo',
                mutable=True,
                default=-1,
                min=-1,
                help='Seconds after which the kernel gives up a controller '
                'whose connection is lost, and the data that was not written '
                'yet. -1: never; the detach ends it.',
            ),
            cfg.IntOpt(
                'reconnect_delay',
                mutable=True,
                default=10,
                min=1,
                max=600,
                help='Seconds between two attempts of the kernel to connect '
                'again.',
            ),
            cfg.BoolOpt(
                'tls',
                mutable=True,
                default=False,
                help='Whether connections over TCP are encrypted. The kernel '
                'must be able to (Linux 6.7 and newer), tlshd must run, and '
                "the keys must be in the kernel's keyring .nvme (nvme "
                'gen-tls-key --insert).',
            ),
            cfg.BoolOpt(
                'accept_host_nqn',
                mutable=True,
                default=False,
                help='Whether a host_nqn in connection_info may be another '
                'name than that of this host in /etc/nvme/hostnqn. With this, '
                'a caller can have this host log in to storage by the name '
                'of any other host, and use what is mapped to that.',
            ),
            cfg.HostAddressOpt(
                'host_traddr',
                mutable=True,
                help='Address of this host that connections come from. Unset: '
                'as the routes say.',
            ),
        ]

    def unavailable(self) -> str | None:
        if not self._fabrics.available():
            return (
                'the kernel has no /dev/nvme-fabrics; load the module '
                'nvme-tcp or nvme-rdma'
            )
        return None

    def cannot_assemble(self) -> str | None:
        if self._fabrics.native_multipath():
            return None
        return (
            'the kernel does not put the paths of a namespace together '
            '(nvme_core.multipath=N)'
        )

    def properties(self) -> dict[str, Any]:
        try:
            own = self._own_identity(deadlines.Deadline.after(_NAMING))
            names: tuple[str | None, str | None] = own.nqn, own.id
        except (exception.AttachWorkerError, OSError) as error:
            LOG.error('This host cannot connect to NVMe storage: %s', error)
            names = self._fabrics.stored_identity()
        return {
            'nqn': names[0],
            'nvme_hostid': names[1],
            'nvme_native_multipath': self._fabrics.native_multipath(),
        }

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        """With addresses in place of names.

        Of several the one that answers. A name that is not known, or leads
        nowhere where a portal may be, stays, and costs that portal only.
        """
        assert isinstance(info, objects.NVMeOFConnectionInfo)
        found: list[base.Target] = []
        unknown: list[exception.AttachWorkerError] = []
        for target in info.targets:
            try:
                portal, *others = base.allowed_portals(
                    self._host, target.portal, deadline
                )
                if others and info.transport_of(target) == 'tcp':
                    within = deadline.sooner(self._settings.connect_timeout)
                    portal = network.probe_any(
                        [portal, *others], within.remaining()
                    )
            except base.NOWHERE as error:
                unknown.append(error)
                portal = target.portal
            found.append(target._replace(portal=portal))
        if len(unknown) == len(found):
            raise unknown[0]
        return found

    def links(self, claimed: list[str]) -> list[base.Link]:
        return [
            base.Link(
                f'controller {one.name}',
                one.nqn,
                frozenset({one.portal}),
                tuple(
                    base.LinkedDevice(
                        each.nsid,
                        each.disk,
                        each.disk,
                        wwn=next(iter(each.identifiers), None),
                        identifiers=each.identifiers,
                    )
                    for each in self._fabrics.namespaces(one.name)
                ),
                one.number,
                one.state == fabrics.LIVE,
                one.state,
            )
            for one in self._fabrics.controllers()
        ]

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        controller, nsid = self._found(path)
        self._fabrics.rescan(controller, deadline)
        size = self._fabrics.size(controller, nsid, deadline)
        within = self._for_device(deadline)
        self._host.block.wait_for_size(path.disk, size, within)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        found = self._fabrics.identifiers(*self._found(path), deadline)
        return _chosen(found, path.target)

    # -- controllers

    def _acted_on(self, target: base.Target) -> list[str]:
        names = [one.name for one in self._controllers(target)]
        return [target.link_key, *names]

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> Any:
        assert isinstance(info, objects.NVMeOFConnectionInfo)
        target = claim.target
        known = self._fabrics.at(target.name, target.portal)
        if not known and info.transport_of(target) == 'tcp':
            within = claim.deadline.sooner(self._settings.connect_timeout)
            network.probe(*network.split(target.portal), within.remaining())

    def _controllers(
        self, target: base.Target, host_nqn: str | None = None
    ) -> list[fabrics.Controller]:
        """The controllers of a target that are there for us.

        Another program may have connected under another name of this host:
        such a controller is not ours to use, for the storage may show it
        other namespaces.

        :param host_nqn: what this host is called there; None: nobody has said
            so, and its own name goes before others
        """
        found = self._fabrics.at(target.name, target.portal)
        names = {one.host.nqn for one in found if one.host}
        if host_nqn is None and len(names) > 1:
            host_nqn = self._fabrics.host_nqn()
            host_nqn = host_nqn if host_nqn in names else None
        if host_nqn is None:
            return found
        return [
            one for one in found if not one.host or one.host.nqn == host_nqn
        ]

    def _ours(self, claim: base.Claim) -> list[fabrics.Controller]:
        """Those of a target that this worker has made."""
        target = claim.target
        return [
            one
            for one in self._fabrics.at(target.name, target.portal)
            if claim.holdings.owns_link(target, one.number)
        ]

    def _own_identity(
        self, deadline: deadlines.Deadline
    ) -> host_identity.HostIdentity:
        """What this host is called; see :meth:`Fabrics.own_identity`."""
        with self._locks.hold(_NAMES, deadline):
            return self._fabrics.own_identity(deadline)

    def _identity(
        self,
        info: objects.NVMeOFConnectionInfo,
        deadline: deadlines.Deadline,
    ) -> host_identity.HostIdentity:
        """What this host connects by.

        :raises HostToolFailed: it has no name
        :raises InvalidConnectionInfo: the caller wants that of another host
        """
        try:
            own = self._own_identity(deadline)
        except OSError as error:
            raise exception.HostToolFailed(
                what='Giving this host a name for NVMe',
                reason=f'{error}; write hostnqn and hostid to /etc/nvme',
            ) from error
        nqn = info.host_nqn or own.nqn
        if nqn != own.nqn and not self._settings.accept_host_nqn:
            raise rules.invalid(
                'host_nqn',
                f'must be the name of this host, {own.nqn}, or not be there; '
                'the option accept_host_nqn of [nvmeof] allows others',
            )
        return host_identity.to_connect_by(
            nqn,
            own,
            [one.host for one in self._fabrics.controllers() if one.host],
        )

    def _link(
        self, info: objects.ConnectionInfo, claim: base.Claim, way: Any
    ) -> fabrics.Controller:
        assert isinstance(info, objects.NVMeOFConnectionInfo)
        target, holdings = claim.target, claim.holdings
        identity = self._identity(info, claim.deadline)

        def look() -> list[fabrics.Controller]:
            return self._controllers(target, identity.nqn)

        if not look():
            options = self._options(info, identity, target)
            excluded = self._fabrics.excluded(options)
            if excluded is not None:
                raise base.login_failed(target, f'{excluded} excludes it')
            # What is there now, by another name of this host, is not ours.
            there = self._fabrics.at(target.name, target.portal)
            holdings.intend_link(
                target, max((one.number for one in there), default=-1)
            )
            self._make(options, claim)
        live = self._fabrics.wait_until_live(
            look,
            claim.deadline.sooner(self._settings.connect_timeout),
        )
        if live is None:
            raise exception.TargetUnreachable(
                portal=target.portal, reason='its controller is not live'
            )
        made = holdings.intends_link(target)
        if made:
            holdings.confirm_link(target, live.number)
        if holdings.owns_link(target, live.number):
            self._fabrics.register(live, made, claim.deadline)
        return live

    def _options(
        self,
        info: objects.NVMeOFConnectionInfo,
        identity: host_identity.HostIdentity,
        target: base.Target,
    ) -> dict[str, str]:
        """What the kernel is told of a controller."""
        address, port = network.split(target.portal)
        settings = self._settings
        options = {
            'nqn': target.name,
            'transport': info.transport_of(target),
            'traddr': address,
            'trsvcid': str(port),
            'hostnqn': identity.nqn,
            'hostid': identity.id,
            'host_traddr': settings.host_traddr,
            'ctrl_loss_tmo': str(settings.ctrl_loss_tmo),
            'reconnect_delay': str(settings.reconnect_delay),
            # The kernel finds the key in its keyring .nvme.
            'tls': 'on' if settings.tls else '',
            'dhchap_secret': info.dhchap_secret,
            'dhchap_ctrl_secret': info.dhchap_ctrl_secret,
        }
        return {name: value for name, value in options.items() if value}

    def _make(self, options: dict[str, str], claim: base.Claim) -> None:
        target, seconds = claim.target, self._settings.connect_timeout
        try:
            with base.answering_within(
                seconds, target.portal, claim.deadline
            ) as within:
                self._host.call(
                    'nvme.connect', within, options, about=target.link_key
                )
        except OSError as error:
            if error.errno != errno.EALREADY:
                raise _refusal(error, target) from error
            # Somebody else has made it in the same moment.
            claim.holdings.withdraw_link(target)

    def _leave_link(
        self,
        claim: base.Claim,
        may_remove: base.MayRemove,
        leftovers: list[str],
    ) -> list[str]:
        target = claim.target
        # The journal tells which are ours, whatever this host is called.
        for one in self._fabrics.at(target.name, target.portal):
            leftovers = leftovers + self._leave(one, claim, may_remove)
        if not leftovers and not self._ours(claim):
            claim.holdings.forget_links(target)
        return leftovers

    def _leave(
        self,
        controller: fabrics.Controller,
        claim: base.Claim,
        may_remove: base.MayRemove,
    ) -> list[str]:
        """End a controller that is ours and nobody needs any more.

        Of one that stays, the namespaces are looked at again: what the
        storage has unmapped goes.
        """
        target, deadline = claim.target, claim.deadline
        holdings = claim.holdings
        if not holdings.owns_link(
            target, controller.number
        ) or holdings.shares_link(target):
            with contextlib.suppress(OSError):
                self._fabrics.rescan(controller, deadline)
            return []
        shown_by_others = {
            namespace.disk
            for one in self._fabrics.controllers()
            if one.name != controller.name
            for namespace in self._fabrics.namespaces(one.name)
        }
        for namespace in self._fabrics.namespaces(controller.name):
            if namespace.disk in shown_by_others:
                continue
            if _is(namespace, target):
                goes, reasons = may_remove(
                    _path(target, controller, namespace)
                )
            else:
                users = self._host.users.of([namespace.disk], deadline)
                goes, reasons = not users[namespace.disk], []
            if not goes:
                LOG.info('%s stays with %s', controller.name, namespace.disk)
                return reasons
        return base.remove(
            f'controller {controller.name}',
            lambda: self._fabrics.delete(
                controller, target.link_key, self._for_device(deadline)
            ),
        )

    # -- namespaces

    def _devices(self, target: base.Target) -> list[base.Path]:
        return [
            _path(target, controller, namespace)
            for controller in self._controllers(target)
            for namespace in self._shown(controller, target)
        ]

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        controller: fabrics.Controller = link
        target, deadline = claim.target, claim.deadline

        def scan() -> None:
            with base.answering(target):
                self._fabrics.rescan(controller, deadline)

        if not self._shown(controller, target):
            # one that was mapped after the controller was connected
            self._scan_until(
                target,
                scan,
                lambda: self._shown(controller, target) or None,
                lambda event: '/nvme' in event['DEVPATH'],
                deadline,
            )
        if not claim.several:
            # The block device is there if another path serves it, which is
            # let go, and then nothing could be read.
            self._refuse_inaccessible(controller, target)
        found = self._fabrics.wait_for_namespace(
            controller.name,
            lambda one: _is(one, target),
            self._for_device(deadline),
        )
        if found is not None:
            return _path(target, controller, found)
        # Without a path that serves it, the kernel makes no block device.
        self._refuse_inaccessible(controller, target)
        raise base.not_found(target)

    def _refuse_inaccessible(
        self, controller: fabrics.Controller, target: base.Target
    ) -> None:
        """:raises TargetUnreachable: the storage serves it elsewhere only"""
        for one in self._shown(controller, target):
            if one.access in _NOT_SERVING:
                raise exception.TargetUnreachable(
                    portal=target.portal,
                    reason=f'the namespace is {one.access} there, says the '
                    'storage (ANA)',
                )

    def _shown(
        self, controller: fabrics.Controller, target: base.Target
    ) -> list[fabrics.Namespace]:
        found = self._fabrics.namespaces(controller.name)
        return [one for one in found if _is(one, target)]

    def _found(self, path: base.Path) -> tuple[fabrics.Controller, int]:
        """The controller of a path, and the number of its namespace.

        :raises OSError: there is no such namespace any more
        """
        target = path.target
        for controller in self._fabrics.at(target.name, target.portal):
            for one in self._fabrics.namespaces(path.address):
                if (controller.name, one.disk) == (path.address, path.disk):
                    return controller, one.nsid
        raise FileNotFoundError(errno.ENOENT, f'{path.disk} is gone')


def _is(namespace: fabrics.Namespace, target: base.Target) -> bool:
    return target.lun in (namespace.nsid, *namespace.identifiers)


def _chosen(identifiers: tuple[str, ...], target: base.Target) -> str | None:
    """The identifier of the kind that the caller knows, or the best one."""
    if target.lun in identifiers:
        return str(target.lun)
    return next(iter(identifiers), None)


def _path(
    target: base.Target,
    controller: fabrics.Controller,
    namespace: fabrics.Namespace,
) -> base.Path:
    wwn = _chosen(namespace.identifiers, target)
    # A namespace cannot be removed by itself: it is there until its
    # controller goes, or the storage takes it away.
    return base.Path(target, namespace.disk, controller.name, wwn, True)


def _refusal(
    error: OSError, target: base.Target
) -> exception.AttachWorkerError:
    reason = error.strerror or str(error)
    if error.errno in (errno.EKEYREJECTED, errno.EACCES):
        return exception.AuthFailed(target=target.name, portal=target.portal)
    if error.errno in base.UNREACHABLE | {errno.ECONNRESET}:
        return exception.TargetUnreachable(portal=target.portal, reason=reason)
    return base.login_failed(target, reason)
