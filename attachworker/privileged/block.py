# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Block devices: flush, read, and who has them open."""

import contextlib
import fcntl
import mmap
import os
import re
import stat

from attachworker import privileged

_DEVICE = re.compile(r'[a-z][a-z0-9-]{0,31}')
_BLKFLSBUF = 0x1261
#: How the kernel says that there is no such process any more.
_ENDED = (FileNotFoundError, ProcessLookupError)

#: Daemons that look at every device and hold none of them for long; so do
#: the programs that they start.
_BYSTANDERS = frozenset(('systemd-udevd', '(udev-worker)', 'multipathd'))


def _node(device: str) -> str:
    if not _DEVICE.fullmatch(device):
        raise ValueError('not the kernel name of a block device')
    node = f'/dev/{device}'
    # to open some of the other nodes is an act: a watchdog starts
    if not stat.S_ISBLK(os.stat(node).st_mode):
        raise ValueError('not the kernel name of a block device')
    return node


def _open(device: str, flags: int) -> int:
    return os.open(_node(device), flags | os.O_CLOEXEC)


@privileged.default.entrypoint
def flush(device: str) -> None:
    """Write back what the kernel has cached for a device and forget it.

    :raises OSError: the device refused a write
    """
    descriptor = _open(device, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
    finally:
        os.close(descriptor)


@privileged.default.entrypoint
def read(device: str, offset: int, length: int) -> bytes:
    """Read past the kernel's cache; ``offset`` and ``length`` in bytes.

    :raises OSError: the device cannot be read
    """
    descriptor = _open(device, os.O_RDONLY | os.O_DIRECT)
    # O_DIRECT wants an aligned buffer: an anonymous map is.
    buffer = mmap.mmap(-1, length)
    try:
        count = os.preadv(descriptor, [buffer], offset)
        return buffer[:count]
    finally:
        buffer.close()
        os.close(descriptor)


@privileged.default.entrypoint
def openers(devices: list[str]) -> list[tuple[str, int, str]]:
    """Which processes have the devices open: device, pid, command.

    All are asked for at once: a look at each file of each process takes long
    on a big host. A device that is not there is open nowhere.

    :raises OSError: somebody may have them open, and it cannot be told
    """
    names = _numbers(devices)
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc') if names else ()):
        if int(pid) == os.getpid():
            continue
        opened = names.keys() & _open_devices(pid)
        if not opened:
            continue
        command, parent = _command(pid), _parent(pid)
        if command is None or parent is None:
            continue  # it has ended, and with it whatever it was
        if not _BYSTANDERS.isdisjoint((command, _command(parent))):
            continue
        found += [(names[number], int(pid), command) for number in opened]
    return found


def _numbers(devices: list[str]) -> dict[int, str]:
    """The devices that are there, by number."""
    found = {}
    for device in devices:
        with contextlib.suppress(FileNotFoundError):
            found[os.stat(_node(device)).st_rdev] = device
    return found


def _open_devices(pid: str) -> set[int]:
    """The numbers of the block devices that a process has open."""
    directory = f'/proc/{pid}/fd'
    found: set[int] = set()
    try:
        descriptors = os.listdir(directory)
    except _ENDED:
        return found
    for descriptor in descriptors:
        try:
            status = os.stat(f'{directory}/{descriptor}')
        except _ENDED:
            continue  # closed meanwhile
        if stat.S_ISBLK(status.st_mode):
            found.add(status.st_rdev)
    return found


def _parent(pid: str) -> str | None:
    """None if the process has ended."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            # the command, in parentheses, may hold anything
            return file.read().rpartition(')')[2].split()[1]
    except _ENDED:
        return None


def _command(pid: str) -> str | None:
    """None if the process has ended."""
    try:
        with open(f'/proc/{pid}/comm', encoding='utf-8') as file:
            return file.read().strip()
    except _ENDED:
        return None
