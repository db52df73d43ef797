# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted block devices, opened and closed by cryptsetup."""

from collections.abc import Iterator
import contextlib
import errno
import os
import re

from attachworker import privileged
from attachworker.privileged import block
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import tools

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
#: What a header may ask for, over all its keyslots. The defaults of cryptsetup
#: take two seconds; these take minutes: iterations of PBKDF2, and bytes that
#: Argon2 writes, its memory once a pass.
_ITERATIONS = 200_000_000
_WRITTEN = 256 << 30
#: How ``luksDump`` prints what a header asks for, either version of it.
#: Whatever else is in the header can add such lines, and take none away. No
#: pattern runs on over the end of a line: there may be a million empty ones.
_ASKED = re.compile(
    r'^[ \t]*(?:MK )?(iterations|time cost|memory):[ \t]*(-?[0-9]{1,19})\b',
    re.IGNORECASE | re.MULTILINE,
)
#: And how it says what would be written or read in the clear: a keyslot that
#: any key opens, data that is not enciphered, or only partly so.
_IN_THE_CLEAR = re.compile(
    r'^[ \t]*(?:(?:MK )?cipher(?: name)?:.*cipher_null|[0-9]+:[ \t]*linear\b)',
    re.IGNORECASE | re.MULTILINE,
)
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
) -> tuple[int, str]:
    """Exit code and output of a command.

    :param key: goes through its standard input, and nowhere else
    :param timeout: seconds after which it is killed
    :param memory: bytes that it may have beyond those for itself
    :raises FileNotFoundError: it is not installed
    :raises OSError: it failed; ENOMEM: it wanted more memory, or the kernel
        has killed it
    """
    code, output, errors = tools.run(
        *command,
        timeout=timeout,
        key=key or '',
        address_space=_OWN_MEMORY + _memory(memory),
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
) -> tuple[int, str]:
    command = ('cryptsetup', act, *how)
    return _run(*command, key=key, fine=fine, memory=memory, timeout=timeout)


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
    with _held(device, instance) as node:
        how = ('--type', kind, node)
        code, text = _cryptsetup(
            'luksDump', *how, fine=(0, 1), timeout=seconds
        )
    return memory_asked_for(text) if code == 0 else None


def memory_asked_for(dump: str) -> int:
    """What a header asks for, as ``luksDump`` prints it; bytes.

    :raises OSError: see :func:`read_header`
    """
    if _IN_THE_CLEAR.search(dump):
        raise OSError(
            errno.EPERM,
            'its header wants data or keys in the clear (cipher_null, or a '
            'linear segment): whoever has the storage could read them. Make '
            'another header, or finish a reencryption that was begun',
        )
    asked: dict[str, list[int]] = {'iterations': [], 'time cost': []}
    asked['memory'] = [0]
    for name, number in _ASKED.findall(dump):
        asked[name.lower()].append(int(number))
    memory = max(asked['memory']) * 1024
    for what, number, most in (
        ('iterations of PBKDF2', sum(asked['iterations']), _ITERATIONS),
        ('bytes of Argon2', sum(asked['time cost']) * memory, _WRITTEN),
    ):
        if number > most:
            raise OSError(
                errno.E2BIG,
                f'its header asks for {number} {what}, and {most} are allowed',
            )
    if min(number for found in asked.values() for number in [0, *found]) < 0:
        raise OSError(errno.EPROTO, 'its header has a number below zero')
    return memory


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
    how = [*_PLAIN] if provider == 'plain' else []
    how += ['--readonly'] if read_only else []
    mapping, seconds = _name(name), _bounded(timeout)
    with _held(device, instance) as node:
        how += ['--type', kind, node, mapping]
        _cryptsetup(
            'open', *_BATCH, *how, key=key, memory=memory, timeout=seconds
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
def resize(name: str, key: str | None, memory: int) -> None:
    """Give a mapping the size of what is below it.

    :param key: LUKS2 takes it, where the kernel's keyring has the volume key
    :param memory: bytes that the header may ask for
    :raises OSError: cryptsetup has refused
    """
    how = ('--batch-mode',) if key is None else _BATCH
    _cryptsetup('resize', *how, _name(name), key=key, memory=memory)


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
