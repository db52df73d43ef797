# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted block devices, opened and closed by cryptsetup."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import re
import time
from typing import NamedTuple

from oslo_config import cfg

from attachworker import privileged
from attachworker.conf import encryption as options
from attachworker.privileged import block
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import tools

cfg.CONF.register_opts([options.ITERATIONS, options.KEY_TIME])

#: No other mapping is touched.
_name = names.rule(
    r'attachworker-[0-9a-f]{32}', 'the name of a mapping of attachworker'
)
#: What cryptsetup calls the device below a mapping with integrity ends so.
LOWER = '_dif'
_TYPES = {'luks': 'luks1', 'luks2': 'luks2', 'plain': 'plain'}
_OFFSET = re.compile(r'^[ \t]*offset:[ \t]+([0-9]{1,19})\b', re.MULTILINE)
_SECTOR = 512
#: What must be zero before a device is formatted: cryptsetup overwrites all
#: of this, the area of a LUKS 2 header and of its keyslots; bytes.
_HEAD = 16 << 20
#: Of which so much is read at a time.
_CHUNK = 1 << 20
#: Address space that cryptsetup has beyond what a header asks for: libraries,
#: and the stacks and heaps of four threads; bytes.
_OWN_MEMORY = 512 << 20
#: The two areas of metadata of a LUKS 2 header are in the first 8 MiB at the
#: latest, and that of LUKS 1 is; bytes.
_METADATA = 8 << 20
#: And the longest header, with all areas of its keyslots; bytes.
_LONGEST = _METADATA + (128 << 20)
#: How ``luksDump`` prints what a header asks for, either version of it.
#: Whatever else is in the header can add such lines, and take none away. No
#: pattern runs on over the end of a line: there may be a million empty ones.
_ASKED = re.compile(
    r'^[ \t]*(?:MK )?(iterations|time cost|memory):[ \t]*(-?[0-9]{1,19})\b',
    re.IGNORECASE | re.MULTILINE,
)
#: The sectors before the data of LUKS 1, and the bytes of each area of LUKS 2.
_LENGTHS = re.compile(
    r'^(Payload offset|Metadata area|Keyslots area):[ \t]*([0-9]{1,19})\b',
    re.MULTILINE,
)
#: Where the data of LUKS 2 begins; bytes.
_DATA = re.compile(r'^[ \t]*offset:[ \t]*([0-9]{1,19}) ', re.MULTILINE)
#: A cipher that is none.
_NO_CIPHER = re.compile(
    r'^[ \t]*(?:MK )?cipher(?: name)?:.*cipher_null',
    re.IGNORECASE | re.MULTILINE,
)
#: A part of a LUKS 2 header that is none of those which are known to be fine:
#: keyslots, digests and segments of data as they usually are. Others are data
#: in the clear, or enciphered by the storage itself, a reencryption that was
#: begun, and tokens, which tell cryptsetup where else to get a key.
_UNUSUAL = re.compile(
    r'^[ \t]*[0-9]{1,9}:[ \t]*(?!(?:luks2|pbkdf2|crypt)(?:[ \t]|$))(\S+)',
    re.MULTILINE,
)
#: linux/memfd.h: MFD_NOEXEC_SEAL. Linux has it from 6.3 on, and a host may
#: refuse files in memory without it (sysctl vm.memfd_noexec).
_NOEXEC_SEAL = 0x8
#: To unlock takes seconds by design, and many at once take turns. What only
#: reads and derives keys, and makes a mapping that is closed again, is ended
#: earlier if its caller has less time. What writes to a volume is not: a
#: header would be half written, a mapping be left suspended.
_TIMEOUT = 300.0
#: Memory that a keyslot which is added asks for at most, as cryptsetup has it
#: by itself; bytes.
_KEYSLOT_MEMORY = 1 << 30
#: Keyslots that a LUKS 2 header has at most.
_MOST_KEYSLOTS = 32
#: The sectors at the start of LUKS 1 that name its keyslots; bytes.
_LUKS1_METADATA = 4096
#: A header is written in such pieces, where it has changed; bytes.
_BLOCK = 4096
#: How the uuid of a device that cryptsetup has made begins.
_UUID = 'CRYPT-'
#: What any header may ask for, in bytes: 1 TiB.
_MOST_MEMORY = 1 << 40
#: Seconds that anything gets.
_LEAST = 0.1
#: It asks nobody, and reads the key from its standard input.
_BATCH = ('--batch-mode', '--key-file=-')
#: Exit codes of cryptsetup; see cryptsetup(8).
_ERRORS = {
    2: errno.EACCES,
    3: errno.ENOMEM,
    4: errno.ENODEV,
    5: errno.EBUSY,
}
#: Of a plain device nothing on it says how it is encrypted, and cryptsetup's
#: own defaults have changed: these are those of its version 2.7.
_PLAIN = (
    '--cipher=aes-xts-plain64',
    '--key-size=256',
    '--hash=sha256',
)


