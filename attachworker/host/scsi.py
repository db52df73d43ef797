# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""SCSI devices below a link (a session, a remote port), from sysfs."""

from collections.abc import Iterator
import dataclasses
import errno
import os
import pathlib
import re

from attachworker import deadline as deadlines
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import vpd
from attachworker.privileged import names

#: The state of a device whose link has lost its target, until it is given
#: up: nothing that is asked of it ends before.
BLOCKED = 'blocked'

_HCTL = re.compile(r'(?:[0-9]{1,10}:){3}[0-9]{1,20}')
_DISK = re.compile(names.SCSI_DISK)
_VPD_SERIAL = 0x80
_VPD_IDENTIFICATION = 0x83


@dataclasses.dataclass(frozen=True)
class ScsiDevice:
    """A logical unit that the kernel has.

    :ivar hctl: its address, host:channel:target:LUN
    :ivar disk: its block device, for example ``sda``; None while it has none,
        and of what is no disk
    """

    hctl: str
    disk: str | None

    @property
    def lun(self) -> int:
        return int(self.hctl.rpartition(':')[2])


class SCSI(machine.View):
    def devices(self, link: pathlib.Path) -> list[ScsiDevice]:
        """Every logical unit below the directory of a link."""
        return [
            ScsiDevice(os.path.basename(place), self._disk(place))
            for place in self._units(link)
        ]

    def find(self, link: pathlib.Path, lun: int) -> ScsiDevice | None:
        """One logical unit below the directory of a link."""
        for target in self._targets(link):
            hctl = f'{target.rpartition("/target")[2]}:{lun}'
            if sysfs.exists(f'{target}/{hctl}'):
                return ScsiDevice(hctl, self._disk(f'{target}/{hctl}'))
        return None

    def is_empty(self, link: pathlib.Path) -> bool:
        """Whether there is no logical unit below the directory of a link."""
        return next(self._units(link), None) is None

    def _units(self, link: pathlib.Path) -> Iterator[str]:
        for target in self._targets(link):
            for name in sysfs.names(target):
                if _HCTL.fullmatch(name):
                    yield f'{target}/{name}'

    def _targets(self, link: pathlib.Path) -> list[str]:
        """The directories of the targets below that of a link."""
        return [
            f'{link}/{name}'
            for name in sysfs.names(link)
            if name.startswith('target')
        ]

    def of_disk(self, disk: str) -> ScsiDevice:
        """The logical unit that a disk is.

        :raises OSError: it is gone, or no SCSI disk
        """
        device = os.readlink(self._block(disk) / 'device')
        hctl = os.path.basename(device)
        if not _HCTL.fullmatch(hctl):
            raise OSError(errno.ENODEV, f'{disk} is no SCSI disk')
        return ScsiDevice(hctl, disk)

    def scan(
        self,
        host: int,
        channel: int,
        target: int,
        lun: int,
        deadline: deadlines.Deadline,
    ) -> None:
        """Let the kernel probe one LUN."""
        about = f'host{host}'
        self._call(
            'scsi.scan', deadline, host, channel, target, lun, about=about
        )

    def wait_for_disk(
        self, link: pathlib.Path, lun: int, deadline: deadlines.Deadline
    ) -> ScsiDevice | None:
        """The logical unit once it has a block device and a node in /dev.

        Its name is not known before: sd probes in the background.

        :returns: None if the deadline passed first
        """

        def look() -> ScsiDevice | None:
            device = self.find(link, lun)
            if device is None or device.disk is None:
                return None
            node = self._root / 'dev' / device.disk
            return device if sysfs.exists(node) else None

        return self._wait(look, f'/{link.name}/', deadline)

    def state(self, hctl: str) -> str:
        """What the kernel thinks of a device; ``running`` is good."""
        return sysfs.read(f'{self._device(hctl)}/state') or 'gone'

    def cached_wwn(self, hctl: str) -> str | None:
        """The identifier that the kernel read when it found the device.

        None also if it has not read any, as from a device of SPC-2: nobody
        then knows whether it is the one that it was.
        """
        # Not the attribute "wwid": the kernel chooses it otherwise.
        page = self._cached(hctl, 'vpd_pg83')
        if page is None:
            return None
        serial = vpd.serial(self._cached(hctl, 'vpd_pg80') or b'')
        return self._wwn(hctl, page, serial)

    def wwn(
        self, device: ScsiDevice, deadline: deadlines.Deadline
    ) -> str | None:
        """The identifier that the target gives now.

        :returns: None if it has none
        :raises OSError: it does not answer
        """
        page = self._inquiry(device, _VPD_IDENTIFICATION, deadline)
        if vpd.wwn(page) is not None:
            return vpd.wwn(page)
        serial = self.serial(device, deadline)
        return self._wwn(device.hctl, page, serial)

    def serial(
        self, device: ScsiDevice, deadline: deadlines.Deadline
    ) -> str | None:
        """The unit serial number that the target gives now.

        :returns: None if it has none
        :raises OSError: it does not answer
        """
        return vpd.serial(self._inquiry(device, _VPD_SERIAL, deadline))

    def _cached(self, hctl: str, name: str) -> bytes | None:
        return sysfs.read_bytes(f'{self._device(hctl)}/{name}', errno.EINVAL)

    def _wwn(self, hctl: str, page: bytes, serial: str | None) -> str | None:
        """The identifier of a device by its pages 0x83 and 0x80."""
        found = vpd.wwn(page)
        if found is not None or serial is None:
            return found
        vendor, model = (
            vpd.text((self._cached(hctl, name) or b'').strip())
            for name in ('vendor', 'model')
        )
        return vpd.wwn_of_serial(vendor, model, serial)

    def _inquiry(
        self, device: ScsiDevice, page: int, deadline: deadlines.Deadline
    ) -> bytes:
        """Ask the disk at the device's address, if it has that name still.

        :returns: nothing if the device does not have that page
        """
        place, disk = self._device(device.hctl), device.disk
        instance = disk and sysfs.instance(f'{place}/block/{disk}')
        if not disk or instance is None:
            raise OSError(
                errno.ESTALE, f'{device.hctl} is not (any more) {disk}'
            )
        try:
            return bytes(
                self._once_open('scsi.inquiry', deadline, disk, instance, page)
            )
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return b''

    def remove(self, hctl: str, deadline: deadlines.Deadline) -> bool:
        """Remove a device; True once the kernel no longer has it."""
        place = self._device(hctl)
        return self._remove(
            'scsi.delete', hctl, lambda: not sysfs.exists(place), deadline
        )

    def _device(self, hctl: str) -> str:
        return f'{self._root}/sys/class/scsi_device/{hctl}/device'

    @staticmethod
    def _disk(device: str) -> str | None:
        # A target may say that its volume is a CD-ROM, and that is sr0.
        found = filter(_DISK.fullmatch, sysfs.names(f'{device}/block'))
        return next(found, None)
