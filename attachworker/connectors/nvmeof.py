# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: a controller per subsystem and portal."""

import errno
import functools
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import nvmeof_controllers
from attachworker.connectors import nvmeof_options
from attachworker.host import block
from attachworker.host import locks
from attachworker.host import network
from attachworker.host import nvme
from attachworker.host import verbs

LOG = logging.getLogger(__name__)


class NVMeOFConnector(base.Connector):
    """Serves ``driver_volume_type`` nvmeof.

    The kernel puts the paths of a namespace together; multipathd has no part
    in it.
    """

    assembler = base.Assembler.KERNEL

    def __init__(self, host: Any, settings: Any) -> None:
        super().__init__(host, settings)
        self._controllers = nvmeof_controllers.Controllers(host, settings)
        self._controller_locks = locks.NamedLocks()
        self._device_locks = locks.NamedLocks()

    @classmethod
    def options(cls) -> list[Any]:
        return nvmeof_options.options()

    def unavailable(self) -> str | None:
        if not self._host.nvme.available():
            return (
                'the kernel has no /dev/nvme-fabrics; load the module '
                'nvme-tcp or nvme-rdma'
            )
        return None

    def cannot_assemble(self) -> str | None:
        if self._host.nvme.native_multipath():
            return None
        return (
            'the kernel does not put the paths of a namespace together '
            '(nvme_core.multipath=N)'
        )

    def properties(self) -> dict[str, Any]:
        self._controllers.ensure_host_identity()
        return {
            'nqn': self._host.nvme.host_nqn(),
            'nvme_hostid': self._host.nvme.host_id(),
            'nvme_native_multipath': self._host.nvme.native_multipath(),
        }

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        found = []
        for target in info.targets:
            name, port = network.split(target.portal)
            address = network.addresses(name, port)[0]
            found.append(target._replace(portal=network.join(address, port)))
        return found

    def connect(
        self,
        info: objects.ConnectionInfo,
        target: base.Target,
        holdings: base.Holdings,
        deadline: deadlines.Deadline,
        interest: base.Interest,
    ) -> base.Path:
        assert isinstance(info, objects.NVMeOFConnectionInfo)
        self._check(target)
        found = self._host.nvme.at(target.name, target.portal)
        if not found and info.transport_of(target) == 'tcp':
            network.probe(
                *network.split(target.portal),
                self._controllers.timeout(deadline).remaining(),
            )
        with self._device_locks.hold(target.key, deadline):
            with self._controller_locks.hold(target.link_key, deadline):
                interest.commit(f'connection to {target}')
                holdings.take(target)
                controller = self._controllers.connected(
                    info, target, holdings, deadline
                )
            interest.take_turn(f'scan of {target}')
            namespace = self._namespace(controller, target, deadline)
        return _path(target, controller, namespace)

    def disconnect(
        self,
        target: base.Target,
        holdings: base.Holdings,
        deadline: deadlines.Deadline,
        may_remove: base.MayRemove,
    ) -> list[str]:
        try:
            self._check(target, verbs.MOMENT)
        except exception.TargetQuarantined as error:
            return [f'{target}: {error}']
        leftovers = [
            f'{name} of {target.link_key} has not returned'
            for name in self._host.verbs.unfinished(target.link_key)
        ]
        with (
            self._device_locks.hold(target.key, deadline),
            self._controller_locks.hold(target.link_key, deadline),
        ):
            for one in self._host.nvme.at(target.name, target.portal):
                leftovers += self._controllers.leave(
                    one,
                    target,
                    holdings,
                    deadline,
                    functools.partial(
                        self._may_lose, one, target, may_remove, deadline
                    ),
                )
            if not leftovers:
                if not self._host.nvme.at(target.name, target.portal):
                    holdings.forget_links(target)
                holdings.release(target)
        return leftovers

    def _may_lose(
        self,
        controller: nvme.Controller,
        target: base.Target,
        may_remove: base.MayRemove,
        deadline: deadlines.Deadline,
        namespace: nvme.Namespace,
    ) -> tuple[bool, list[str]]:
        """Whether a namespace may lose its last path with a controller."""
        if _is(namespace, target):
            return may_remove(_path(target, controller, namespace))
        users = self._host.users.of([namespace.disk], deadline)
        return not users[namespace.disk], []

    def _check(self, target: base.Target, patience: float = 0.0) -> None:
        """Refuse what could not be done with the controllers of a target now.

        :param patience: seconds that what is stuck there gets to return
        :raises TargetQuarantined: it has not
        """
        found = self._host.nvme.at(target.name, target.portal)
        self._host.verbs.check(
            target.link_key,
            *(one.name for one in found),
            patience=patience,
        )

    def paths(self, target: base.Target) -> list[base.Path]:
        return [
            _path(target, controller, namespace)
            for controller in self._host.nvme.at(target.name, target.portal)
            for namespace in self._host.nvme.namespaces(controller.name)
            if _is(namespace, target)
        ]

    def links(self, claimed: list[str]) -> list[base.Link]:
        return [
            base.Link(
                name=f'controller {one.name}',
                number=one.number,
                target=one.nqn,
                portals=frozenset({one.portal}),
                works=one.state == nvme.LIVE,
                state=one.state,
                devices=tuple(
                    base.LinkedDevice(
                        each.nsid,
                        each.disk,
                        each.disk,
                        base.RUNNING,
                        next(iter(each.identifiers), None),
                        each.identifiers,
                    )
                    for each in self._host.nvme.namespaces(one.name)
                ),
            )
            for one in self._host.nvme.controllers()
        ]

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        self._host.nvme.rescan(path.address, deadline)
        nsid = self._nsid(path)
        size = self._host.nvme.size(path.address, nsid, deadline)
        within = deadline.sooner(self._settings.device_timeout)
        if not self._host.nvme.wait_for_size(path.disk, size, within):
            raise OSError(
                errno.ETIMEDOUT, f'the kernel has not seen {size} bytes'
            )

    def identify(self, path: base.Path, deadline: deadlines.Deadline) -> str:
        try:
            found = self._host.nvme.identifiers(
                path.address, self._nsid(path), deadline
            )
        except OSError as error:
            if error.errno not in block.NO_ANSWER:
                raise
            raise exception.DeviceNotFound(volume=path.target.label) from error
        if not found:
            raise exception.WwnNotFound(device=path.disk)
        return _chosen(found, path.target)

    # -- namespaces

    def _namespace(
        self,
        controller: nvme.Controller,
        target: base.Target,
        deadline: deadlines.Deadline,
    ) -> nvme.Namespace:
        if not self._shown(controller, target):
            # one that was mapped after the controller was connected
            self._scan(controller, target, deadline)
        found = self._host.nvme.wait_for_namespace(
            controller.name,
            lambda one: _is(one, target),
            deadline.sooner(self._settings.device_timeout),
        )
        if found is None:
            raise _not_found(target)
        return found

    def _scan(
        self,
        controller: nvme.Controller,
        target: base.Target,
        deadline: deadlines.Deadline,
    ) -> None:
        """Return when the kernel has the namespace; its disk may follow."""

        def look() -> bool | None:
            return True if self._shown(controller, target) else None

        for _ in range(self._settings.scan_attempts):
            try:
                self._host.nvme.rescan(controller.name, deadline)
            except OSError as error:
                if error.errno not in block.NO_ANSWER:
                    raise
                raise _not_found(target) from error
            if self._host.uevents.wait_for(
                look,
                lambda event: '/nvme' in event['DEVPATH'],
                deadline.sooner(1.0),
            ):
                return
        raise _not_found(target)

    def _shown(self, controller: nvme.Controller, target: base.Target) -> bool:
        found = self._host.nvme.namespaces(controller.name)
        return any(_is(one, target) for one in found)

    def _nsid(self, path: base.Path) -> int:
        """:raises OSError: the controller has no such namespace any more"""
        for one in self._host.nvme.namespaces(path.address):
            if one.disk == path.disk:
                return int(one.nsid)
        raise FileNotFoundError(errno.ENOENT, f'{path.disk} is gone')


def _is(namespace: nvme.Namespace, target: base.Target) -> bool:
    return target.lun in (namespace.nsid, *namespace.identifiers)


def _chosen(identifiers: tuple[str, ...], target: base.Target) -> str:
    """The identifier of the kind that the caller knows, or the best one."""
    found = target.lun if target.lun in identifiers else identifiers[0]
    return str(found)


def _path(
    target: base.Target,
    controller: nvme.Controller,
    namespace: nvme.Namespace,
) -> base.Path:
    wwn = None
    if namespace.identifiers:
        wwn = _chosen(namespace.identifiers, target)
    # A namespace cannot be removed by itself: it is there until its
    # controller goes, or the storage takes it away.
    return base.Path(target, namespace.disk, controller.name, wwn, True)


def _not_found(target: base.Target) -> exception.DeviceNotFound:
    return exception.DeviceNotFound(volume=target.label)
