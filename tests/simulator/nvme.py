# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""nvme: subsystems on the storage, controllers and namespaces on the host."""

import dataclasses
import errno
import itertools
import os
import pathlib
import threading
import uuid

from tests.simulator import nvmet
from tests.simulator import portals as network
from tests.simulator import tree as trees
from tests.simulator import uevents

HOST_NQN = 'etc/nvme/hostnqn'
HOST_ID = 'etc/nvme/hostid'
PARAMETERS = 'sys/module/nvme_core/parameters'

REGISTRY = 'run/nvme/registry'
_SECRETS = frozenset(('dhchap_secret', 'dhchap_ctrl_secret'))
_MAJOR = 259
_SECTOR = 512


@dataclasses.dataclass(eq=False)
class Controller:
    """On the host.

    :ivar instance: of the subsystem there, of which devices have their names
    :ivar seen: by NSID, what the host has of its namespaces
    """

    number: int
    subsystem: nvmet.Subsystem
    instance: int
    portal: str
    host: tuple[str, str]
    live: bool = True
    seen: dict[int, nvmet.Volume] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f'nvme{self.number}'

    @property
    def directory(self) -> str:
        return f'devices/virtual/nvme-fabrics/ctl/{self.name}'


@dataclasses.dataclass(eq=False)
class Device:
    """A block device on the host, over all of its paths."""

    name: str
    instance: int
    nsid: int
    volume: nvmet.Volume

    @property
    def directory(self) -> str:
        return (
            f'devices/virtual/nvme-subsystem/nvme-subsys{self.instance}'
            f'/{self.name}'
        )


