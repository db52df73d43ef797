# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The Fibre Channel ports of this host, and those that they see."""

import dataclasses
import pathlib
import re

from attachworker import deadline as deadlines
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import uevents
from attachworker.objects import rules

ONLINE = 'Online'
#: The state of a port that was lost a moment ago: until dev_loss_tmo is over,
#: its devices stay, and it may come back.
BLOCKED = 'Blocked'

_HOST = re.compile('host([0-9]{1,10})')
_REMOTE = re.compile('rport-([0-9]{1,10}):([0-9]{1,10})-[0-9]{1,10}')
#: In place of a target number (SCAN_WILD_CARD); lower ones are targets.
_ALL_TARGETS = 2**32 - 1
#: What the driver of s390's adapters calls itself, and the port of one that is
#: shared by NPIV.
_ZFCP, _NPIV = 'zfcp', 'NPIV VPORT'


@dataclasses.dataclass(frozen=True)
class HostPort:
    """A port of this host; virtual ones (NPIV) are like others.

    :ivar number: of its SCSI host
    :ivar wwpn: its name, 16 digits
    :ivar wwnn: the name of its node, likewise; empty if it has none
    """

    number: int
    wwpn: str
    wwnn: str
    state: str


@dataclasses.dataclass(frozen=True)
class RemotePort:
    """A port that one of this host has seen, and the kernel remembers.

    :ivar directory: of its device in sysfs
    :ivar host: the number of the SCSI host that has seen it
    :ivar channel: there
    :ivar target_id: its target number there; -1: it is no target
    :ivar wwpn: its name, 16 digits
    """

    name: str
    directory: pathlib.Path
    host: int
    channel: int
    target_id: int
    wwpn: str
    state: str

    @property
    def usable(self) -> bool:
        return self.state == ONLINE and self.target_id >= 0


class Ports(machine.View):
    """Reads only: the kernel and the fabric make the links by themselves."""

    def hosts(self) -> list[HostPort]:
        """The ports of this host, those that are online first.

        :raises OSError: nobody knows
        """
        place = self._root / 'sys/class/fc_host'
        found = []
        for name in sysfs.names(place):
            match = _HOST.fullmatch(name)
            wwpn = _name_in(place / name / 'port_name')
            if match and wwpn:
                found.append(
                    HostPort(
                        int(match[1]),
                        wwpn,
                        _name_in(place / name / 'node_name') or '',
                        sysfs.read(place / name / 'port_state') or '',
                    )
                )
        return sorted(found, key=lambda one: (one.state != ONLINE, one.number))

    def remote(
        self, host: int | None = None, wwpn: str | None = None
    ) -> list[RemotePort]:
        """Ports that this host has seen, those that are online first.

        :param host: only those seen by this SCSI host
        :param wwpn: only those of this name
        :raises OSError: nobody knows
        """
        found = []
        for name in sysfs.names(self._root / 'sys/class/fc_remote_ports'):
            match = _REMOTE.fullmatch(name)
            if match and host in (None, int(match[1])):
                one = self._read(name, int(match[1]), int(match[2]))
                if one is not None and wwpn in (None, one.wwpn):
                    found.append(one)
        return sorted(found, key=lambda one: not one.usable)

    def seen(self, host_wwpn: str, wwpn: str) -> list[RemotePort]:
        """A target port as one port of this host sees it.

        The kernel may remember it under an older number, too.
        """
        return [
            port
            for host in self.hosts()
            if host.wwpn == host_wwpn
            for port in self.remote(host.number, wwpn)
        ]

    def wait_until_usable(
        self, host_wwpn: str, wwpn: str, deadline: deadlines.Deadline
    ) -> RemotePort | None:
        """A target port once it is online; None if it is not in time.

        The kernel tells of a new port and of its devices; that one has come
        back, or is blocked, it does not always tell: the slow timer does it.
        """

        def look() -> RemotePort | None:
            ports = self.seen(host_wwpn, wwpn)
            return next((one for one in ports if one.usable), None)

        return self._machine.uevents.wait_for(look, _is_about_ports, deadline)

    def of_disk(self, disk: str) -> tuple[str, RemotePort] | None:
        """The port of this host and the remote one that a disk is behind."""
        device = sysfs.resolved(self._block(disk) / 'device')
        for parent in device.parents if device else ():
            match = _REMOTE.fullmatch(parent.name)
            if match:
                port = self._read(parent.name, int(match[1]), int(match[2]))
                own = self.own_name(port.host) if port else None
                return (own, port) if port and own else None
        return None

    def own_name(self, host: int) -> str | None:
        """The WWPN of a port of this host; None if it is gone."""
        return _name_in(self._root / f'sys/class/fc_host/host{host}/port_name')

    def takes_no_scan(self, host: int) -> bool:
        """Whether LUNs come only by what an operator has written to zfcp."""
        driver = sysfs.read(
            self._root / f'sys/class/scsi_host/host{host}/proc_name'
        )
        if driver != _ZFCP:
            return False
        place = self._root / f'sys/class/fc_host/host{host}/port_type'
        allowed = self._root / 'sys/module/zfcp/parameters/allow_lun_scan'
        return sysfs.read(place) != _NPIV or (
            sysfs.read(allowed) or ''
        ).upper() not in ('Y', '1')

    def _read(self, name: str, host: int, channel: int) -> RemotePort | None:
        place = self._root / 'sys/class/fc_remote_ports' / name
        wwpn = _name_in(place / 'port_name')
        directory = sysfs.resolved(place / 'device')
        if wwpn is None or directory is None:
            return None
        target_id = sysfs.read_int(place / 'scsi_target_id')
        if target_id is None or not 0 <= target_id < _ALL_TARGETS:
            target_id = -1
        return RemotePort(
            name,
            directory,
            host,
            channel,
            target_id,
            wwpn,
            sysfs.read(place / 'port_state') or '',
        )


def _is_about_ports(event: uevents.Uevent) -> bool:
    path = event['DEVPATH']
    return '/rport-' in path or '/fc_host/' in path


def _name_in(attribute: pathlib.Path) -> str | None:
    """A WWPN or WWNN in sysfs, 16 digits; None if there is none (any more)."""
    text = sysfs.read(attribute)
    try:
        return None if text is None else rules.port_name(text)
    except rules.RuleBroken:
        return None  # of a port that has never been online
