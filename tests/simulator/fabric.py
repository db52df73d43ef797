# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Fibre Channel: two ports of this host, each on a fabric of its own."""

import dataclasses
import itertools
import threading

from tests.simulator import scsi
from tests.simulator import sessions
from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents

_HOST_PORTS = ('2100000e1e000001', '2100000e1e000002')
_ONLINE, _BLOCKED, _GONE = 'Online', 'Blocked', 'Not Present'


@dataclasses.dataclass
class HostPort:
    """A port of this host; its directory is below sys."""

    number: int
    wwpn: str

    @property
    def directory(self) -> str:
        return f'devices/pci0000:00/host{self.number}'


@dataclasses.dataclass
class RemotePort:
    """A target port that one of this host has seen.

    :ivar target_name: of the array that it belongs to
    :ivar portal: its WWPN
    :ivar logged_in: whether it is online
    """

    number: int
    seen_by: HostPort
    target_id: int
    target_name: str
    portal: str
    logged_in: bool = True

    @property
    def host(self) -> int:
        return self.seen_by.number

    @property
    def name(self) -> str:
        return f'rport-{self.host}:0-{self.number}'

    @property
    def directory(self) -> str:
        return f'{self.seen_by.directory}/{self.name}'

    @property
    def attributes(self) -> str:
        return f'{self.directory}/fc_remote_ports/{self.name}'


class Fabric:
    """What the adapters, the switches and the arrays do by themselves.

    There is no adapter until there is an array.
    """

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        targets: storage.Storage,
        known: sessions.Sessions,
        bus: scsi.Bus,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._storage = targets
        self._sessions = known
        self._bus = bus
        #: Target port -> the array that it belongs to.
        self._arrays: dict[str, str] = {}
        self._names = itertools.count(0x5000001000000001)
        self.clear()

    def clear(self) -> None:
        """Forget what the host has, as a reboot does."""
        self._hosts: list[HostPort] = []
        self._ports: list[RemotePort] = []

    def boot(self) -> None:
        """The adapters find the arrays, and the kernel all that they show."""
        for port, array in self._arrays.items():
            self._show(array, port)

    def create_array(self, ports: int) -> storage.Target:
        """An array whose ports are on both fabrics by turns."""
        with self._lock:
            names = tuple(f'{next(self._names):016x}' for _ in range(ports))
            array = self._storage.create_target(
                names, None, f'array-{names[0]}'
            )
            for name in names:
                self._arrays[name] = array.name
                self._show(array.name, name)
        return array

    def by_address(
        self, host: int, channel: int, target: int
    ) -> RemotePort | None:
        for port in self._ports:
            if (port.host, 0, port.target_id) == (host, channel, target):
                return port
        return None

    def has_host(self, number: int) -> bool:
        return any(host.number == number for host in self._hosts)

    def set_connected(self, portal: str, connected: bool) -> None:
        """Cut a target port off; its devices stay for a while, and fail."""
        with self._lock:
            for port in self._at(portal):
                returns = connected and self._state(port) == _GONE
                self._set(port, _ONLINE if connected else _BLOCKED)
                self._bus.set_state(
                    port, 'running' if connected else 'transport-offline'
                )
                if returns:
                    self._scan(port)

    def set_waiting(self, portal: str) -> None:
        """Cut a target port off; what is asked of its devices waits."""
        with self._lock:
            for port in self._at(portal):
                self._set(port, _BLOCKED)
                self._bus.set_state(port, 'blocked')

    def lose(self, portal: str) -> None:
        """dev_loss_tmo is over for a target port that was cut off."""
        with self._lock:
            for port in self._at(portal):
                self._set(port, _GONE)
                self._bus.remove_all(port)

    def _at(self, portal: str) -> list[RemotePort]:
        return [port for port in self._ports if port.portal == portal]

    def _state(self, port: RemotePort) -> str:
        path = self._tree.root / 'sys' / port.attributes / 'port_state'
        return path.read_text().strip()

    def _set(self, port: RemotePort, state: str) -> None:
        port.logged_in = state == _ONLINE
        self._tree.write(f'sys/{port.attributes}/port_state', f'{state}\n')

    def _show(self, array: str, name: str) -> None:
        """Have the port of this host on its fabric see a target port."""
        while len(self._hosts) < len(_HOST_PORTS):
            self._add_host(_HOST_PORTS[len(self._hosts)])
        target = self._storage.target(array)
        assert target is not None
        fabric = target.portals.index(name) % len(self._hosts)
        number = sum(one.seen_by is self._hosts[fabric] for one in self._ports)
        port = RemotePort(number + 1, self._hosts[fabric], number, array, name)
        self._ports.append(port)
        contents: dict[str, str] = {
            'port_name': f'0x{name}',
            'node_name': f'0x{name}',
            'port_state': _ONLINE,
            'roles': 'FCP Target',
            'scsi_target_id': str(port.target_id),
            'dev_loss_tmo': '60',
            'fast_io_fail_tmo': '5',
        }
        inner = f'fc_remote_ports/{port.name}'
        self._tree.place(
            f'sys/{port.directory}',
            {f'{inner}/{key}': f'{text}\n' for key, text in contents.items()}
            | {f'{inner}/device': trees.Link(f'../../../{port.name}')},
        )
        self._tree.symlink(
            f'sys/class/fc_remote_ports/{port.name}', f'sys/{port.attributes}'
        )
        self._events.emit('add', 'fc_remote_ports', f'/{port.attributes}')
        self._scan(port)

    def _scan(self, port: RemotePort) -> None:
        """The kernel looks for all LUNs of a target port that comes."""
        for lun in self._storage.luns(port.target_name):
            self._bus.probe(port, lun)

    def _add_host(self, wwpn: str) -> None:
        host = HostPort(self._sessions.next_host(), wwpn)
        self._hosts.append(host)
        name = f'host{host.number}'
        contents = {
            f'fc_host/{name}/port_name': f'0x{wwpn}\n',
            f'fc_host/{name}/node_name': f'0x20{wwpn[2:]}\n',
            f'fc_host/{name}/port_state': f'{_ONLINE}\n',
            f'fc_host/{name}/port_type': 'NPort (fabric via point-to-point)\n',
            f'scsi_host/{name}/proc_name': 'simulated\n',
        }
        self._tree.place(f'sys/{host.directory}', contents)
        for kind in ('scsi_host', 'fc_host'):
            path = f'{host.directory}/{kind}/{name}'
            self._tree.symlink(f'sys/class/{kind}/{name}', f'sys/{path}')
            self._events.emit('add', kind, f'/{path}')
