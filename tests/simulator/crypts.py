# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""dm-crypt: a block device that shows another one decrypted, and its verbs.

Nothing is enciphered: what is written through a mapping is kept beside the
volume, under what only the right key leads to.
"""

import dataclasses
import errno
import hashlib
import os
import pathlib
import threading
from typing import NamedTuple
import uuid

from tests.simulator import block as blocks
from tests.simulator import maps
from tests.simulator import openers
from tests.simulator import tree as trees
from tests.simulator import uevents

#: Format: version, and bytes before the data.
_FORMATS = {'luks': (1, 2 << 20), 'luks2': (2, 16 << 20)}
_MAGIC = b'LUKS\xba\xbe'
_HEADER = 4096
_HEAD = 16 << 20
#: What the host has calls the lower one of a pair so.
_LOWER = '_dif'
_SECTOR = 512
_DIRECTORY = 'run/decrypted'


@dataclasses.dataclass(eq=False)
class Mapping:
    """A mapping.

    :ivar name: the kernel's, ``dm-1``
    :ivar below: the device that it is on top of
    :ivar offset: of the data there; bytes
    :ivar file: the data
    """

    name: str
    number: str
    alias: str
    below: str
    below_directory: str
    offset: int
    file: pathlib.Path
    size: int = 0

    @property
    def directory(self) -> str:
        return f'devices/virtual/block/{self.name}'


def header(
    provider: str, key: str, memory: int = 0, integrity: bool = False
) -> bytes:
    """What a volume begins with that was formatted.

    :param memory: bytes that it asks for
    :param integrity: whether it is opened as a pair of devices
    """
    version, _ = _FORMATS[provider]
    made = _Header(uuid.uuid4().hex, integrity, memory, (_digest(key),))
    return made.content(version)


class _Header(NamedTuple):
    """What is read of a header.

    :ivar digests: of its keys
    """

    name: str
    integrity: bool
    memory: int
    digests: tuple[str, ...]

    def content(self, version: int) -> bytes:
        words = (self.name, int(self.integrity), self.memory, *self.digests)
        text = ' '.join(map(str, words))
        parts = (_MAGIC, bytes((0, version)), text.encode())
        return b''.join(parts).ljust(_HEADER, b'\0')


class Crypts:
    """All mappings; its methods include the verbs.

    :param block: the devices to be opened; knows of the mappings, too
    """

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        block: blocks.Block,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._block = block
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._block.crypts = self._mappings = {}

    def read_header(
        self, device: str, instance: int, provider: str, timeout: float
    ) -> int | None:
        self._block.check(device, instance)
        found = self._header(device, provider)
        return found.memory if found else None

    def format(
        self, device: str, instance: int, provider: str, key: str, memory: int
    ) -> None:
        with self._lock:
            self._block.check(device, instance)
            self._check_unused(device)
            file = self._block.file(device)
            with open(file, 'r+b') as stream:
                if stream.read(_HEAD).strip(b'\0'):
                    raise FileExistsError(
                        errno.EEXIST,
                        'it is not empty: there is data in the 16 MiB at '
                        'its start',
                    )
                stream.seek(0)
                stream.write(header(provider, key))

    def open(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        read_only: bool,
        memory: int,
        timeout: float,
    ) -> None:
        with self._lock:
            self._block.check(device, instance)
            self._check_unused(device)
            if any(each.alias == name for each in self._mappings.values()):
                raise FileExistsError(errno.EBUSY, f'{name} already exists.')
            offset, identity = 0, _digest(key)
            below = device
            if provider != 'plain':
                found = self._obeyed(device, instance, provider, memory)
                identity = found.name
                _, offset = _FORMATS[provider]
                _check_key(found, key)
                if found.integrity:
                    lower = f'{name}{_LOWER}'
                    kind = 'integrity'
                    below = self._make(
                        device, lower, kind, offset, identity, read_only
                    )
                    offset = 0
            self._make(below, name, provider, offset, identity, read_only)

    def has_key(
        self,
        device: str,
        instance: int,
        provider: str,
        key: str,
        memory: int,
        timeout: float,
    ) -> bool:
        with self._lock:
            found = self._obeyed(device, instance, provider, memory)
            return _digest(key) in found.digests

    def add_key(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        new_key: str,
        memory: int,
        timeout: float,
    ) -> None:
        with self._lock:
            found = self._obeyed(device, instance, provider, memory)
            _check_key(found, key)
            digests = (*found.digests, _digest(new_key))
            self._change(device, name, provider, found, digests)

    def remove_key(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        kept_key: str,
        memory: int,
        timeout: float,
    ) -> None:
        with self._lock:
            found = self._obeyed(device, instance, provider, memory)
            _check_key(found, kept_key)
            gone = _digest(key)
            digests = tuple(one for one in found.digests if one != gone)
            self._change(device, name, provider, found, digests)

    def _obeyed(
        self, device: str, instance: int, provider: str, memory: int
    ) -> _Header:
        self._block.check(device, instance)
        found = self._header(device, provider)
        if found is None:
            raise OSError(errno.EPROTO, 'it has no header of this format')
        if found.memory > memory:
            raise OSError(errno.E2BIG, 'its header asks for more than before')
        return found

    def _change(
        self,
        device: str,
        name: str,
        provider: str,
        header: _Header,
        digests: tuple[str, ...],
    ) -> None:
        below = [
            one.below
            for one in self._mappings.values()
            if one.alias in (name, f'{name}{_LOWER}')
        ]
        if device not in below:
            raise PermissionError(
                errno.EPERM, f'{device} is not what {name} was opened on'
            )
        version, _ = _FORMATS[provider]
        with open(self._block.file(device), 'r+b') as stream:
            stream.write(header._replace(digests=digests).content(version))

    def close(self, name: str) -> None:
        with self._lock:
            try:
                found = self._find(name)
            except OSError:
                # as the verb has it, of a pair that is not finished
                found = self._find(f'{name}{_LOWER}')
            directory = self._tree.root / 'sys' / found.directory
            node = self._tree.root / 'dev' / found.name
            if any((directory / 'holders').iterdir()) or any(
                openers.of([node])
            ):
                raise OSError(errno.EBUSY, f'Device {name} is still in use.')
            self._remove(found)
            below = self._mappings.get(found.below)
            if below is not None and below.alias == f'{name}{_LOWER}':
                self._remove(below)

    def resize(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str | None,
        memory: int,
    ) -> None:
        with self._lock:
            self._block.check(device, instance)
            found = self._find(name)
            uuid_file = self._tree.root / f'sys/{found.directory}/dm/uuid'
            if key is None and 'LUKS2' in uuid_file.read_text():
                raise OSError(errno.EIO, 'Nothing to read on input.')
            self._set_size(found)
            self._emit('change', found)

    def offset(self, name: str, timeout: float) -> int:
        with self._lock:
            return self._find(name).offset

    def halve(self, name: str) -> None:
        """Leave only the lower one of a pair."""
        with self._lock:
            self._remove(self._find(name))

    def vanish(self, name: str) -> None:
        """Take a mapping away, unasked."""
        with self._lock:
            for found in reversed(list(self._mappings.values())):
                if found.alias in (name, f'{name}{_LOWER}'):
                    self._remove(found)

    # -- devices

    def _make(
        self,
        device: str,
        name: str,
        provider: str,
        offset: int,
        identity: str,
        read_only: bool,
    ) -> str:
        number = maps.free_number(self._tree)
        inode = os.stat(self._block.file(device)).st_ino
        file = self._tree.root / _DIRECTORY / f'{inode}-{identity}'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        made = Mapping(
            f'dm-{number}',
            f'{maps.MAJOR}:{number}',
            name,
            device,
            self._block.find(device).directory,
            offset,
            file,
        )
        kind = {
            'luks': f'LUKS1-{identity}',
            'luks2': f'LUKS2-{identity}',
            'integrity': f'INTEGRITY-{identity}',
        }
        uuid_text = f'CRYPT-{kind.get(provider, "PLAIN")}-{name}'
        self._mappings[made.name] = made
        self._tree.place(
            f'sys/{made.directory}',
            {
                'dev': f'{made.number}\n',
                'size': '0\n',
                'ro': f'{int(read_only)}\n',
                'queue/logical_block_size': f'{_SECTOR}\n',
                'holders': None,
                'slaves': None,
                'dm/uuid': f'{uuid_text}\n',
                'dm/name': f'{name}\n',
                'dm/suspended': '0\n',
            },
        )
        self._tree.symlink(
            f'sys/{made.directory}/slaves/{device}',
            f'sys/{made.below_directory}',
        )
        self._tree.symlink(
            f'sys/{made.below_directory}/holders/{made.name}',
            f'sys/{made.directory}',
        )
        self._tree.symlink(
            f'sys/class/block/{made.name}', f'sys/{made.directory}'
        )
        self._set_size(made)
        self._tree.hardlink(f'dev/{made.name}', file)
        self._tree.symlink(f'dev/mapper/{name}', f'dev/{made.name}')
        self._emit('add', made)
        return made.name

    def _remove(self, found: Mapping) -> None:
        del self._mappings[found.name]
        self._tree.unlink(f'dev/mapper/{found.alias}')
        self._tree.unlink(f'dev/{found.name}')
        self._tree.unlink(f'sys/{found.below_directory}/holders/{found.name}')
        self._tree.remove(f'sys/class/block/{found.name}')
        self._emit('remove', found)
        self._tree.remove(f'sys/{found.directory}')

    def _set_size(self, found: Mapping) -> None:
        below = self._tree.root / f'sys/{found.below_directory}/size'
        found.size = int(below.read_text()) * _SECTOR - found.offset
        os.truncate(found.file, found.size)
        self._tree.write(
            f'sys/{found.directory}/size', f'{found.size // _SECTOR}\n'
        )

    def _check_unused(self, device: str) -> None:
        directory = self._block.find(device).directory
        if any((self._tree.root / f'sys/{directory}/holders').iterdir()):
            raise OSError(
                errno.EBUSY, f'Cannot use device /dev/{device} which is in use'
            )

    def _find(self, name: str) -> Mapping:
        for found in self._mappings.values():
            if found.alias == name:
                return found
        raise OSError(errno.ENODEV, f'Device {name} is not active.')

    def _header(self, device: str, provider: str) -> _Header | None:
        with open(self._block.file(device), 'rb') as stream:
            head = stream.read(_HEADER)
        version, _ = _FORMATS[provider]
        start = _MAGIC + bytes((0, version))
        if not head.startswith(start):
            return None
        text = head.removeprefix(start).rstrip(b'\0').decode()
        name, integrity, memory, *digests = text.split()
        return _Header(name, integrity == '1', int(memory), tuple(digests))

    def _emit(self, action: str, found: Mapping) -> None:
        self._events.emit(
            action, 'block', f'/{found.directory}', DEVNAME=found.name
        )


def _check_key(found: _Header, key: str) -> None:
    if _digest(key) not in found.digests:
        raise PermissionError(
            errno.EACCES, 'No key available with this passphrase.'
        )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
