# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Block devices: what is cached of them, and whether they can be used.

No verb tells what is on a device.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import mmap
import os
import stat
import threading

from attachworker import privileged
from attachworker.privileged import names

_device = names.rule(
    r'[a-z][a-z0-9-]{0,31}', 'the kernel name of a block device'
)
_device_number = names.rule(
    r'\d{1,5}:\d{1,8}', 'the number of a device (MAJOR:MINOR)'
)
_BLKFLSBUF = 0x1261
#: What is read to see whether a device can be, in bytes: one block of any.
_FIRST = 4096
#: How a device fails to open that nobody has exclusively: the kernel looks for
#: that before it asks the driver, whose path is dead, or has no medium.
_UNCLAIMED = (errno.ENXIO, errno.ENOMEDIUM)
#: By number of a device, held while it is looked at.
_CLAIMS: dict[str, threading.Lock] = {}


def node(device: str) -> str:
    """The node of a device, by its kernel name."""
    path = f'/dev/{_device(device)}'
    # to open some of the other nodes is an act: a watchdog starts
    if not stat.S_ISBLK(os.stat(path).st_mode):
        raise ValueError('not the kernel name of a block device')
    return path


@contextlib.contextmanager
def opened(device: str, instance: int, flags: int) -> Iterator[int]:
    """A descriptor of a device that is proven to be the one that was meant.

    While it is open, the kernel gives neither name nor number of the device
    to another one, so a tool may then be told the name.

    :param instance: the inode number of its directory in sysfs, which no
        later device of the same name has
    :raises OSError: ESTALE: the name is another device's by now
    """
    descriptor = os.open(node(device), flags)
    try:
        number = _number(os.fstat(descriptor).st_rdev)
        try:
            # of the device that has the number, and that is this one or none
            found = os.stat(f'/sys/dev/block/{number}/').st_ino
        except FileNotFoundError:
            found = None
        if found != instance:
            raise OSError(
                errno.ESTALE, f'/dev/{device} is another device by now'
            )
        yield descriptor
    finally:
        os.close(descriptor)


@privileged.default.entrypoint
def flush(device: str) -> None:
    """Write back what the kernel has cached for a device and forget it.

    :raises OSError: the device refused a write
    """
    descriptor = os.open(node(device), os.O_RDONLY)
    try:
        os.fsync(descriptor)
        forget_cache(descriptor)
    finally:
        os.close(descriptor)


@privileged.readonly.entrypoint
def check_readable(device: str, instance: int) -> None:
    """Make sure that the beginning of a device can be read.

    From the device itself and not from the kernel's cache; nobody is told
    what is there.

    :param instance: see :func:`opened`
    :raises OSError: it cannot be read, or is another one by now
    """
    with opened(device, instance, os.O_RDONLY | os.O_DIRECT) as descriptor:
        if not read_direct(descriptor, 0, _FIRST):
            raise OSError(errno.ENODATA, 'there is nothing to read')


def forget_cache(descriptor: int) -> None:
    """Have the kernel forget what it has cached for a device."""
    fcntl.ioctl(descriptor, _BLKFLSBUF, 0)


def read_direct(descriptor: int, offset: int, length: int) -> bytes:
    """Read from a device that was opened with O_DIRECT."""
    # which wants an aligned buffer: an anonymous map is
    with contextlib.closing(mmap.mmap(-1, length)) as buffer:
        count = os.preadv(descriptor, [buffer], offset)
        return buffer[:count]


def write_direct(descriptor: int, offset: int, content: bytes) -> None:
    """Write to a device that was opened with O_DIRECT.

    :raises OSError: not all of it was written
    """
    with contextlib.closing(mmap.mmap(-1, len(content))) as buffer:
        buffer[:] = content
        if os.pwritev(descriptor, [buffer], offset) != len(content):
            raise OSError(errno.EIO, 'not all of it was written')


@privileged.default.entrypoint
def claimed(devices: list[tuple[str, str]]) -> list[str]:
    """Those of some devices that the kernel gives to nobody else now.

    Whatever mounts them, swaps to them or stands on top of them, in whatever
    namespace, has them exclusively; so may a process.

    :param devices: kernel names, each with its ``major:minor``
    :raises OSError: it cannot be told; ESTALE: the name is another device's
    """
    return [
        device for device, number in devices if _is_claimed(device, number)
    ]


def _is_claimed(device: str, number: str) -> bool:
    # Two of us that look at the same time would be claims to each other.
    with _CLAIMS.setdefault(_device_number(number), threading.Lock()):
        try:
            descriptor = os.open(
                node(device), os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK
            )
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            if error.errno in _UNCLAIMED or _is_gone(number, error):
                return False
            raise
        try:
            if _number(os.fstat(descriptor).st_rdev) != number:
                raise OSError(
                    errno.ESTALE, f'/dev/{device} is another device by now'
                )
        finally:
            os.close(descriptor)
    return False


def _is_gone(number: str, error: OSError) -> bool:
    """Whether a node is missing because the kernel has no such device."""
    if not isinstance(error, FileNotFoundError):
        return False
    try:
        os.stat(f'/sys/dev/block/{number}')
    except FileNotFoundError:
        return True
    return False


def _number(device: int) -> str:
    return f'{os.major(device)}:{os.minor(device)}'
