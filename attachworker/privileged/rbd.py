# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ceph RBD: images as block devices of the kernel.

The key of a user goes to the kernel through the keyring of this thread. As
the option ``secret`` it would be in ``config_info`` of sysfs for as long as
the image is mapped.
"""

import base64
import binascii
from collections.abc import Iterator
import contextlib
import ctypes
import errno
import os
import pathlib
import re
import secrets

from oslo_config import cfg

from attachworker import privileged
from attachworker.conf import rbd as rbd_options
from attachworker.privileged import made
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import sysfs

cfg.CONF.register_opts([rbd_options.KEYRING_USERS], group=rbd_options.GROUP)

BUS = pathlib.Path('/sys/bus/rbd')
KEYRINGS = pathlib.Path('/etc/ceph')

_KEYUTILS = 'libkeyutils.so.1'
# linux/keyctl.h: KEY_SPEC_THREAD_KEYRING
_THREAD_KEYRING = -1

_MONITOR = re.compile(r'(?:[0-9.]{7,15}|\[[0-9a-f:.]{2,45}\]):[0-9]{1,5}')
_name = names.rule(r'(?!-|\.{1,2}$)[!-+.0-?A-~-]{1,255}', 'a name of Ceph')
#: How the names of keys begin that the kernel is given here.
_KEY = 'attachworker-'
#: What the kernel may be told, with the rule for each value.
_OPTIONS = {
    'name': _name,
    '_pool_ns': _name,
    'mount_timeout': names.rule(r'[0-9]{1,9}', 'a number of seconds'),
    'ms_mode': names.rule(
        'legacy|crc|secure|prefer-crc|prefer-secure', 'a mode of Ceph'
    ),
}
#: Of these, the kernel is told the name alone.
_FLAGS = frozenset(('read_only', 'exclusive'))


@privileged.default.entrypoint
def add(
    monitors: list[str],
    pool: str,
    image: str,
    snapshot: str,
    options: dict[str, str],
    cluster: str,
    keyring: str,
) -> None:
    """Map an image; the device is there when this returns.

    :param monitors: ``address:port``
    :param snapshot: empty: the image itself
    :param options: as the kernel calls them; the value of a flag means
        nothing
    :param cluster: whose keyring files of this host may have the key; empty:
        the cluster wants none
    :param keyring: text of a keyring with the key; empty: a file has it, of a
        user that option ``keyring_users`` names
    :raises OSError: ENOKEY if there is no key, or why the kernel does not
    """
    if not monitors or not all(map(_MONITOR.fullmatch, monitors)):
        raise ValueError('not monitors of a cluster')
    for text in (pool, image, *([snapshot] if snapshot else [])):
        _name(text)
    for name, value in options.items():
        if name in _FLAGS:
            continue
        if name not in _OPTIONS:
            raise ValueError('not an option of a mapping')
        _OPTIONS[name](value)
    with contextlib.ExitStack() as stack:
        given = [
            name if name in _FLAGS else f'{name}={value}'
            for name, value in options.items()
        ]
        if cluster:
            _name(cluster)
            key = _key(options['name'], cluster, keyring)
            given.append(f'key={stack.enter_context(_kernel_key(key))}')
        line = ' '.join(
            (','.join(monitors), ','.join(given), pool, image, snapshot or '-')
        )
        before = _mappings()
        _write_to_bus('add', line)
        for mapping in _mappings() - before:
            if _image_of(mapping) == (pool, image):
                made.note(mapping)


def _mappings() -> set[pathlib.Path]:
    return set((BUS / 'devices').glob('*'))


def _image_of(mapping: pathlib.Path) -> tuple[str, ...] | None:
    # another one may go meanwhile
    with contextlib.suppress(OSError):
        return tuple(
            (mapping / one).read_text(encoding='utf-8').strip()
            for one in ('pool', 'name')
        )
    return None


@privileged.default.entrypoint
def remove(number: int, instance: int, force: bool) -> None:
    """Unmap an image.

    :param number: N of rbdN
    :param instance: the inode number of its directory in sysfs, which no later
        mapping of the same number has
    :param force: also if somebody has it open, whose I/O fails from then on
    :raises OSError: EBUSY if somebody has it open, ENOENT if it is not there;
        ESTALE: the number is another mapping's by now; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    line = f'{_number(number)} force' if force else _number(number)
    if os.stat(BUS / 'devices' / _number(number)).st_ino != instance:
        raise OSError(errno.ESTALE, f'rbd{number} is another image by now')
    removals.check([f'rbd{number}'], instance)
    _write_to_bus('remove', line)


