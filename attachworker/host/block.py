# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Block devices: size, identity, and access to the data."""

import errno
from typing import NamedTuple

from attachworker import deadline as deadlines
from attachworker.host import machine
from attachworker.host import sysfs
from attachworker.host import vpd

#: What the kernel can count, and a result have; bytes.
_LARGEST = 2**63 - 1
#: How a device that does not answer, or has gone, fails. All other errors are
#: this host's own and say nothing of the device.
NO_ANSWER = frozenset(
    (
        errno.EAGAIN,
        errno.EIO,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOTCONN,
        errno.ENXIO,
        errno.ESHUTDOWN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
#: What tells a device from others for good, the best one first, and how the
#: kernel says that a device has none: while it is being removed, or because
#: its driver knows of none.
_IDENTIFIERS = {
    'dm/uuid': errno.EINVAL,
    'md/uuid': errno.EBUSY,
    'wwid': errno.ENXIO,
    'device/wwid': errno.EINVAL,
    'serial': errno.ENXIO,
}


#: Seconds that a change of a device-mapper table takes at most.
_RELOAD = 2.0
#: Before the number that no other disk is given until the next boot.
_SINCE_BOOT = 'diskseq-'
#: Between what of an identifier is the same after the next boot and the rest.
UNTIL_BOOT = '.dev-'


class Device(NamedTuple):
    """One block device, and no other that has its name before or after it.

    :ivar name: the kernel's, for example ``sda``
    :ivar instance: see :func:`attachworker.host.sysfs.instance`
    """

    name: str
    instance: int


class Block(machine.View):
    def device(self, disk: str) -> Device | None:
        """The device that has a name now; None if there is none."""
        instance = sysfs.instance(self._block(disk))
        return None if instance is None else Device(disk, instance)

    def size(self, disk: str) -> int | None:
        """Bytes; None if the device is gone.

        :raises OSError: EPROTO: the storage says more than there can be
        """
        sectors = sysfs.read_int(self._block(disk) / 'size')
        if sectors is None:
            return None
        if not 0 <= sectors <= _LARGEST // machine.SECTOR:
            raise OSError(errno.EPROTO, f'{disk} has {sectors} sectors')
        return sectors * machine.SECTOR

    def wait_for_size(
        self, disk: str, size: int, deadline: deadlines.Deadline
    ) -> None:
        """Return once the kernel knows a new size of a device, in bytes.

        :raises OSError: ETIMEDOUT
        """

        def look() -> bool | None:
            return (
                self.size(disk) == size // machine.SECTOR * machine.SECTOR
                or None
            )

        if self._wait(look, f'/{disk}', deadline) is None:
            raise OSError(
                errno.ETIMEDOUT, f'the kernel has not seen {size} bytes'
            )

    def read_only(self, disk: str) -> bool:
        return sysfs.read_int(self._block(disk) / 'ro') == 1

    def of_node(self, path: str) -> str | None:
        """The kernel name of the block device that a node below dev is."""
        directory, _, name = path.rpartition('/')
        if directory == '/dev' and sysfs.exists(self._block(name)):
            return name
        return None

    def identifier(self, disk: str) -> str | None:
        """What tells a device from others for good; None if nothing does.

        DRBD, volumes of ZFS, network block devices and some of virtio and
        device-mapper have nothing of their own: see :func:`lasting`.
        """
        directory = self._block(disk)
        partition = sysfs.read(directory / 'partition')
        if partition:
            place = sysfs.resolved(directory)
            whole = place and self.identifier(place.parent.name)
            return f'{whole}-part{partition}' if whole else None
        for name, none in _IDENTIFIERS.items():
            found = sysfs.read_bytes(directory / name, none, errno.ENXIO)
            if found and (words := found.strip(b'\0').split()):
                return '_'.join(map(vpd.text, words))
        number = sysfs.read(directory / 'diskseq')
        return f'{_SINCE_BOOT}{number}' if number else None

    def resumes(self, disk: str, deadline: deadlines.Deadline) -> bool:
        """Whether what is sent to a device gets there.

        Device-mapper suspends a device for a moment to change its table. One
        that somebody has suspended, or that a tool has left so, holds up all
        I/O until it is resumed.
        """

        def look() -> bool | None:
            suspended = sysfs.read_dm(self._block(disk), 'suspended')
            return None if suspended == '1' else True

        return bool(self._wait(look, f'/{disk}', deadline.sooner(_RELOAD)))

    def flush(self, disk: str, deadline: deadlines.Deadline) -> None:
        """Write back all that is cached.

        :raises OSError: the device refused a write
        """
        self._call('block.flush', deadline, disk)

    def check_readable(
        self, device: Device, deadline: deadlines.Deadline
    ) -> None:
        """Make sure that a device itself, and not a cache, can be read.

        :raises OSError: it cannot be; ESTALE: its name is another device's
            by now
        """
        self._once_open('block.check_readable', deadline, *device)


def lasting(identifier: str) -> str | None:
    """What of an identifier means something after the next boot, if any."""
    if identifier.startswith(_SINCE_BOOT):
        return None
    return identifier.partition(UNTIL_BOOT)[0]
