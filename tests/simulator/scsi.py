# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The SCSI midlayer: logical units come by a scan and go by a delete."""

from collections.abc import Callable
import dataclasses
import errno
import os
import threading

from tests.simulator import block
from tests.simulator import disks
from tests.simulator import sessions
from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents
from tests.simulator import vpd

#: From a device's first sight to the start of sd's probe of it.
PROBE_SECONDS = 0.005


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclasses.dataclass
class Device:
    """A logical unit, with what the kernel remembers of it."""

    session: sessions.Link
    lun: int
    disk: disks.Disk | None = None
    removed: bool = False

    @property
    def hctl(self) -> str:
        return f'{self.session.host}:0:{self.session.target_id}:{self.lun}'

    @property
    def target_directory(self) -> str:
        name = f'target{self.session.host}:0:{self.session.target_id}'
        return f'{self.session.directory}/{name}'

    @property
    def directory(self) -> str:
        return f'{self.target_directory}/{self.hctl}'


class Bus:
    """All logical units; its methods include the verbs of ``scsi``."""

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        targets: storage.Storage,
        known: sessions.Sessions,
        sd: disks.Disks,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._storage = targets
        self._sessions = known
        self._disks = sd
        self._devices: dict[str, Device] = {}
        #: Finds what is at a host, channel and target number, beside
        #: sessions.
        self.others: Callable[[int, int, int], sessions.Link | None] = (
            lambda *address: None
        )

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        for device in self._devices.values():
            device.removed = True
        self._devices.clear()

    def scan(self, host: int, channel: int, target: int, lun: int) -> None:
        with self._lock:
            session = self._sessions.by_host(host)
            if session is not None:
                known = (channel, target) == (0, session.target_id)
                link = session if known else None
            else:
                link = self.others(host, channel, target)
            if link is not None:
                self.probe(link, lun)
            elif not (
                self._tree.root / f'sys/class/scsi_host/host{host}'
            ).exists():
                raise failure(errno.ENOENT)

    def delete(self, hctl: str) -> None:
        with self._lock:
            device = self._devices.get(hctl)
            if device is None:
                raise failure(errno.ENOENT)
            self._remove(device)

    def rescan(self, hctl: str) -> None:
        with self._lock:
            device = self._devices.get(hctl)
            if device is None:
                raise failure(errno.ENOENT)
            if device.disk is not None:
                self._disks.rescan(device.disk)

    def inquiry(self, device: str, instance: int, page: int) -> bytes:
        disk = self._disks.find(device)
        if disk is None:
            raise block.no_device(device)
        place = self._tree.root / 'sys/class/block' / device
        if os.stat(place).st_ino != instance:
            raise failure(errno.ESTALE)
        volume = self._disks.volume(disk)
        if volume is None:
            raise block.no_answer(device)
        try:
            return vpd.page(volume, disk.session.target_name, page)
        except KeyError:
            raise failure(errno.EIO) from None

    def probe(self, session: sessions.Link, lun: int) -> None:
        """Look for a logical unit; sd takes it up a little later."""
        device = Device(session, lun)
        volume = self._storage.volume(session.target_name, lun, session.portal)
        if (
            device.hctl in self._devices
            or volume is None
            or not session.logged_in
        ):
            return
        if not self._on_target(device):
            self._place_target(device)
            self._emit('add', device.target_directory, 'scsi', 'scsi_target')
        self._devices[device.hctl] = device
        self._tree.place(
            f'sys/{device.directory}', self._contents(device, volume)
        )
        self._emit('add', device.directory, 'scsi', 'scsi_device')
        attributes = f'{device.directory}/scsi_device/{device.hctl}'
        self._tree.symlink(
            f'sys/class/scsi_device/{device.hctl}', f'sys/{attributes}'
        )
        self._emit('add', attributes, 'scsi_device')
        timer = threading.Timer(PROBE_SECONDS, self._attach_disk, (device,))
        timer.daemon = True
        timer.start()

    def _place_target(self, device: Device) -> None:
        name = device.target_directory.rpartition('/')[2]
        of_port = f'fc_transport/{name}'
        is_port = 'rport-' in device.target_directory
        contents = {f'{of_port}/port_name': f'0x{device.session.portal}\n'}
        self._tree.place(
            f'sys/{device.target_directory}', contents if is_port else {}
        )
        if is_port:
            self._tree.symlink(
                f'sys/class/{of_port}',
                f'sys/{device.target_directory}/{of_port}',
            )

    def set_state(self, session: sessions.Link, state: str) -> None:
        """Show what has become of the devices of a session."""
        for device in self._devices.values():
            if device.session is session:
                self._tree.write(f'sys/{device.directory}/state', f'{state}\n')

    def remove_all(self, session: sessions.Link) -> None:
        for device in list(self._devices.values()):
            if device.session is session:
                self._remove(device)

    def vanish(self, hctl: str) -> None:
        """Remove a device, if there is one, without being asked to."""
        with self._lock:
            if hctl in self._devices:
                self._remove(self._devices[hctl])

    def hctl_of(self, disk: str) -> str | None:
        with self._lock:
            for device in self._devices.values():
                if device.disk is not None and device.disk.name == disk:
                    return device.hctl
        return None

    def _attach_disk(self, device: Device) -> None:
        with self._lock:
            if not device.removed:
                device.disk = self._disks.add(
                    device.directory, device.session, device.lun
                )

    def _remove(self, device: Device) -> None:
        device.removed = True
        del self._devices[device.hctl]
        self._tree.write(f'sys/{device.directory}/state', 'cancel\n')
        self._tree.remove(f'sys/class/scsi_device/{device.hctl}')
        attributes = f'{device.directory}/scsi_device/{device.hctl}'
        self._emit('remove', attributes, 'scsi_device')
        if device.disk is not None:
            self._disks.remove(device.disk)
        # the kernel reports first and removes the directory then
        self._emit('remove', device.directory, 'scsi', 'scsi_device')
        self._tree.remove(f'sys/{device.directory}')
        if not self._on_target(device):
            self._emit(
                'remove', device.target_directory, 'scsi', 'scsi_target'
            )
            name = device.target_directory.rpartition('/')[2]
            self._tree.remove(f'sys/class/fc_transport/{name}')
            self._tree.remove(f'sys/{device.target_directory}')

    def _on_target(self, device: Device) -> bool:
        return any(
            other.session is device.session for other in self._devices.values()
        )

    def _emit(
        self, action: str, path: str, subsystem: str, devtype: str = ''
    ) -> None:
        more = {'DEVTYPE': devtype} if devtype else {}
        self._events.emit(action, subsystem, f'/{path}', **more)

    @staticmethod
    def _contents(device: Device, volume: storage.Volume) -> trees.Contents:
        target = device.session.target_name
        return {
            'wwid': f'naa.{volume.wwn}\n',
            'vpd_pg83': vpd.page(volume, target, vpd.DEVICE_IDENTIFICATION),
            'vpd_pg80': vpd.page(volume, target, vpd.UNIT_SERIAL_NUMBER),
            'state': 'running\n',
            'type': '0\n',
            'vendor': f'{vpd.VENDOR:8}\n',
            'model': f'{vpd.MODEL:16}\n',
            f'scsi_device/{device.hctl}/device': trees.Link(
                f'../../../{device.hctl}'
            ),
        }