def _run(
    *command: str,
    key: str | None = None,
    fine: tuple[int, ...] = (0,),
    memory: int = 0,
    timeout: float = _TIMEOUT,
    descriptors: tuple[int, ...] = (),
) -> tuple[int, str]:
    """Exit code and output of a command.

    :param key: goes through its standard input, and nowhere else
    :param timeout: seconds after which it is killed
    :param memory: bytes that it may have beyond those for itself
    :param descriptors: that it is given
    :raises FileNotFoundError: it is not installed
    :raises OSError: it failed; ENOMEM: it wanted more memory, or the kernel
        has killed it
    """
    code, output, errors = tools.run(
        *command,
        timeout=timeout,
        key=key or '',
        address_space=_OWN_MEMORY + _memory(memory),
        descriptors=descriptors,
    )
    if code in fine:
        return code, output
    if code < 0:
        raise OSError(
            errno.ENOMEM,
            f'{command[0]} was ended by signal {-code}; the kernel does that '
            'where memory runs out, and dmesg tells',
        )
    raise OSError(
        _ERRORS.get(code, errno.EIO),
        errors.rpartition('\n')[2] or f'{command[0]}: {code}',
    )


def _cryptsetup(
    act: str,
    *how: str,
    key: str | None = None,
    fine: tuple[int, ...] = (0,),
    memory: int = 0,
    timeout: float = _TIMEOUT,
    header: int | None = None,
) -> tuple[int, str]:
    """See :func:`_run`.

    :param header: a descriptor of the header to be obeyed, wherever the data
        is
    """
    return _run(
        *('cryptsetup', act, *how),
        *(() if header is None else ('--header', _path(header))),
        key=key,
        fine=fine,
        memory=memory,
        timeout=timeout,
        descriptors=() if header is None else (header,),
    )


def _path(descriptor: int) -> str:
    """Of a descriptor, for a process that has it as well."""
    return f'/proc/self/fd/{descriptor}'


def _bounded(timeout: float) -> float:
    """The seconds that a caller has, as far as cryptsetup needs them."""
    if not timeout >= 0:
        raise ValueError('not a time')
    return min(max(timeout, _LEAST), _TIMEOUT)


def _memory(size: int) -> int:
    return names.number(size, _MOST_MEMORY, 'a size of memory')


def _type(provider: str, known: tuple[str, ...] = tuple(_TYPES)) -> str:
    if provider not in known:
        raise ValueError('not a known format')
    return _TYPES[provider]


@contextlib.contextmanager
def _held(device: str, instance: int) -> Iterator[str]:
    """The node of a device, which is no other one's while this is entered."""
    with block.opened(device, instance, os.O_RDONLY | os.O_NONBLOCK):
        yield block.node(device)


# -- headers


class Header(NamedTuple):
    """What is to be known of a header before it is obeyed.

    :ivar memory: bytes that opening the volume takes
    :ivar length: bytes of its areas, or as many as there may be
    :ivar metadata: bytes of an area of metadata; 0: LUKS 1
    """

    memory: int
    length: int
    metadata: int


@privileged.default.entrypoint
def read_header(
    device: str, instance: int, provider: str, timeout: float
) -> int | None:
    """Bytes of memory that the header of a device asks for to be opened.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks or luks2
    :param timeout: seconds after which it is given up
    :returns: None if it has no header of this format
    :raises OSError: it cannot be read, or is another device by now; E2BIG:
        the header asks for more work than any key is worth; EPERM: by this
        header data would be in the clear; EPROTO: it makes no sense
    """
    kind = _type(provider, ('luks', 'luks2'))
    seconds = _bounded(timeout)
    with (
        block.opened(device, instance, os.O_RDONLY | os.O_DIRECT) as source,
        _copied(source, seconds) as copy,
    ):
        found = _looked_at(copy, kind, seconds)
    return found.memory if found else None


