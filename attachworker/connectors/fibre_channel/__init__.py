# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""fibre_channel: a SCSI device per port of this host, target port and LUN.

The links are the kernel's and the fabric's: the ports that this host sees.
Nothing is made or ended for them, and their time-outs (fast_io_fail_tmo,
dev_loss_tmo) are the operator's or multipathd's.
"""

import dataclasses
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import scsi
from attachworker.connectors.fibre_channel import ports
from attachworker.host import Host
from attachworker.objects import rules
from attachworker.objects.fibre_channel import MAX_TARGETS

LOG = logging.getLogger(__name__)


class FibreChannelConnector(scsi.SCSIConnector):
    """Serves ``driver_volume_type`` fibre_channel."""

    target_class = objects.PortTarget

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._ports = ports.Ports(host)

    @classmethod
    def options(cls) -> list[Any]:
        return [
            cfg.IntOpt(
                'port_timeout',
                mutable=True,
                default=15,
                min=1,
                max=600,
                help='Seconds that a target port may take to be online: one '
                'that was added to a zone for the attach, or that was lost a '
                'moment ago.',
            ),
            *scsi.device_options(),
        ]

    def unavailable(self) -> str | None:
        if not self._ports.hosts():
            return (
                'this host has no Fibre Channel port in /sys/class/fc_host; '
                'load the driver of its adapter, or make an FCoE interface'
            )
        return None

    def properties(self) -> dict[str, Any]:
        online = [
            one for one in self._ports.hosts() if one.state == ports.ONLINE
        ]
        names = {
            'wwpns': [one.wwpn for one in online],
            'wwnns': [one.wwnn for one in online if one.wwnn],
        }
        return {key: found for key, found in names.items() if found}

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        """Each target port through each port of this host that sees it.

        One that none sees is waited for at each that may go there: its zone
        may just have been made. Why none may, its attempt tells.
        """
        assert isinstance(info, objects.FibreChannelConnectionInfo)
        hosts = self._ports.hosts()
        remote = self._ports.remote()
        found: list[base.Target] = []
        nowhere: list[base.Target] = []
        for target in info.targets:
            may = [one for one in hosts if info.may_use(one.wwpn, target.name)]
            seeing = {
                port.host
                for port in remote
                if port.wwpn == target.name
                and port.state in (ports.ONLINE, ports.BLOCKED)
            }
            online = [one for one in may if one.state == ports.ONLINE]
            ways = [one for one in may if one.number in seeing] or online
            found += [target._replace(portal=one.wwpn) for one in ways or may]
            nowhere += [] if may else [target]
        if len(found) > MAX_TARGETS:
            LOG.warning(
                'Of %d paths to %s the first %d are used',
                len(found),
                info.targets[0].label,
                MAX_TARGETS,
            )
        return found[:MAX_TARGETS] or nowhere

    def paths(self, target: base.Target) -> list[base.Path]:
        return [
            path
            for place in self._places(target)
            for path in super(FibreChannelConnector, self).paths(place)
        ]

    def disconnect(
        self, claim: base.Claim, may_remove: base.MayRemove
    ) -> list[str]:
        leftovers = []
        for place in self._places(claim.target):
            at_place = dataclasses.replace(claim, target=place)
            leftovers += super().disconnect(at_place, may_remove)
        return leftovers

    def _places(self, target: base.Target) -> list[base.Target]:
        """A target at each port of this host that it may mean."""
        if target.portal != objects.ANY_PORT:
            return [target]
        return [
            target._replace(portal=host.wwpn) for host in self._ports.hosts()
        ]

    def path_of(self, disk: str) -> base.Path | None:
        found = self._ports.of_disk(disk)
        if found is None:
            return None
        own, port = found
        device = self._host.scsi.of_disk(disk)
        return self._path(
            objects.PortTarget(own, port.wwpn, device.lun), device
        )

    def links(self, claimed: list[str]) -> list[base.Link]:
        """One a device: what else comes through a port is not ours."""
        names = {one.number: one.wwpn for one in self._ports.hosts()}
        return [
            base.Link(
                f'port {port.name}, LUN {device.lun}',
                port.wwpn,
                frozenset({names[port.host]}),
                (self._linked(device),),
                works=port.state == ports.ONLINE,
                state=port.state,
            )
            for port in self._ports.remote()
            if port.host in names
            for device in self._host.scsi.devices(port.directory)
        ]

    # -- ports

    def _check_portals(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> None:
        """Ports have no address: where one may go is the fabric's to say."""

    def _acted_on(self, target: base.Target) -> list[str]:
        # A scan that is stuck keeps a SCSI host from removing devices.
        return [
            str(target),
            *(
                f'host{host.number}'
                for host in self._ports.hosts()
                if host.wwpn == target.portal
            ),
        ]

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> ports.RemotePort:
        assert isinstance(info, objects.FibreChannelConnectionInfo)
        target = claim.target
        if target.portal == objects.ANY_PORT:
            own = ', '.join(one.wwpn for one in self._ports.hosts())
            raise rules.invalid(
                'initiator_target_map',
                f'must have a port of this host ({own}) that may go to one '
                'of the target_wwns',
            )
        within = claim.deadline.sooner(self._settings.port_timeout)
        found = self._ports.wait_until_usable(
            target.portal, target.name, within
        )
        if found is None:
            claim.deadline.check(f'wait for {target}')
            raise self._unreachable(target)
        if not self._devices(target) and self._ports.takes_no_scan(found.host):
            raise exception.HostToolFailed(
                what=f'Looking for {target.label}',
                reason='zfcp takes LUNs there only if they are configured; '
                'use NPIV with zfcp.allow_lun_scan=1, or have "chzdev '
                'zfcp-lun" add it',
            )
        return found

    def _unreachable(self, target: base.Target) -> exception.TargetUnreachable:
        """Why a target port is not online, for people."""
        port = f'{target.name} at {target.portal}'
        seen = self._ports.seen(target.portal, target.name)
        own = [one for one in self._ports.hosts() if one.wwpn == target.portal]
        if not own:
            reason = 'this host has no such port any more'
        elif own[0].state != ports.ONLINE:
            reason = f'the port of this host is {own[0].state}'
        elif not seen:
            reason = 'this host does not see it; check the zones'
        else:
            reason = f'{seen[0].name} is {seen[0].state}'
        return exception.TargetUnreachable(portal=port, reason=reason)

    def _link(
        self, info: objects.ConnectionInfo, claim: base.Claim, way: Any
    ) -> ports.RemotePort:
        found: ports.RemotePort = way
        return found

    # -- devices

    def _devices(self, target: base.Target) -> list[base.Path]:
        found = []
        for port in self._ports.seen(target.portal, target.name):
            device = self._host.scsi.find(port.directory, target.lun)
            if device is not None:
                found.append(self._path(target, device))
        return found

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        port: ports.RemotePort = link
        place = scsi.Place(
            port.directory, port.host, port.channel, port.target_id
        )
        return self._bring_from(place, claim)