@privileged.default.entrypoint
def refresh(number: int) -> None:
    """Have the kernel read the header of an image again, and so its size.

    :raises OSError: it is not mapped, or the cluster does not answer
    """
    sysfs.write(BUS / 'devices' / _number(number) / 'refresh', '1')


@privileged.default.entrypoint
def monitors(number: int) -> list[str]:
    """The monitors that an image was mapped with, as they were spelled.

    Nothing else of what it was mapped with: there may be a secret. So the
    kernel tells it to CAP_SYS_ADMIN alone.

    :raises OSError: it is not mapped
    """
    return _mapped_with(number)[0]


@privileged.default.entrypoint
def is_ours(number: int) -> bool:
    """Whether an image was mapped here; never of a cluster without keys.

    :raises OSError: it is not mapped
    """
    options = _mapped_with(number)[1]
    return any(option.startswith(f'key={_KEY}') for option in options)


def _mapped_with(number: int) -> tuple[list[str], list[str]]:
    """Monitors and options, as the kernel was told."""
    path = BUS / 'devices' / _number(number) / 'config_info'
    text = path.read_text(encoding='utf-8', errors='replace')
    words = [*text.split(' ', 2), '']
    return words[0].split(','), words[1].split(',')


def _number(number: int) -> str:
    return str(names.number(number, 2**31 - 1, 'the number of a mapping'))


def _write_to_bus(verb: str, line: str) -> None:
    """The kernel refuses the plain file where it has the other one."""
    path = BUS / f'{verb}_single_major'
    try:
        os.stat(path)
    except FileNotFoundError:
        path = BUS / verb
    sysfs.write(path, line)


# -- keys


def _key(user: str, cluster: str, keyring: str) -> bytes:
    """The key of a user, from a keyring or where Ceph looks for one.

    :raises OSError: ENOKEY: there is none, or none that may be used
    """
    entity = f'client.{user}'
    texts = iter([keyring]) if keyring else _files(user, cluster)
    for text in texts:
        found = _entry(text, entity)
        if found is None:
            continue
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(found, validate=True)
        break
    where = 'the keyring of the request' if keyring else str(KEYRINGS)
    raise OSError(errno.ENOKEY, f'there is no usable key of it in {where}')


def _files(user: str, cluster: str) -> Iterator[str]:
    if user not in cfg.CONF[rbd_options.GROUP].keyring_users:
        raise OSError(
            errno.ENOKEY,
            'the request has no keyring, and this host keeps its own for the '
            'users that option keyring_users of group [rbd] names',
        )
    names = (
        f'{cluster}.client.{user}.keyring',
        f'{cluster}.keyring',
        'keyring',
        'keyring.bin',
    )
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            yield (KEYRINGS / name).read_text(
                encoding='utf-8', errors='replace'
            )


def _entry(text: str, entity: str) -> str | None:
    """The key in the section of a user; None if it has none there."""
    section = ''
    for line in map(str.strip, text.splitlines()):
        if line.startswith('['):
            section = line.strip('[]').strip()
        name, equals, value = line.partition('=')
        if equals and section == entity and name.strip() == 'key':
            return value.strip().strip('"')
    return None


@contextlib.contextmanager
def _kernel_key(key: bytes) -> Iterator[str]:
    """The name of a key of the kernel that this thread alone can use.

    :raises OSError: the kernel does not take it
    """
    library = ctypes.CDLL(_KEYUTILS, use_errno=True)
    name = f'{_KEY}{secrets.token_hex(8)}'
    serial = library.add_key(
        ctypes.c_char_p(b'ceph'),
        ctypes.c_char_p(name.encode()),
        ctypes.c_char_p(key),
        ctypes.c_size_t(len(key)),
        ctypes.c_int32(_THREAD_KEYRING),
    )
    if serial == -1:
        number = ctypes.get_errno()
        raise OSError(number, f'the key: {os.strerror(number)}')
    try:
        yield name
    finally:
        library.keyctl_unlink(
            ctypes.c_int32(serial), ctypes.c_int32(_THREAD_KEYRING)
        )