@contextlib.contextmanager
def _checked(
    device: str, instance: int, kind: str, memory: int, timeout: float
) -> Iterator[tuple[str, int]]:
    """The node of a device, and a copy of its header that may be obeyed.

    The copy alone is looked at, and the copy alone is what cryptsetup is then
    given: a storage may answer otherwise when it is asked again. The copy has
    no name and goes with its last descriptor.

    :param memory: bytes that it may ask for
    :raises OSError: see :func:`read_header`
    """
    with (
        block.opened(device, instance, os.O_RDONLY | os.O_DIRECT) as source,
        _copied(source, timeout) as copy,
    ):
        _complete(source, copy, kind, memory, timeout)
        yield block.node(device), copy


def _complete(
    source: int, copy: int, kind: str, memory: int, timeout: float
) -> Header:
    """Have a copy that may be obeyed hold the keyslots, too.

    :raises OSError: it may not be obeyed, or cannot be read
    """
    found = _looked_at(copy, kind, timeout)
    if found is None:
        raise OSError(errno.EPROTO, 'it has no header of this format')
    if found.memory > memory:
        raise OSError(
            errno.E2BIG,
            f'its header asks for {found.memory} bytes of memory, and '
            f'{memory} when it was looked at before; attach it again if '
            'somebody has changed a key meanwhile',
        )
    _copy(source, copy, _METADATA, found.length, timeout)
    os.ftruncate(copy, found.length)
    return found


@contextlib.contextmanager
def _copied(source: int, timeout: float) -> Iterator[int]:
    """A file in memory that has the metadata of a header.

    Without its keys, which are not needed to look at it, and may be long.
    """
    copy = _file_in_memory('attachworker-header')
    try:
        os.ftruncate(copy, _LONGEST)
        _copy(source, copy, 0, _METADATA, timeout)
        yield copy
    finally:
        os.close(copy)


