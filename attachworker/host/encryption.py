# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Mappings of dm-crypt that are ours, from sysfs."""

import dataclasses
import errno
import hashlib

from attachworker import deadline as deadlines
from attachworker.host import block
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import sysfs

_PREFIX = 'attachworker-'
_UUID = 'CRYPT-'
_LUKS2 = 'CRYPT-LUKS2-'


def name_of(attachment_id: str) -> str:
    """What the mapping of an attachment is called, today and after a crash.

    Whatever the id is made of, and however long it is.
    """
    digest = hashlib.sha256(attachment_id.encode()).hexdigest()
    return f'{_PREFIX}{digest[:32]}'


@dataclasses.dataclass(frozen=True)
class Mapping:
    """A mapping of ours that the kernel has.

    :ivar name: as :func:`name_of` gives it
    :ivar device: kernel name, for example ``dm-1``
    :ivar disks: what is below it, by kernel name; none: it was not finished
    :ivar luks2: whether that is its format
    """

    name: str
    device: str
    disks: tuple[str, ...]
    luks2: bool

    @property
    def path(self) -> str:
        """The device file that a caller gets.

        By its name, which is the same at each attach, as a number is not,
        and tells that this is no disk. cryptsetup returns when udev has made
        it, and closing the mapping takes it away.
        """
        return path_of(self.name)


def path_of(name: str) -> str:
    """See :attr:`Mapping.path`."""
    return f'/dev/mapper/{name}'


class Encryption(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._names = known.Known(
            self._root / sysfs.VIRTUAL,
            'dm-',
            lambda name: sysfs.read_dm(self._block(name), 'name') or None,
        )

    def mappings(self) -> list[Mapping]:
        """All mappings of ours, whichever worker made them."""
        found = [
            self._mapping(device)
            for device, name in sorted(self._names.all().items())
            if name.startswith(_PREFIX)
        ]
        return [one for one in found if one is not None]

    def find(self, name: str) -> Mapping | None:
        for device, known_as in self._names.all().items():
            if known_as == name:
                found = self._mapping(device)
                if found is not None and found.name == name:
                    return found
        return None

    def is_luks(
        self,
        device: block.Device,
        provider: str,
        deadline: deadlines.Deadline,
    ) -> bool:
        """Whether a device has a header of this format.

        :raises OSError: it cannot be read, or its name is another device's
        """
        return bool(
            self._call('encryption.is_luks', deadline, *device, provider)
        )

    def format(
        self,
        device: block.Device,
        provider: str,
        key: str,
        deadline: deadlines.Deadline,
    ) -> None:
        """Write a header to a device that is empty.

        :raises FileExistsError: it is not
        :raises OSError: it cannot be formatted, or its name is another
            device's
        """
        self._call('encryption.format', deadline, *device, provider, key)

    def open(
        self,
        device: block.Device,
        name: str,
        provider: str,
        key: str,
        read_only: bool,
        deadline: deadlines.Deadline,
    ) -> Mapping:
        """Make a mapping.

        :raises OSError: EACCES: it is the wrong key; ESTALE: the name of the
            device is another one's; others: it failed
        """
        self._call(
            'encryption.open',
            deadline,
            *device,
            name,
            provider,
            key,
            read_only,
            about=name,
        )
        found = self.find(name)
        if found is None or not sysfs.exists(self._root / found.path[1:]):
            raise OSError(errno.ENODEV, f'udev has not made {path_of(name)}')
        return found

    def close(self, name: str, deadline: deadlines.Deadline) -> list[str]:
        """Remove a mapping, whatever it is on top of.

        :returns: what is left of it; empty if it is proven gone
        """
        running = [
            f'{verb} of mapping {name} has not returned'
            for verb in self._machine.verbs.unfinished(name)
        ]
        if running or self.find(name) is None:
            return running
        reason = ''
        try:
            self._call('encryption.close', deadline, name)
        except OSError as error:
            reason = f': {error.strerror or error}'
        return [f'mapping {name}{reason}'] if self.find(name) else []

    def resize(
        self, name: str, key: str | None, deadline: deadlines.Deadline
    ) -> None:
        """Give a mapping the size of what is below it.

        :raises OSError: it keeps the old one
        """
        self._call('encryption.resize', deadline, name, key)

    def offset(self, name: str, deadline: deadlines.Deadline) -> int:
        """Where on the device below it its data begins; bytes.

        :raises OSError: nobody knows
        """
        return int(self._call('encryption.offset', deadline, name))

    def _mapping(self, device: str) -> Mapping | None:
        directory = self._block(device)
        uuid = sysfs.read_dm(directory, 'uuid') or ''
        name = sysfs.read_dm(directory, 'name') or ''
        if not uuid.startswith(_UUID) or not name.startswith(_PREFIX):
            return None
        disks = tuple(sysfs.names(directory / 'slaves'))
        return Mapping(name, device, disks, uuid.startswith(_LUKS2))
