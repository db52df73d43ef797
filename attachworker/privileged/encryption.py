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
from attachworker.privileged import tools

#: No other mapping is touched.
_name = names.rule(
    r'attachworker-[0-9a-f]{32}', 'the name of a mapping of attachworker'
)
_TYPES = {'luks': 'luks1', 'luks2': 'luks2', 'plain': 'plain'}
_OFFSET = re.compile(r'offset:\s+(\d+)')
_SECTOR = 512
#: What must be zero before a device is formatted; bytes.
_HEAD = 2 * 1024 * 1024
#: To unlock takes seconds by design, and many at once take turns.
_TIMEOUT = 300.0
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
    *command: str, key: str | None = None, fine: tuple[int, ...] = (0,)
) -> tuple[int, str]:
    """Exit code and output of a command.

    :param key: goes through its standard input, and nowhere else
    :raises FileNotFoundError: it is not installed
    :raises OSError: it failed
    """
    code, output, errors = tools.run(*command, timeout=_TIMEOUT, key=key or '')
    if code in fine:
        return code, output
    raise OSError(
        _ERRORS.get(code, errno.EIO),
        errors.rpartition('\n')[2] or f'{command[0]}: {code}',
    )


def _cryptsetup(
    act: str, *how: str, key: str | None = None, fine: tuple[int, ...] = (0,)
) -> tuple[int, str]:
    return _run('cryptsetup', act, *how, key=key, fine=fine)


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
def is_luks(device: str, instance: int, provider: str) -> bool:
    """Whether a device has a header of this format.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks or luks2
    :raises OSError: it cannot be read, or is another device by now
    """
    kind = _type(provider, ('luks', 'luks2'))
    with _held(device, instance) as node:
        code, _ = _cryptsetup('isLuks', '--type', kind, node, fine=(0, 1))
    return code == 0


@privileged.default.entrypoint
def format(device: str, instance: int, provider: str, key: str) -> None:
    """Write a header to a device that is proven to be empty.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks or luks2
    :raises FileExistsError: it is not empty; says what was found
    :raises OSError: it cannot be read or written, or is another device by now
    """
    kind = _type(provider, ('luks', 'luks2'))
    with _held(device, instance) as node:
        _check_empty(node)
        _cryptsetup('luksFormat', *_BATCH, '--type', kind, node, key=key)


def _check_empty(node: str) -> None:
    # O_EXCL: nobody has it mounted, or another device on top of it
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECT | os.O_EXCL)
    try:
        # what another host wrote may not be in our cache
        block.forget_cache(descriptor)
        head = block.read_direct(descriptor, 0, _HEAD)
    finally:
        os.close(descriptor)
    if head.strip(b'\0'):
        raise FileExistsError(
            errno.EEXIST, 'it is not empty: there is data at its start'
        )
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
) -> None:
    """Make a mapping; udev has made its node on return.

    :param instance: see :func:`attachworker.privileged.block.opened`
    :param provider: luks, luks2 or plain
    :raises OSError: cryptsetup has refused; EACCES: it is the wrong key;
        ESTALE: it is another device by now
    """
    kind = _type(provider)
    how = [*_PLAIN] if provider == 'plain' else []
    how += ['--readonly'] if read_only else []
    mapping = _name(name)
    with _held(device, instance) as node:
        how += ['--type', kind]
        _cryptsetup('open', *_BATCH, *how, node, mapping, key=key)


@privileged.default.entrypoint
def close(name: str) -> None:
    """Remove a mapping that nobody uses.

    :raises OSError: ENODEV: there is none; EBUSY: it is in use
    """
    _cryptsetup('close', _name(name))


@privileged.default.entrypoint
def resize(name: str, key: str | None) -> None:
    """Give a mapping the size of what is below it.

    :param key: LUKS2 takes it, where the kernel's keyring has the volume key
    :raises OSError: cryptsetup has refused
    """
    how = ('--batch-mode',) if key is None else _BATCH
    _cryptsetup('resize', *how, _name(name), key=key)


@privileged.default.entrypoint
def offset(name: str) -> int:
    """Where on the device below it the data of a mapping begins; bytes.

    :raises OSError: there is no such mapping
    """
    _, status = _cryptsetup('status', _name(name))
    found = _OFFSET.search(status)
    if found is None:
        raise OSError(errno.EPROTO, 'cryptsetup tells no offset')
    return int(found[1]) * _SECTOR
