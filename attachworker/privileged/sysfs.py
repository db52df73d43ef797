# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The directories of devices in sysfs, and writes to their attributes."""

from collections.abc import Iterator
import contextlib
import errno
import os

#: What one write to sysfs may have.
_LONGEST = 4095


@contextlib.contextmanager
def opened(directory: str, instance: int) -> Iterator[int]:
    """A descriptor of the directory of the device that was meant.

    What is opened through it belongs to that device: once the device is gone,
    the kernel has nothing there, whatever has got its name meanwhile.

    :param directory: of the device, or a link to it
    :param instance: the inode number of the directory, which no later device
        of the same name has
    :raises OSError: ESTALE: the name is another device's by now
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(directory, flags)
    try:
        if os.fstat(descriptor).st_ino != instance:
            raise OSError(
                errno.ESTALE, f'{directory} is another device by now'
            )
        yield descriptor
    finally:
        os.close(descriptor)


def write(
    path: str | os.PathLike[str], text: str, directory: int | None = None
) -> None:
    """Give an attribute a value, in one write.

    :param directory: a descriptor, where the path is relative to it
    :raises OSError: there is no such attribute, or the kernel refuses
    """
    data = text.encode()
    if len(data) > _LONGEST:
        raise ValueError('too long for sysfs')
    descriptor = os.open(path, os.O_WRONLY, dir_fd=directory)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