def _file_in_memory(name: str) -> int:
    """A descriptor of a new file that has no name in any directory."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create(name)


def _copy(
    source: int, copy: int, start: int, end: int, timeout: float
) -> None:
    until = time.monotonic() + timeout
    for offset in range(start, end, _CHUNK):
        if time.monotonic() > until:
            raise TimeoutError(
                errno.ETIMEDOUT, 'the storage takes too long for its header'
            )
        found = block.read_direct(source, offset, _CHUNK)
        # what is not written takes no memory
        if found.strip(b'\0'):
            os.pwrite(copy, found, offset)


def _looked_at(copy: int, kind: str, timeout: float) -> Header | None:
    code, text = _cryptsetup(
        'luksDump',
        *('--type', kind, _path(copy)),
        fine=(0, 1),
        timeout=timeout,
        header=copy,
    )
    return header_in(text) if code == 0 else None


def header_in(dump: str) -> Header:
    """What a header asks for, as ``luksDump`` prints it.

    :raises OSError: see :func:`read_header`
    """
    unusual = _UNUSUAL.search(dump)
    if _NO_CIPHER.search(dump) or unusual:
        raise OSError(
            errno.EPERM,
            f'its header has {unusual[1][:64] if unusual else "cipher_null"}, '
            'by which data or keys could be in the clear, or known to others: '
            'remove its tokens (cryptsetup token remove), finish a '
            'reencryption that was begun, or make another header',
        )
    asked: dict[str, list[int]] = {'iterations': [], 'time cost': []}
    asked['memory'] = [0]
    for name, number in _ASKED.findall(dump):
        asked[name.lower()].append(int(number))
    if min(number for found in asked.values() for number in [0, *found]) < 0:
        raise OSError(errno.EPROTO, 'its header has a number below zero')
    memory = max(asked['memory'])
    most = cfg.CONF.encryption_iterations
    # to fill a KiB takes Argon2 about as long as PBKDF2 an iteration
    number = sum(asked['iterations']) + sum(asked['time cost']) * memory
    if number > most:
        raise OSError(
            errno.E2BIG,
            f'its header asks for {number} iterations of PBKDF2, or KiB that '
            f'Argon2 fills, and option encryption_iterations allows {most}',
        )
    length, metadata = _lengths_in(dump)
    return Header(memory * 1024 + length, length, metadata)


def _lengths_in(dump: str) -> tuple[int, int]:
    """Bytes of all areas, and of an area of metadata."""
    lengths = {'Payload offset': 0, 'Metadata area': 0, 'Keyslots area': 0}
    for name, number in _LENGTHS.findall(dump):
        lengths[name] = max(lengths[name], int(number))
    payload, metadata, keys = lengths.values()
    length = 2 * metadata + keys
    if payload:
        length = max(length, payload * _SECTOR)
    # cryptsetup checks that only of a header that is before its data
    if not length or any(int(n) < length for n in _DATA.findall(dump)):
        raise OSError(
            errno.EPROTO, 'by its header the data begins inside of the header'
        )
    return min(length, _LONGEST), metadata


# -- keys


@privileged.default.entrypoint
def has_key(
    device: str,
    instance: int,
    provider: str,
    key: str,
    memory: int,
    timeout: float,
) -> bool:
    """Whether a key opens a volume; nothing is opened.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks or luks2
    :param memory: bytes that the header may ask for
    :param timeout: seconds after which it is given up
    :raises OSError: see :func:`read_header`
    """
    kind, left = _type(provider, ('luks', 'luks2')), _countdown(timeout)
    with _checked(device, instance, kind, _memory(memory), left()) as found:
        return _opens(found[1], kind, key, memory, left)


@privileged.default.entrypoint
def add_key(
    device: str,
    instance: int,
    name: str,
    provider: str,
    key: str,
    new_key: str,
    memory: int,
    timeout: float,
) -> None:
    """Have one more key open a volume that is open.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param name: of the mapping that is on the device
    :param provider: luks or luks2
    :param key: one that opens it
    :param memory: bytes that the header may ask for, before and after
    :param timeout: seconds after which it is given up; what is written then
        is written to its end
    :raises OSError: nothing was changed, or see :func:`_changed`; EACCES: the
        key does not open it
    """
    kind, left = _type(provider, ('luks', 'luks2')), _countdown(timeout)
    how = ['--type', kind, _key_time()]
    if provider == 'luks2':
        most = min(_memory(memory), _KEYSLOT_MEMORY)
        how.append(f'--pbkdf-memory={most // 1024}')
    with (
        _changed(device, instance, name, kind, memory, left) as copy,
        _key_file(new_key) as file,
    ):
        _run(
            *('cryptsetup', 'luksAddKey', *_BATCH, *how),
            *(_path(copy), _path(file)),
            key=key,
            memory=memory,
            timeout=left(),
            descriptors=(copy, file),
        )


@privileged.default.entrypoint
def remove_key(
    device: str,
    instance: int,
    name: str,
    provider: str,
    key: str,
    kept_key: str,
    memory: int,
    timeout: float,
) -> None:
    """Have a key not open a volume any more that another key opens.

    All keyslots that it opens go; there may be several.

    :param kept_key: one that opens it afterwards
    :raises OSError: see :func:`add_key`, which has the other parameters, too;
        EACCES: without the key nothing would open the volume
    """
    kind, left = _type(provider, ('luks', 'luks2')), _countdown(timeout)
    with _changed(device, instance, name, kind, memory, left) as copy:
        for _ in range(_MOST_KEYSLOTS):
            code, _ = _run(
                *('cryptsetup', 'luksRemoveKey', *_BATCH, '--type', kind),
                _path(copy),
                key=key,
                fine=(0, 2),
                memory=memory,
                timeout=left(),
                descriptors=(copy,),
            )
            if code == 2:
                break
        if not _opens(copy, kind, kept_key, memory, left):
            raise PermissionError(
                errno.EACCES,
                'the key that is to be kept does not open it; nothing was '
                'changed',
            )


def _key_time() -> str:
    """How costly a keyslot is to be that is made here."""
    return f'--iter-time={cfg.CONF.encryption_key_time}'


def _opens(
    copy: int, kind: str, key: str, memory: int, left: Callable[[], float]
) -> bool:
    code, _ = _run(
        *('cryptsetup', 'open', '--test-passphrase', *_BATCH),
        *('--type', kind, _path(copy)),
        key=key,
        fine=(0, 2),
        memory=memory,
        timeout=left(),
        descriptors=(copy,),
    )
    return code == 0


def _countdown(timeout: float) -> Callable[[], float]:
    """What is left of some seconds, from now on."""
    until = time.monotonic() + _bounded(timeout)
    return lambda: max(until - time.monotonic(), _LEAST)


@contextlib.contextmanager
def _key_file(key: str) -> Iterator[int]:
    """A file in memory that holds a key.

    For the second one: the first goes through the standard input.
    """
    file = _file_in_memory('attachworker-key')
    try:
        os.pwrite(file, key.encode(), 0)
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def _changed(
    device: str,
    instance: int,
    name: str,
    kind: str,
    memory: int,
    left: Callable[[], float],
) -> Iterator[int]:
    """A copy of the header of a device, which is written to it in the end.

    What cryptsetup obeys, and changes, is the copy: it may be ended at any
    time, and a storage that gives another header meanwhile has no effect.
    What has come of it is looked at once more before anything is written.

    :param name: of the mapping of ours that is on the device
    :raises OSError: nothing was changed: see :func:`read_header`; EPERM: the
        device is none whose keys may be changed here; ESTALE: somebody else
        has changed the header meanwhile; EIO: it was not written as it should
    """
    mapping, asked = _name(name), _memory(memory)
    with (
        block.opened(device, instance, os.O_RDWR | os.O_DIRECT) as target,
        _copied(target, left()) as copy,
    ):
        _check_below(device, mapping)
        # cryptsetup mends the metadata of a copy as soon as it looks at it
        start = os.pread(copy, _METADATA, 0)
        header = _complete(target, copy, kind, asked, left())
        rest = max(header.length - len(start), 0)
        before = start[: header.length] + os.pread(copy, rest, len(start))
        yield copy
        made = _looked_at(copy, kind, left())
        if made is None or made[1:] != header[1:]:
            raise OSError(errno.EPROTO, 'no header has come of it')
        _write(target, before, os.pread(copy, header.length, 0), header)


def _check_below(device: str, mapping: str) -> None:
    """Make sure that a device is below a mapping, and not one of the host.

    :raises PermissionError: it is not
    """
    removals.check_own([device])
    block_class = removals.ROOT / 'sys/class/block'
    for holder in os.listdir(block_class / device / 'holders'):
        dm = block_class / holder / 'dm'
        named = _read(dm / 'name') in (mapping, f'{mapping}{LOWER}')
        if named and _read(dm / 'uuid').startswith(_UUID):
            return
    raise PermissionError(
        errno.EPERM, f'{device} is not what {mapping} was opened on'
    )


def _read(path: pathlib.Path) -> str:
    """An attribute; empty where there is none."""
    try:
        return path.read_text(encoding='ascii').strip()
    except (FileNotFoundError, NotADirectoryError):
        return ''


def _write(target: int, before: bytes, after: bytes, header: Header) -> None:
    """Write what has changed of a header, so that it may end at any time.

    The keyslots come first, and each copy of the metadata that names them is
    on the disk before the next is begun. Cut short, a new keyslot is not
    named yet; one that is removed is, and has nothing in it any more.

    :param before: what the device has; a key that somebody else has changed
        meanwhile shows in the metadata at least
    :raises OSError: ESTALE: it has something else; EIO: afterwards it has not
        what was written
    """
    size = header.metadata or _LUKS1_METADATA
    copies = [(0, size), (size, 2 * size)] if header.metadata else [(0, size)]
    areas = [
        [
            place
            for place in range(start, end, _BLOCK)
            if start < copies[-1][1]
            or _piece(before, place) != _piece(after, place)
        ]
        for start, end in ((copies[-1][1], header.length), *copies)
    ]
    if not all(_has(target, before, places) for places in areas):
        raise OSError(
            errno.ESTALE,
            'somebody else has changed its header meanwhile; nothing was '
            'changed here, send the request again',
        )
    for places in areas:
        for place in places:
            if _piece(before, place) != _piece(after, place):
                block.write_direct(target, place, _piece(after, place))
        os.fsync(target)
    if not all(_has(target, after, places) for places in areas):
        raise OSError(errno.EIO, 'the storage did not keep its new header')


def _piece(content: bytes, place: int) -> bytes:
    """What is written at a time; the last one may be shorter."""
    return content[place : place + _BLOCK]


def _has(target: int, content: bytes, places: list[int]) -> bool:
    """Whether a device has the pieces of some content that begin there."""
    return all(
        block.read_direct(target, place, _BLOCK).startswith(
            _piece(content, place)
        )
        for place in places
    )


# -- devices


@privileged.default.entrypoint
def format(
    device: str, instance: int, provider: str, key: str, memory: int
) -> None:
    """Write a header to a device that is proven to be empty.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks or luks2
    :param memory: bytes that the header may ask for
    :raises FileExistsError: it is not empty; says what was found
    :raises OSError: it cannot be read or written, or is another device by now
    """
    how = ['--type', _type(provider, ('luks', 'luks2')), _key_time()]
    _memory(memory)
    if provider == 'luks2':
        how.append(f'--pbkdf-memory={memory // 1024}')
    with _held(device, instance) as node:
        _check_empty(node)
        _cryptsetup('luksFormat', *_BATCH, *how, node, key=key, memory=memory)


def _check_empty(node: str) -> None:
    # O_EXCL: nobody has it mounted, or another device on top of it
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECT | os.O_EXCL)
    try:
        # what another host wrote may not be in our cache
        block.forget_cache(descriptor)
        for start in range(0, _HEAD, _CHUNK):
            if block.read_direct(descriptor, start, _CHUNK).strip(b'\0'):
                raise FileExistsError(
                    errno.EEXIST,
                    'it is not empty: there is data in the '
                    f'{_HEAD >> 20} MiB at its start',
                )
    finally:
        os.close(descriptor)
    # also of those signatures that are at its end
    _, found = _run('wipefs', '--noheadings', '--output', 'TYPE', node)
    if found.split():
        raise FileExistsError(
            errno.EEXIST,
            f'it is not empty: it has a signature of {found.split()[0]}',
        )


@privileged.default.entrypoint
def open(
    device: str,
    instance: int,
    name: str,
    provider: str,
    key: str,
    read_only: bool,
    memory: int,
    timeout: float,
) -> None:
    """Make a mapping; udev has made its node on return.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks, luks2 or plain
    :param memory: bytes that the header may ask for, whatever it does by now
    :param timeout: seconds after which it is given up; a part of the mapping
        may be there then
    :raises OSError: cryptsetup has refused; EACCES: it is the wrong key;
        ESTALE: it is another device by now
    """
    kind = _type(provider)
    how = ['--readonly'] if read_only else []
    mapping, seconds = _name(name), _bounded(timeout)
    with contextlib.ExitStack() as stack:
        if provider == 'plain':
            how += _PLAIN
            node, copy = stack.enter_context(_held(device, instance)), None
        else:
            node, copy = stack.enter_context(
                _checked(device, instance, kind, _memory(memory), seconds)
            )
        _cryptsetup(
            'open',
            *(*_BATCH, *how, '--type', kind, node, mapping),
            key=key,
            memory=memory,
            timeout=seconds,
            header=copy,
        )


@privileged.default.entrypoint
def close(name: str) -> None:
    """Remove a mapping that nobody uses, and the lower one of a pair.

    :raises OSError: ENODEV: there is none; EBUSY: it is in use; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    removals.check_mapped('name', _name(name))
    try:
        _cryptsetup('close', _name(name))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        # of one with integrity, where its making was cut short
        _cryptsetup('close', f'{_name(name)}{LOWER}')


