# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which storage a verb has to do with, by what it acts on."""

import pathlib
import re

from attachworker.host import known
from attachworker.host import sysfs

_SCSI = re.compile(r'(?:host)?(\d+)(?::(\d+:\d+):\d+)?')
#: Longer stacks than a partition of a map of disks are nobody's.
_DEEPEST = 4


class Backends:
    """Tells them apart by address or port; nothing else depends on it."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._hosts = known.Known(
            root / 'sys/class/iscsi_host', 'host', self._address_of_host
        )

    def of(self, about: str) -> str:
        """The address, or port, of the storage; what is unknown is itself.

        :param about: portal and target, SCSI host or device, session, disk,
            map or controller
        """
        try:
            return self._of(about, _DEEPEST) or about
        except (OSError, ValueError):
            return about

    def _of(self, about: str, depth: int) -> str | None:
        portal = about.partition(',')[0]
        if portal.rpartition(':')[2].isdigit() and not _SCSI.fullmatch(about):
            return portal.rpartition(':')[0] or None
        if about.startswith('session'):
            return self._address_of_session(about)
        scsi = _SCSI.fullmatch(about)
        if scsi:
            address = self._hosts.get(f'host{scsi[1]}')
            return address or self._port_of(*scsi.groups())
        if '/' in about or not depth:
            return None
        return self._of_disk(about, depth)

    def _of_disk(self, disk: str, depth: int) -> str | None:
        directory = self._root / 'sys/class/block' / disk
        device = sysfs.resolved(directory / 'device')
        if device is not None and _SCSI.fullmatch(device.name):
            return self._of(device.name, 0)
        for below in sysfs.names(directory / 'slaves'):
            return self._of(below, depth - 1)
        return None

    def _port_of(self, host: str, target: str | None) -> str | None:
        """The WWPN of the Fibre Channel port that a SCSI target is.

        :param target: None: a whole host is meant, which has many
        """
        place = self._root / 'sys/class/fc_transport'
        return sysfs.read(place / f'target{host}:{target}' / 'port_name')

    def _address_of_host(self, host: str) -> str | None:
        # …/host2/iscsi_host/host2, beside …/host2/session1
        place = sysfs.resolved(self._root / 'sys/class/iscsi_host' / host)
        for name in sysfs.names(place.parents[1]) if place else ():
            if name.startswith('session'):
                return self._address_of_session(name)
        return None

    def _address_of_session(self, session: str) -> str | None:
        name = session.replace('session', 'connection') + ':0'
        place = self._root / 'sys/class/iscsi_connection' / name
        address = sysfs.read(place / 'persistent_address')
        return address if address and address != '(null)' else None
