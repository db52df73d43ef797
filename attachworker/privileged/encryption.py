# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted block devices, opened and closed by cryptsetup."""

from collections.abc import Iterator
import contextlib
import errno
import os
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

cfg.CONF.register_opts([options.ITERATIONS])

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
    header: int | None = None,
) -> tuple[int, str]:
    """Exit code and output of a command.

    :param key: goes through its standard input, and nowhere else
    :param timeout: seconds after which it is killed
    :param memory: bytes that it may have beyond those for itself
    :param header: a descriptor that it is given
    :raises FileNotFoundError: it is not installed
    :raises OSError: it failed; ENOMEM: it wanted more memory, or the kernel
        has killed it
    """
    code, output, errors = tools.run(
        *command,
        timeout=timeout,
        key=key or '',
        address_space=_OWN_MEMORY + _memory(memory),
        descriptors=() if header is None else (header,),
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
        header=header,
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
    """

    memory: int
    length: int


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
        yield block.node(device), copy


@contextlib.contextmanager
def _copied(source: int, timeout: float) -> Iterator[int]:
    """A file in memory that has the metadata of a header.

    Without its keys, which are not needed to look at it, and may be long.
    """
    copy = _file_in_memory()
    try:
        os.ftruncate(copy, _LONGEST)
        _copy(source, copy, 0, _METADATA, timeout)
        yield copy
    finally:
        os.close(copy)


def _file_in_memory() -> int:
    """A descriptor of a new file that has no name."""
    name = 'attachworker-header'
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
    length = _length_in(dump)
    return Header(memory * 1024 + length, length)


def _length_in(dump: str) -> int:
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
    return min(length, _LONGEST)


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
    how = ['--type', _type(provider, ('luks', 'luks2'))]
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