@privileged.default.entrypoint
def resize(
    device: str,
    instance: int,
    name: str,
    provider: str,
    key: str | None,
    memory: int,
) -> None:
    """Give a mapping the size of what is below it.

    :param device: what is below it
    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks, luks2 or plain
    :param key: LUKS2 takes it, where the kernel's keyring has the volume key
    :param memory: bytes that the header may ask for
    :raises OSError: cryptsetup has refused, or see :func:`read_header`
    """
    kind, mapping = _type(provider), _name(name)
    how = ('--batch-mode',) if key is None else _BATCH
    with contextlib.ExitStack() as stack:
        copy = None
        if provider != 'plain':
            _, copy = stack.enter_context(
                _checked(device, instance, kind, _memory(memory), _TIMEOUT)
            )
        _cryptsetup(
            'resize', *how, mapping, key=key, memory=memory, header=copy
        )


@privileged.default.entrypoint
def offset(name: str, timeout: float) -> int:
    """Where on the device below it the data of a mapping begins; bytes.

    :param timeout: seconds after which it is given up
    :raises OSError: there is no such mapping
    """
    seconds = _bounded(timeout)
    _, status = _cryptsetup('status', _name(name), timeout=seconds)
    return offset_in(status)


def offset_in(status: str) -> int:
    """The same, of what ``cryptsetup status`` prints.

    :raises OSError: EPROTO: it is not there
    """
    found = _OFFSET.search(status)
    if found is None:
        raise OSError(errno.EPROTO, 'cryptsetup tells no offset')
    return int(found[1]) * _SECTOR
