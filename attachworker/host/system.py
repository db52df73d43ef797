# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Facts of the machine that storage wants to know."""

import ipaddress
import pathlib
import platform
import socket
import sys
from typing import Any

import psutil

from attachworker import privileged
from attachworker.host import sysfs
from attachworker.privileged import processes
from attachworker.privileged import system


def properties(root: pathlib.Path) -> dict[str, Any]:
    """What is known of the machine, with os-brick's keys."""
    found: dict[str, Any] = {
        'platform': platform.machine(),
        'os_type': sys.platform,
        'do_local_attach': False,
    }
    known = {
        'system uuid': read(root, 'system uuid'),
        'uuid': root_file_system(root),
        'host_ips': addresses(),
    }
    return found | {name: value for name, value in known.items() if value}


def root_file_system(root: pathlib.Path) -> str | None:
    """The UUID of the file system that is mounted on /, as udev has read it.

    None where it has none, in a container for example.

    :raises OSError: nobody knows
    """
    mounts = processes.parsed_mounts(
        sysfs.read(root / 'proc/self/mountinfo') or ''
    )
    above = [mount for mount in mounts if mount.point == '/']
    if not above:
        return None
    number = _device_number(root, above[-1])
    for line in (sysfs.read(root / f'run/udev/data/b{number}') or '').split():
        key, _, value = line.partition('=')
        if key == 'E:ID_FS_UUID':
            return value
    return None


def _device_number(root: pathlib.Path, mount: processes.Mount) -> str | None:
    if not mount.number.startswith('0:'):
        return mount.number
    # btrfs and others number their mounts by themselves.
    node = sysfs.resolved(root / mount.source.lstrip('/'))
    if node is None:
        return None
    return sysfs.read(root / 'sys/class/block' / node.name / 'dev')


def addresses() -> list[str]:
    """The IP addresses by which others reach this host."""
    found = {
        one.address.partition('%')[0]
        for device in psutil.net_if_addrs().values()
        for one in device
        if one.family in (socket.AF_INET, socket.AF_INET6)
    }
    return sorted(filter(reaches_beyond_its_wire, found))


def reaches_beyond_its_wire(address: str) -> bool:
    """Whether an IP address means this host to others than its neighbours."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local)


def read(root: pathlib.Path, name: str) -> str | None:
    """The text of a file that names the machine, without blanks around it.

    None if it is not there, or empty.

    :param name: one of privileged.system.FILES
    :raises OSError: it cannot be read
    """
    path = root / system.FILES[name].relative_to('/')
    try:
        text = sysfs.read(path)
    except PermissionError:
        # Without a helper there is nobody to ask.
        text = system.read(name) if privileged.readonly.channel else None
    return (text or '').strip() or None
