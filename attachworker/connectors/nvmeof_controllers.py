# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Controllers: which there are, and which are ours to end."""

from collections.abc import Callable
import contextlib
import errno
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.host import Host
from attachworker.host import network
from attachworker.host import nvme

LOG = logging.getLogger(__name__)

#: Numbers of controllers are used again: one that was not there when we meant
#: to make it is ours, whatever its number.
_BEFORE_ALL = -1


class Controllers:
    """The part of the connector that makes and ends controllers.

    :param settings: the options of its group
    """

    def __init__(self, host: Host, settings: Any) -> None:
        self._host = host
        self._settings = settings

    def connected(
        self,
        info: objects.NVMeOFConnectionInfo,
        target: base.Target,
        holdings: base.Holdings,
        deadline: deadlines.Deadline,
    ) -> nvme.Controller:
        host = self._host.nvme
        if not host.at(target.name, target.portal):
            holdings.intend_link(target, _BEFORE_ALL)
            self._make(info, target, deadline)
        live: nvme.Controller | None = host.wait_until_live(
            target.name,
            target.portal,
            deadline.sooner(self._settings.connect_timeout),
        )
        if live is None:
            raise exception.TargetUnreachable(
                portal=target.portal, reason='its controller is not live'
            )
        if holdings.intends_link(target):
            holdings.confirm_link(target, live.number)
        return live

    def _make(
        self,
        info: objects.NVMeOFConnectionInfo,
        target: base.Target,
        deadline: deadlines.Deadline,
    ) -> None:
        self.ensure_host_identity()
        address, port = network.split(target.portal)
        settings, host = self._settings, self._host.nvme
        options = {
            'nqn': target.name,
            'transport': info.transport_of(target),
            'traddr': address,
            'trsvcid': str(port),
            'hostnqn': info.host_nqn or host.host_nqn(),
            'hostid': host.host_id(),
            'host_traddr': settings.host_traddr,
            'ctrl_loss_tmo': str(settings.ctrl_loss_tmo),
            'reconnect_delay': str(settings.reconnect_delay),
            # The kernel finds the key in its keyring .nvme.
            'tls': 'on' if settings.tls else '',
            'dhchap_secret': info.dhchap_secret,
            'dhchap_ctrl_secret': info.dhchap_ctrl_secret,
        }
        given = {name: value for name, value in options.items() if value}
        try:
            host.connect(given, target.link_key, self.timeout(deadline))
        except OSError as error:
            if error.errno != errno.EALREADY:
                raise _refusal(error, target) from error

    def leave(
        self,
        controller: nvme.Controller,
        target: base.Target,
        holdings: base.Holdings,
        deadline: deadlines.Deadline,
        may_lose: Callable[[nvme.Namespace], tuple[bool, list[str]]],
    ) -> list[str]:
        """End a controller that is ours and nobody needs any more.

        Of one that stays, the namespaces are looked at again: what the
        storage has unmapped goes.

        :param may_lose: whether a namespace may lose its last path, and what
            keeps it from that
        """
        host = self._host.nvme
        if not holdings.owns_link(
            target, controller.number
        ) or holdings.shares_link(target):
            with contextlib.suppress(OSError):
                host.rescan(controller.name, deadline)
            return []
        for namespace in self._last_paths(controller):
            goes, reasons = may_lose(namespace)
            if not goes:
                LOG.info('%s stays with %s', controller.name, namespace.disk)
                return reasons
        try:
            gone = host.delete(
                controller.name,
                target.link_key,
                deadline.sooner(self._settings.device_timeout),
            )
        except (exception.AttachWorkerError, OSError) as error:
            LOG.warning('Removal of %s: %s', controller.name, error)
            gone = False
        return [] if gone else [f'controller {controller.name}']

    def _last_paths(self, controller: nvme.Controller) -> list[nvme.Namespace]:
        """The namespaces that no other controller of this host shows."""
        host = self._host.nvme
        others = {
            namespace.disk
            for one in host.controllers()
            if one.name != controller.name
            for namespace in host.namespaces(one.name)
        }
        return [
            one
            for one in host.namespaces(controller.name)
            if one.disk not in others
        ]

    def ensure_host_identity(self) -> None:
        host = self._host.nvme
        if host.host_nqn() is None or host.host_id() is None:
            try:
                host.create_host_identity()
            except OSError as error:
                LOG.error('No name for this host in /etc/nvme: %s', error)

    def timeout(self, deadline: deadlines.Deadline) -> deadlines.Deadline:
        return deadline.sooner(self._settings.connect_timeout)


def _refusal(
    error: OSError, target: base.Target
) -> exception.AttachWorkerError:
    reason = error.strerror or str(error)
    if error.errno in (errno.EKEYREJECTED, errno.EACCES):
        return exception.AuthFailed(target=target.name, portal=target.portal)
    if error.errno in (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
    ):
        return exception.TargetUnreachable(portal=target.portal, reason=reason)
    return exception.LoginFailed(
        target=target.name, portal=target.portal, reason=reason
    )
