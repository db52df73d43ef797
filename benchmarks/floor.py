# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What kernel and iscsid demand of whoever attaches a volume, and no more.

No lock, no journal, no check of what was there before, no undo. One command
does for all portals what it can.
"""

from collections.abc import Callable
import contextlib
import functools
import glob
import os
import pathlib
import select
import subprocess
import time

import pyudev

from tests.contract import bed as beds

_SYS = pathlib.Path('/sys')
_TIMEOUT = 30.0  # seconds


class Failed(Exception):
    """A command of the floor has failed, or an event has not come."""


def run(*arguments: str) -> None:
    done = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise Failed(f'{" ".join(arguments)}: {done.stdout}')


class Uevents:
    """The kernel's uevents since it was made."""

    def __init__(self) -> None:
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), 'kernel')
        self._monitor.filter_by('block')
        self._monitor.start()

    def wait(self, what: str, look: Callable[[], bool]) -> None:
        """Return when ``look`` is true, asked at each event of a disk."""
        poll = select.poll()
        poll.register(self._monitor.fileno(), select.POLLIN)
        end = time.monotonic() + _TIMEOUT
        while not look():
            remaining = end - time.monotonic()
            if remaining <= 0:
                raise Failed(f'{what} has not come')
            if poll.poll(remaining * 1000):
                self._monitor._receive_device()


def login(volume: beds.Volume) -> None:
    """Make a session to each portal; iscsiadm does all of them at once."""
    node = ('iscsiadm', '-m', 'node', '-T', volume.target)
    for portal in volume.portals:
        run(*node, '-p', portal, '-o', 'new')
    # "-o new" takes no settings
    run(*node, '-o', 'update', '-n', 'node.session.scan', '-v', 'manual')
    run(*node, '--login')


def logout(volume: beds.Volume) -> None:
    node = ('iscsiadm', '-m', 'node', '-T', volume.target)
    run(*node, '--logout')
    run(*node, '-o', 'delete')


class Portal:
    """One session that is up."""

    def __init__(self, volume: beds.Volume, portal: str) -> None:
        self.volume = volume
        self._portal = portal

    @functools.cached_property
    def _session(self) -> str:
        """Its directory in sysfs."""
        for name in glob.glob(f'{_SYS}/class/iscsi_session/session*'):
            session = pathlib.Path(name)
            sid = session.name.removeprefix('session')
            connection = _SYS / f'class/iscsi_connection/connection{sid}:0'
            address = (connection / 'persistent_address').read_text().strip()
            port = (connection / 'persistent_port').read_text().strip()
            target = (session / 'targetname').read_text().strip()
            if [target, f'{address}:{port}'] == [
                self.volume.target,
                self._portal,
            ]:
                return os.path.realpath(session / 'device')
        raise Failed(f'no session to {self._portal}')

    def scan(self) -> None:
        """The kernel has probed the LUN on return."""
        session = self._session
        host = session.split('/host')[1].split('/')[0]
        scan = _SYS / f'class/scsi_host/host{host}/scan'
        scan.write_text(f'0 0 {self.volume.lun}')

    def disk(self) -> str | None:
        lun = self.volume.lun
        found = glob.glob(
            f'{self._session}/target*/*:{lun}/block/*', recursive=False
        )
        return os.path.basename(found[0]) if found else None


def connect_single(volume: beds.Volume, new: bool) -> str:
    """:param new: the session is to be made; returns the device's path"""
    portal = Portal(volume, volume.portals[0])
    events = Uevents()
    if new:
        login(volume)
    portal.scan()
    events.wait('the disk', lambda: portal.disk() is not None)
    return f'/dev/{portal.disk()}'


def disconnect_single(volume: beds.Volume, path: str, new: bool) -> None:
    _delete(os.path.basename(path))
    if new:
        logout(volume)


def connect_map(volume: beds.Volume) -> str:
    portals = [Portal(volume, portal) for portal in volume.portals]
    events = Uevents()
    login(volume)
    run('multipath', '-a', f'3{volume.wwn}')
    for portal in portals:
        portal.scan()
    events.wait('the map', lambda: _map(volume) is not None)
    return f'/dev/{_map(volume)}'


def disconnect_map(volume: beds.Volume, path: str) -> None:
    name = os.path.basename(path)
    directory = _SYS / 'block' / name
    disks = os.listdir(directory / 'slaves')
    run('multipath', '-f', (directory / 'dm/name').read_text().strip())
    for disk in disks:
        _delete(disk)
    logout(volume)


def _map(volume: beds.Volume) -> str | None:
    """The map of a volume, once it takes I/O."""
    for uuid in _SYS.glob('block/dm-*/dm/uuid'):
        directory = uuid.parents[1]
        with contextlib.suppress(OSError):
            if (
                uuid.read_text().strip() == f'mpath-3{volume.wwn}'
                and (directory / 'dm/suspended').read_text().strip() == '0'
                and int((directory / 'size').read_text()) * 512 == volume.size
            ):
                return directory.name
    return None


def _delete(disk: str) -> None:
    """Returns when the kernel has removed it."""
    (_SYS / 'block' / disk / 'device/delete').write_text('1')
