# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Users of block devices in the kernel that are no devices themselves.

Swap, btrfs, and the targets that this host exports. Some have their device
exclusively, and their lists tell only who they are; of others, nothing but
their lists tells.
"""

from collections.abc import Callable
from collections.abc import Iterator
import itertools
import pathlib
import re

from attachworker.host import stacks
from attachworker.host import sysfs
from attachworker.privileged import processes

_SWAPS = 'proc/swaps'
_BTRFS = 'sys/fs/btrfs'
_LIO = 'sys/kernel/config/target/core'
_NVMET = 'sys/kernel/config/nvmet/subsystems'

#: What LIO tells of a back store that is a file, or a device.
_BACKED_BY = re.compile(
    r'File: (?P<path>\S+)  Size:|Major: (?P<major>\d+) Minor: (?P<minor>\d+)'
)


def users(stack: stacks.Stack) -> dict[str, list[str]]:
    """Those of which an exclusive open of their device does not tell.

    :returns: by kernel name of the device
    :raises OSError: somebody may use a device, and it cannot be told
    """
    return _by_device(stack, 'fileio_', _namespaces)


def owners(stack: stacks.Stack) -> dict[str, list[str]]:
    """Those that have their device exclusively.

    :returns: by kernel name of the device
    :raises OSError: nobody knows
    """
    return _by_device(stack, 'iblock_', _swaps, _btrfs)


def of_file(root: pathlib.Path, path: str) -> list[str]:
    """The targets of this host that export a file.

    :param path: as whoever exports it has named it
    :raises OSError: nobody knows
    """
    return [
        user
        for file, user in itertools.chain(
            _files_of_lio(root), _files_of_nvmet(root)
        )
        if file == path
    ]


def swaps(root: pathlib.Path) -> list[str]:
    """The devices and files that this host swaps to."""
    return processes.parsed_swaps(sysfs.read(root / _SWAPS) or '')


def file_systems(root: pathlib.Path) -> dict[str, list[str]]:
    """The members of each btrfs that is mounted, by its identifier."""
    return {
        name: members
        for name in sysfs.names(root / _BTRFS)
        if (members := sysfs.names(root / _BTRFS / name / 'devices'))
    }


_Found = Iterator[tuple[str | None, str]]


def _by_device(
    stack: stacks.Stack,
    kind: str,
    *looks: Callable[[stacks.Stack], _Found],
) -> dict[str, list[str]]:
    """:param kind: of LIO's back stores"""
    found: dict[str, list[str]] = {}
    for device, user in itertools.chain(
        _back_stores(stack, kind), *(look(stack) for look in looks)
    ):
        if device is not None:
            found.setdefault(device, []).append(user)
    return found


def _swaps(stack: stacks.Stack) -> _Found:
    for path in swaps(stack.root):
        yield stack.name_of(path), f'swap on {path}'


def _btrfs(stack: stacks.Stack) -> _Found:
    for name, members in file_systems(stack.root).items():
        for member in members:
            yield member, f'btrfs {name}'


def _back_stores(stack: stacks.Stack, kind: str) -> _Found:
    for backed, user in _backed(stack.root, kind):
        path, major, minor = backed['path'], backed['major'], backed['minor']
        yield (
            (
                stack.name_of(path)
                if path
                else stack.numbered(f'{major}:{minor}')
            ),
            user,
        )


def _files_of_lio(root: pathlib.Path) -> Iterator[tuple[str, str]]:
    for backed, user in _backed(root, 'fileio_'):
        if backed['path']:
            yield backed['path'], user


def _backed(
    root: pathlib.Path, kind: str
) -> Iterator[tuple[re.Match[str], str]]:
    """What is behind each of LIO's back stores of a kind."""
    directory = root / _LIO
    for adapter in sysfs.names(directory):
        if not adapter.startswith(kind):
            continue
        for name in sysfs.names(directory / adapter):
            info = sysfs.read(directory / adapter / name / 'info') or ''
            backed = _BACKED_BY.search(info)
            if backed is not None:
                yield backed, f'LIO back store {adapter}/{name}'


def _namespaces(stack: stacks.Stack) -> _Found:
    for path, user in _files_of_nvmet(stack.root):
        yield stack.name_of(path), user


def _files_of_nvmet(root: pathlib.Path) -> Iterator[tuple[str, str]]:
    directory = root / _NVMET
    for subsystem in sysfs.names(directory):
        place = directory / subsystem / 'namespaces'
        for number in sysfs.names(place):
            if sysfs.read(place / number / 'enable') == '1':
                path = sysfs.read(place / number / 'device_path') or ''
                yield (
                    path,
                    f'NVMe target {subsystem}, namespace {number}',
                )
