# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""This machine, seen without privilege: the one seam to the kernel.

Everything above this package learns about the machine from a :class:`Host`
and changes it through one. What a Host reads lies below a root directory;
what it changes goes through the privileged verbs; what happens arrives as
uevents. Tests pass all three from a simulated machine.
"""

import pathlib
from typing import Any

from attachworker.host import backends
from attachworker.host import block
from attachworker.host import encryption
from attachworker.host import machine
from attachworker.host import multipath
from attachworker.host import scsi
from attachworker.host import succession
from attachworker.host import sysfs
from attachworker.host import uevents
from attachworker.host import users
from attachworker.host import verbs


class Host(machine.Machine):
    """A machine with the views of its parts.

    :param uevent_source: see :class:`attachworker.host.uevents.UeventSource`
    """

    def __init__(
        self,
        root: pathlib.Path,
        privileged: Any,
        uevent_source: uevents.UeventSource,
    ) -> None:
        super().__init__(
            root,
            privileged,
            verbs.Verbs(backends.Backends(root).of),
            uevents.UeventMonitor(uevent_source),
        )
        self.succession = succession.Succession(
            privileged.process.hold, self.verbs
        )
        self.scsi = scsi.SCSI(self)
        self.multipath = multipath.Multipath(self)
        self.encryption = encryption.Encryption(self)
        self.block = block.Block(self)
        self.users = users.Users(self)

    @classmethod
    def real(cls) -> 'Host':
        """The machine that this process runs on."""
        from attachworker import privileged
        from attachworker.host import netlink

        source = netlink.NetlinkSource()
        return cls(pathlib.Path('/'), privileged, source)

    def check_device(self, disk: str, address: str) -> None:
        """Refuse at once what cannot be done with a device now.

        :param disk: kernel name
        :param address: see :class:`attachworker.connectors.base.Path`
        :raises TargetQuarantined: a verb is stuck at the device, its map, or
            the SCSI host that it is on
        """
        held = self.multipath.of(disk)
        scsi_host = f'host{address.partition(":")[0]}'
        names = [disk, address, scsi_host]
        self.verbs.check(*names, *([held.name] if held else []))

    def tool(self, name: str) -> pathlib.Path | None:
        """Where a command of this host is; None if it is not installed."""
        for directory in ('usr/local/sbin', 'usr/sbin', 'sbin', 'usr/bin'):
            path = self.root / directory / name
            if sysfs.exists(path):
                return path
        return None

    @property
    def boot_id(self) -> str:
        """Changes with every start of the machine."""
        path = self.root / 'proc/sys/kernel/random/boot_id'
        return path.read_text(encoding='ascii').strip()

    def close(self) -> None:
        self.succession.end()
        self.uevents.close()
