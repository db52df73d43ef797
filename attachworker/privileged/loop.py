# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Loop devices: a file as a block device.

Those that are made here carry a mark, in what the kernel keeps as the name of
their file (``lo_file_name``): who has made them, for which path, and what the
file system of the file says it is, which nobody can ask any more once the file
has lost its name. It comes in the one call that makes the device, so that no
crash leaves one without, and it is looked at through the descriptor through
which the device is changed.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import struct

from attachworker import privileged
from attachworker.privileged import block
from attachworker.privileged import names
from attachworker.privileged import processes
from attachworker.privileged import removals
from attachworker.privileged import roots

_device = names.rule(r'loop\d{1,7}', 'the kernel name of a loop device')
_CONTROL = '/dev/loop-control'
_BLOCK = '/sys/class/block'
_SWAPS = '/proc/swaps'
#: A device that loses its file meanwhile.
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
#: linux/loop.h
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_READ_ONLY = 1
#: struct loop_info64: device, inode, rdevice, offset, limit of the size;
#: number, kind of encryption, size of its key, flags; names; the key; init.
_INFO = struct.Struct('=5Q4I64s64s32s2Q')
#: struct loop_config: descriptor of the file, size of a block; info; reserved.
_CONFIG = struct.Struct(f'=2I{_INFO.size}s64x')
#: Those of earlier workers do not have the file system.
_MARK = re.compile(rb'attachworker-[0-9a-f]{32}-(?P<system>[0-9a-f]{0,16})')
#: How often somebody else may be quicker to take a device that was free.
_ATTEMPTS = 16


def _mark(path: str) -> bytes:
    digest = hashlib.sha256(path.encode()).hexdigest()
    return f'attachworker-{digest[:32]}'.encode()


def _file_system(file: int) -> str:
    """What an open file's file system says it is; empty: nothing that lasts.

    Most make it of their UUID (``f_fsid``). Some make it of the number of the
    device that they are on, which may be another one after the next boot.
    """
    found = os.fstatvfs(file).f_fsid
    if found in (0, os.fstat(file).st_dev):
        return ''
    return f'{found:016x}'


@privileged.default.entrypoint
def attach(path: str, read_only: bool) -> None:
    """Make a loop device for a file that nobody else has such a device of.

    :param path: of a file below one of the roots; see
        :func:`attachworker.privileged.roots.opened`
    :raises PermissionError: the file may not be used
    :raises OSError: it cannot be made; ETXTBSY: the file is in use
    """
    flags = os.O_RDONLY if read_only else os.O_RDWR
    with roots.opened(path, flags) as file:
        _check_unused(file)
        lo_flags = _LO_FLAGS_READ_ONLY if read_only else 0
        numbers = (0, 0, 0, 0, 0, 0, 0, 0, lo_flags)
        mark = _mark(path) + f'-{_file_system(file)}'.encode()
        info = _INFO.pack(*numbers, mark, b'', b'', 0, 0)
        _configure(_CONFIG.pack(file, 0, info), flags)


def _check_unused(file: int) -> None:
    """Make sure that an open file is no loop device's, nor swapped to.

    Not by its name: a file may have another one in another place, or to
    another process.
    """
    wanted = os.fstat(file)
    for name, (number, inode, _) in files().items():
        if (number, inode) == (wanted.st_dev, wanted.st_ino):
            raise OSError(
                errno.ETXTBSY, f'{name}, which has this file already'
            )
    with open(_SWAPS, encoding='utf-8', errors='surrogateescape') as table:
        swaps = processes.parsed_swaps(table.read())
    for path in swaps:
        # one that was deleted is not the file that is open here
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), wanted):
                raise OSError(
                    errno.ETXTBSY, f'this host, which swaps to {path}'
                )


def files() -> dict[str, tuple[int, int, str]]:
    """The file of each loop device: numbers of file system and inode, path.

    The path is the one that the kernel knows, in whatever namespace.
    """
    found = {}
    for name in os.listdir(_BLOCK):
        place = f'{_BLOCK}/{name}/loop'
        if not os.path.exists(place):
            continue
        try:
            # These numbers NFS and Ceph have in memory: nobody waits for the
            # dead server of another file.
            with _opened(name) as descriptor:
                number, inode, *_ = _status(descriptor)
            with open(f'{place}/backing_file', errors='replace') as path:
                found[name] = int(number), int(inode), path.read().strip()
        except OSError as error:
            if error.errno not in _GONE:
                raise
    return found


def _configure(config: bytes, flags: int) -> None:
    """Have the first free device take a file."""
    control = os.open(_CONTROL, os.O_RDWR)
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = os.open(block.node(f'loop{number}'), flags)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == _ATTEMPTS:
                    raise
            finally:
                os.close(device)
    finally:
        os.close(control)


@privileged.default.entrypoint
def detach(device: str, path: str) -> None:
    """Take the file away from a device that was made here for a path.

    The kernel lets go of it once nobody has it open.

    :raises OSError: it keeps it; ENXIO: it has none; ESTALE: the device is
        not, or no longer, one that was made here for that path; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    with _ours(device, path) as descriptor:
        removals.check([device])
        fcntl.ioctl(descriptor, _LOOP_CLR_FD)


@privileged.default.entrypoint
def resize(device: str, path: str) -> None:
    """Have a device read the size of its file again.

    :raises OSError: see :func:`detach`
    """
    with _ours(device, path) as descriptor:
        fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)


@privileged.readonly.entrypoint
def is_ours(device: str, path: str) -> bool:
    """Whether a device was made here for a path.

    :raises OSError: nobody knows; ENXIO: it has no file
    """
    with _opened(device) as descriptor:
        return _was_made_for(descriptor, path)


@privileged.readonly.entrypoint
def identify(device: str) -> list[int | str]:
    """The file of a loop device, whatever has its name by now.

    :returns: the numbers of its device and inode, as stat(2) has them, and
        what its file system says it is; empty: nobody knows
    :raises OSError: ENXIO: it has none
    """
    with _opened(device) as descriptor:
        number, inode, *_ = _status(descriptor)
        mark = _MARK.fullmatch(_name_of(descriptor))
        system = mark['system'].decode() if mark else ''
        return [int(number), int(inode), system]


@contextlib.contextmanager
def _opened(device: str) -> Iterator[int]:
    # Who closes a device that was open for writing wakes udev.
    descriptor = os.open(block.node(_device(device)), os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _ours(device: str, path: str) -> Iterator[int]:
    """While this is entered, the kernel gives the device no other file."""
    with _opened(device) as descriptor:
        if not _was_made_for(descriptor, path):
            raise OSError(
                errno.ESTALE,
                f'{device} was not made by attachworker for {path}',
            )
        yield descriptor


def _was_made_for(descriptor: int, path: str) -> bool:
    return _name_of(descriptor).startswith(_mark(path))


def _name_of(descriptor: int) -> bytes:
    return bytes(_status(descriptor)[9]).rstrip(b'\0')


def _status(descriptor: int) -> tuple[int | bytes, ...]:
    buffer = bytearray(_INFO.size)
    fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, buffer)
    return _INFO.unpack(buffer)