class NVMe:
    """Storage and host; its methods include the verbs.

    :param directory: where the volumes' files are
    """

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        portals: network.Portals,
        directory: pathlib.Path,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._portals = portals
        self._directory = directory
        self._subsystems: dict[str, nvmet.Subsystem] = {}
        #: Whether /etc is.
        self.read_only = False
        #: Portals that do not serve what they show (ANA).
        self._inaccessible: set[str] = set()
        self.clear()

    def clear(self) -> None:
        """Forget what the host has, as a reboot does."""
        self._controllers: dict[str, Controller] = {}
        self._devices: dict[str, Device] = {}
        # the host's own disk has 259:1
        self._minors = itertools.count(16)

    def boot(self) -> None:
        """What a kernel with the modules has from the start."""
        self._tree.write('dev/nvme-fabrics', '')
        self._tree.write(f'{PARAMETERS}/multipath', 'Y\n')

    # -- the storage

    def create_volume(
        self, size: int, portals: int, nqn: str | None
    ) -> tuple[nvmet.Volume, nvmet.Subsystem, int]:
        """A namespace, of a new subsystem unless one is named."""
        with self._lock:
            if nqn is None:
                nqn = f'nqn.2014-08.org.nvmexpress:uuid:{uuid.uuid4()}'
                names = tuple(self._portals.create() for _ in range(portals))
                self._subsystems[nqn] = nvmet.Subsystem(nqn, names)
            subsystem = self._subsystems[nqn]
            nsid = next(
                i for i in itertools.count(1) if i not in subsystem.volumes
            )
            identifier = uuid.uuid4()
            name = f'volume-{identifier}'
            file = self._directory / name
            volume = nvmet.Volume(
                name, file, str(identifier), uuid.uuid4().hex
            )
            with open(file, 'xb') as opened:
                opened.write(volume.pattern())
                opened.truncate(size)
            subsystem.volumes[nsid] = volume
            self._announce(subsystem)
        return volume, subsystem, nsid

    def set_access(self, portal: str, serves: bool) -> None:
        """Before what is there is attached."""
        with self._lock:
            if serves:
                self._inaccessible.discard(portal)
            else:
                self._inaccessible.add(portal)

    def set_version(self, nqn: str, nsid: int, version: str) -> str:
        """Before it is attached; returns the NGUID of a volume."""
        with self._lock:
            self._subsystems[nqn].version = version
            return self._subsystems[nqn].volumes[nsid].nguid

    def remove_volume(self, nqn: str, nsid: int) -> None:
        """Unmap it; the host is told, as the protocol has it."""
        with self._lock:
            subsystem = self._subsystems[nqn]
            volume = subsystem.volumes.pop(nsid)
            self._announce(subsystem)
            os.unlink(volume.file)

    def remap(self, nqn: str, nsid: int, volume: nvmet.Volume) -> None:
        """Have another volume answer, and tell the host nothing."""
        with self._lock:
            self._subsystems[nqn].volumes[nsid] = volume

    def set_connected(self, portal: str, connected: bool) -> None:
        """Break the connections of a portal, or let them come back."""
        with self._lock:
            for one in self._controllers.values():
                if one.portal == portal:
                    one.live = connected
                    self._show_state(one)
            self._refresh()

    def _announce(self, subsystem: nvmet.Subsystem) -> None:
        for one in list(self._controllers.values()):
            if one.subsystem is subsystem and one.live:
                self._rescan(one)

    # -- the verbs

    def connect(self, options: dict[str, str]) -> int:
        portal = network.key(options['traddr'], int(options['trsvcid']))
        if not self._portals.wait_listening(portal, 0.0):
            raise OSError(errno.ECONNREFUSED, 'Connection refused')
        with self._lock:
            subsystem = self._subsystems.get(options['nqn'])
            if subsystem is None or portal not in subsystem.portals:
                raise OSError(errno.EIO, 'Input/output error')
            if not options['hostnqn'] or not options['hostid']:
                raise OSError(errno.EINVAL, 'Invalid argument')
            host = (options['hostnqn'], options['hostid'])
            for one in self._controllers.values():
                # Linux 6.5 and newer
                if one.host != host and set(one.host) & set(host):
                    raise OSError(errno.EINVAL, 'Invalid argument')
            if any(one.host == host for one in self._at(subsystem, portal)):
                raise OSError(errno.EALREADY, 'Operation already in progress')
            number = next(
                i
                for i in itertools.count()
                if f'nvme{i}' not in self._controllers
            )
            instances = {
                one.subsystem.nqn: one.instance
                for one in self._controllers.values()
            }
            made = Controller(
                number,
                subsystem,
                instances.get(subsystem.nqn, number),
                portal,
                host,
            )
            self._controllers[made.name] = made
            self._tree.place(
                f'sys/{made.directory}',
                {
                    'address': f'traddr={options["traddr"]},'
                    f'trsvcid={options["trsvcid"]},src_addr=127.0.0.1\n',
                    'state': 'live\n',
                    'subsysnqn': f'{subsystem.nqn}\n',
                    'hostnqn': f'{host[0]}\n',
                    'hostid': f'{host[1]}\n',
                    'transport': f'{options["transport"]}\n',
                    **{
                        name: f'{options[name]}\n'
                        for name in _SECRETS
                        if name in options
                    },
                },
            )
            for name in _SECRETS.intersection(options):
                # The kernel has it for all, until the verb returns.
                (self._tree.root / f'sys/{made.directory}/{name}').chmod(0o600)
            self._tree.symlink(
                f'sys/class/nvme/{made.name}', f'sys/{made.directory}'
            )
            self._tree.write(f'dev/{made.name}', '')
            self._events.emit('add', 'nvme', f'/{made.directory}')
            self._rescan(made)
            return number

    def delete(self, controller: str, instance: int) -> None:
        with self._lock:
            self._end(self._meant(controller, instance))

    def _end(self, found: Controller) -> None:
        with self._lock:
            for nsid in list(found.seen):
                self._lose(found, nsid)
            del self._controllers[found.name]
            self._tree.unlink(f'dev/{found.name}')
            # libnvme has a rule for udev that does it
            self._tree.remove(f'{REGISTRY}/{found.name}')
            self._tree.remove(f'sys/class/nvme/{found.name}')
            self._tree.remove(f'sys/{found.directory}')
            self._events.emit('remove', 'nvme', f'/{found.directory}')

    def register(self, controller: str, instance: int) -> None:
        with self._lock:
            found = self._meant(controller, instance)
            entry = f'{REGISTRY}/{found.name}'
            self._tree.remove(entry)
            self._tree.write(f'{entry}/owner', 'attachworker\n')

    def rescan(self, controller: str, instance: int) -> None:
        self._rescan(self._meant(controller, instance))

    def _rescan(self, found: Controller) -> None:
        with self._lock:
            if not found.live:
                raise OSError(errno.ENOTCONN, 'not connected')
            there = found.subsystem.volumes
            for nsid, volume in list(found.seen.items()):
                if there.get(nsid) != volume:
                    self._lose(found, nsid)
            for nsid, volume in there.items():
                if nsid not in found.seen:
                    self._gain(found, nsid, volume)
                device = self._devices.get(_name(found, nsid))
                if device is None:
                    continue
                size = f'{volume.size // _SECTOR}\n'
                path = self._tree.root / 'sys' / device.directory / 'size'
                if path.read_text() != size:
                    self._tree.write(f'sys/{device.directory}/size', size)
                    self._emit('change', device)

    def identify(
        self, controller: str, instance: int, nsid: int, page: int
    ) -> bytes:
        with self._lock:
            found = self._meant(controller, instance)
            volume = found.subsystem.volumes.get(nsid)
            if not found.live or volume is None:
                raise OSError(errno.EIO, 'Input/output error')
            if page == 0x00:
                # 512-byte blocks: the first format, shift 9
                data = (volume.size // _SECTOR).to_bytes(8, 'little')
                if found.subsystem.version != '1.0':
                    nguid = bytes.fromhex(volume.nguid)
                    data = data.ljust(104, b'\0') + nguid
                data = data.ljust(128, b'\0') + (9 << 16).to_bytes(4, 'little')
            elif found.subsystem.version != '1.3':
                raise OSError(errno.EOPNOTSUPP, 'NVMe status 0x4002')
            else:
                data = bytes((2, 16, 0, 0)) + bytes.fromhex(volume.nguid)
                digits = uuid.UUID(volume.uuid).bytes
                data += bytes((3, 16, 0, 0)) + digits
            return data.ljust(4096, b'\0')

    def create_host_identity(self, nqn: str, host_id: str) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, 'Read-only file system')
        for name, text in ((HOST_NQN, nqn), (HOST_ID, host_id)):
            path = self._tree.root / name
            if not path.exists() or not path.read_text().strip():
                self._tree.write(name, f'{text}\n')

    # -- the host

    def find(self, device: str) -> Device | None:
        with self._lock:
            return self._devices.get(device)

    def file(self, device: Device) -> pathlib.Path | None:
        """What answers for a device now; None: nothing does."""
        with self._lock:
            for one in self._paths(device):
                if one.live and one.portal not in self._inaccessible:
                    found = one.subsystem.volumes.get(device.nsid)
                    return found.file if found else None
            return None

    def vanish(self, device: str) -> None:
        """Take the controllers of a device away, unasked."""
        with self._lock:
            found = self._devices.get(device)
            for one in self._paths(found) if found else ():
                self._end(one)

    def vanish_at(self, nqn: str, portal: str) -> None:
        with self._lock:
            for one in self._at(self._subsystems[nqn], portal):
                self._end(one)

    def vanish_controller(self, name: str) -> None:
        with self._lock:
            self._end(self._known(name))

    def _gain(
        self, controller: Controller, nsid: int, volume: nvmet.Volume
    ) -> None:
        controller.seen[nsid] = volume
        nguid = str(uuid.UUID(volume.nguid))
        serial = f'nvme.0000-{volume.nguid[:20]}-4c696e7578-{nsid:08x}'
        ids = {
            '1.3': {
                'uuid': volume.uuid,
                'nguid': nguid,
                'wwid': f'uuid.{volume.uuid}',
            },
            # The kernel says one for the other then.
            '1.2': {
                'uuid': nguid,
                'nguid': nguid,
                'wwid': f'eui.{volume.nguid}',
            },
            '1.0': {'wwid': serial},
        }[controller.subsystem.version]
        ids = {name: f'{value}\n' for name, value in ids.items()}
        ids['nsid'] = f'{nsid}\n'
        access = (
            'inaccessible'
            if controller.portal in self._inaccessible
            else 'optimized'
        )
        self._tree.place(
            f'sys/{_path(controller, nsid)}',
            {**ids, 'ana_state': f'{access}\n'},
        )
        self._show(controller, nsid, volume, ids)

    def _show(
        self,
        controller: Controller,
        nsid: int,
        volume: nvmet.Volume,
        ids: dict[str, str],
    ) -> None:
        """Make the block device, once a path serves it."""
        name = _name(controller, nsid)
        if name in self._devices or controller.portal in self._inaccessible:
            return
        device = Device(name, controller.instance, nsid, volume)
        self._devices[name] = device
        number = next(self._minors)
        self._tree.place(
            f'sys/{device.directory}',
            {
                **ids,
                'dev': f'{_MAJOR}:{number}\n',
                'size': f'{volume.size // _SECTOR}\n',
                'ro': '0\n',
                'queue/logical_block_size': f'{_SECTOR}\n',
                'holders': None,
                'slaves': None,
            },
        )
        self._tree.symlink(
            f'sys/class/block/{name}', f'sys/{device.directory}'
        )
        self._tree.hardlink(f'dev/{name}', volume.file)
        self._emit('add', device)

    def _lose(self, controller: Controller, nsid: int) -> None:
        del controller.seen[nsid]
        self._tree.remove(f'sys/{_path(controller, nsid)}')
        device = self._devices.get(_name(controller, nsid))
        if device is None or self._paths(device):
            return
        del self._devices[device.name]
        self._tree.unlink(f'dev/{device.name}')
        self._tree.remove(f'sys/class/block/{device.name}')
        self._tree.remove(f'sys/{device.directory}')
        self._emit('remove', device)

    def _refresh(self) -> None:
        """Let I/O find its way again."""
        for device in self._devices.values():
            self._tree.hardlink(f'dev/{device.name}', self.file(device))

    def _show_state(self, controller: Controller) -> None:
        state = 'live' if controller.live else 'connecting'
        self._tree.write(f'sys/{controller.directory}/state', f'{state}\n')
        self._events.emit('change', 'nvme', f'/{controller.directory}')

    def _paths(self, device: Device) -> list[Controller]:
        return [
            one
            for one in self._controllers.values()
            if one.instance == device.instance and device.nsid in one.seen
        ]

    def _at(self, subsystem: nvmet.Subsystem, portal: str) -> list[Controller]:
        return [
            one
            for one in self._controllers.values()
            if (one.subsystem, one.portal) == (subsystem, portal)
        ]

    def _known(self, controller: str) -> Controller:
        found = self._controllers.get(controller)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, f'no {controller}')
        return found

    def _meant(self, controller: str, instance: int) -> Controller:
        with self._lock:
            found = self._known(controller)
            place = self._tree.root / 'sys' / found.directory
            if place.stat().st_ino != instance:
                raise OSError(errno.ESTALE, f'another {controller} by now')
            return found

    def _emit(self, action: str, device: Device) -> None:
        self._events.emit(
            action, 'block', f'/{device.directory}', DEVNAME=device.name
        )


def _name(controller: Controller, nsid: int) -> str:
    return f'nvme{controller.instance}n{nsid}'


def _path(controller: Controller, nsid: int) -> str:
    name = f'nvme{controller.instance}c{controller.number}n{nsid}'
    return f'{controller.directory}/{name}'
