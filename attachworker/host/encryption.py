# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Mappings of dm-crypt that are ours, from sysfs."""

import contextlib
import dataclasses
import errno
import hashlib

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import block
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import memory
from attachworker.host import sysfs
from attachworker.host import verbs

_PREFIX = 'attachworker-'
#: What cryptsetup calls the lower device of a mapping with integrity ends so.
LOWER = '_dif'
_UUID = 'CRYPT-'
#: How the uuid of a mapping goes on, by format.
_PROVIDERS = {'luks': 'LUKS1-', 'luks2': 'LUKS2-'}
#: What cryptsetup has beside what the header asks for; bytes.
_OWN = 32 << 20
#: That a header which is made here asks for at most, as cryptsetup's own.
_FORMAT = 1 << 30
#: That it may ask for at any rate.
_LEAST = 32 << 20
#: What a copy of a usual header is in, which counts as asked for; bytes.
_HEADER = 16 << 20


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
    :ivar provider: its format: luks, luks2 or plain
    :ivar integrity: whether it is a pair: dm-crypt above dm-integrity
    """

    name: str
    device: str
    disks: tuple[str, ...]
    provider: str
    integrity: bool = False

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
        #: For all runs of cryptsetup that derive a key.
        self.memory = memory.Memory(
            self._root, lambda name: bool(host.verbs.unfinished(name))
        )

    def mappings(self) -> list[Mapping]:
        """All mappings of ours, whichever worker made them."""
        names = {
            name.removesuffix(LOWER)
            for name in self._names.all().values()
            if name.startswith(_PREFIX)
        }
        found = map(self.find, sorted(names))
        return [one for one in found if one is not None]

    def find(self, name: str) -> Mapping | None:
        """The mapping of a name, also one of which only the lower half is."""
        devices = self._names.all().items()
        for wanted in (name, f'{name}{LOWER}'):
            for device, known_as in devices:
                if known_as == wanted:
                    found = self._mapping(device, wanted)
                    if found is not None:
                        return found
        return None

    def read_header(
        self,
        device: block.Device,
        provider: str,
        deadline: deadlines.Deadline,
    ) -> int | None:
        """Bytes of memory that a header asks for to be opened.

        :returns: None if the device has none of this format
        :raises OSError: it cannot be read, its name is another device's, or
            the header asks for too much
        """
        found: int | None = self._call(
            'encryption.read_header',
            deadline,
            *device,
            provider,
            deadline.remaining(),
        )
        return found

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
        most = self._most()
        with self._memory_for(device.name, most, deadline):
            self._call(
                'encryption.format', deadline, *device, provider, key, most
            )

    def has_key(
        self,
        device: block.Device,
        provider: str,
        key: str,
        asked: int,
        deadline: deadlines.Deadline,
    ) -> bool:
        """Whether a key opens a volume; nothing is opened.

        :param asked: bytes of memory, as :meth:`read_header` tells
        :raises OSError: nobody knows
        """
        with self._memory_for(device.name, asked, deadline):
            return bool(
                self._call(
                    'encryption.has_key',
                    deadline,
                    *device,
                    provider,
                    key,
                    asked,
                    deadline.remaining(),
                )
            )

    def add_key(
        self,
        device: block.Device,
        mapping: Mapping,
        key: str,
        new_key: str,
        asked: int,
        deadline: deadlines.Deadline,
    ) -> None:
        """Have one more key open a volume that is open.

        :param device: what is below the mapping
        :param key: one that opens it
        :param asked: bytes of memory, as :meth:`read_header` tells
        :raises OSError: it cannot be done; EACCES: the key does not open it
        """
        most = max(asked, self._most())
        self._change('add_key', device, mapping, key, new_key, most, deadline)

    def remove_key(
        self,
        device: block.Device,
        mapping: Mapping,
        key: str,
        kept_key: str,
        asked: int,
        deadline: deadlines.Deadline,
    ) -> None:
        """Have a key not open a volume any more that another key opens.

        :param kept_key: the other one; see :meth:`add_key` for the rest
        :raises OSError: it cannot be done; EACCES: nothing would open it
        """
        self._change(
            'remove_key', device, mapping, key, kept_key, asked, deadline
        )

    def _change(
        self,
        verb: str,
        device: block.Device,
        mapping: Mapping,
        key: str,
        other_key: str,
        memory: int,
        deadline: deadlines.Deadline,
    ) -> None:
        with self._memory_for(device.name, memory, deadline):
            self._call(
                f'encryption.{verb}',
                deadline,
                *device,
                mapping.name,
                mapping.provider,
                key,
                other_key,
                memory,
                deadline.remaining(),
            )

    def open(
        self,
        device: block.Device,
        name: str,
        provider: str,
        key: str,
        read_only: bool,
        asked: int,
        deadline: deadlines.Deadline,
    ) -> Mapping:
        """Make a mapping.

        :param asked: bytes of memory, as :meth:`read_header` tells
        :raises OSError: EACCES: it is the wrong key; ESTALE: the name of the
            device is another one's; ENOMEM: there is too little memory;
            others: it failed
        """
        with self._memory_for(name, asked, deadline):
            self._call(
                'encryption.open',
                deadline,
                *device,
                name,
                provider,
                key,
                read_only,
                asked,
                deadline.remaining(),
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
        with contextlib.suppress(exception.TargetQuarantined):
            # What was ended with its request is about to return.
            self._machine.verbs.check(name, patience=verbs.SLOW_RETURN)
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
        self,
        device: block.Device,
        mapping: Mapping,
        key: str | None,
        asked: int,
        deadline: deadlines.Deadline,
    ) -> None:
        """Give a mapping the size of what is below it.

        :param device: what is below it
        :param asked: bytes of memory, as :meth:`read_header` tells
        :raises OSError: it keeps the old one
        """
        name = mapping.name
        with self._memory_for(name, asked, deadline):
            self._call(
                'encryption.resize',
                deadline,
                *device,
                name,
                mapping.provider,
                key,
                asked,
            )

    def offset(self, name: str, deadline: deadlines.Deadline) -> int:
        """Where on the device below it its data begins; bytes.

        :raises OSError: nobody knows
        """
        seconds = deadline.remaining()
        return int(self._call('encryption.offset', deadline, name, seconds))

    def _most(self) -> int:
        """Bytes that a header which is made here may ask for."""
        spare = self.memory.spare() - _OWN - _HEADER
        return min(_FORMAT, max(_LEAST, spare))

    def _memory_for(
        self, name: str, asked: int, deadline: deadlines.Deadline
    ) -> contextlib.AbstractContextManager[None]:
        return self.memory.held(name, _OWN + asked, deadline)

    def _mapping(self, device: str, known_as: str) -> Mapping | None:
        directory = self._block(device)
        uuid = sysfs.read_dm(directory, 'uuid') or ''
        name = sysfs.read_dm(directory, 'name') or ''
        if not uuid.startswith(_UUID) or name != known_as:
            return None
        if name.endswith(LOWER):
            name = name.removesuffix(LOWER)
            return Mapping(name, device, (), 'luks2', True)
        disks = tuple(sysfs.names(directory / 'slaves'))
        lower = [
            one
            for one in disks
            if sysfs.read_dm(self._block(one), 'name') == f'{name}{LOWER}'
        ]
        for one in lower:
            disks = tuple(sysfs.names(self._block(one) / 'slaves'))
        kind = uuid.removeprefix(_UUID)
        provider = 'plain'
        for format, start in _PROVIDERS.items():
            if kind.startswith(start):
                provider = format
        return Mapping(name, device, disks, provider, bool(lower))
