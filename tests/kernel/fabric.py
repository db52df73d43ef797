# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Fibre Channel over Ethernet, and the kernel's own target for it (tcm_fc).

Two pairs of virtual Ethernet devices are two fabrics without a switch
(VN2VN): one end of each is a port of this host, the other one a port of the
storage. Ends are ports of the same kernel, so that it has four of them.
"""

from collections.abc import Iterator
import itertools
import os
import pathlib
import subprocess
import time

from tests.kernel import lio

CONFIGFS = pathlib.Path('/sys/kernel/config/target/fc')
_CLASS = pathlib.Path('/sys/class')
_CREATE = pathlib.Path('/sys/module/libfcoe/parameters/create_vn2vn')
_SCAN = pathlib.Path('/sys/module/scsi_mod/parameters/scan')
_PAIRS = 2
#: A frame of Fibre Channel has up to 2,148 bytes.
_MTU = '3000'
#: Seconds in which two ends find each other; ten were seen in emulation.
_PATIENCE = 60.0


class Pair:
    """A port of this host and one of the storage, with nothing in between."""

    def __init__(self, number: int) -> None:
        self._own, other = f'fch{number}', f'fct{number}'
        # Named here, and not by the kernel: udev gives a device whose
        # address is a random one another address, some time later.
        own_address = f'02:00:00:00:01:{number:02x}'
        other_address = f'02:00:00:00:02:{number:02x}'
        _run(
            *('ip', 'link', 'add', self._own, 'address', own_address),
            *('mtu', _MTU, 'type', 'veth', 'peer', 'name', other),
            *('address', other_address, 'mtu', _MTU),
        )
        self._host_port = _wwpn(own_address)
        self.port = _wwpn(other_address)
        self._group = CONFIGFS / _colons(self.port) / 'tpgt_1'
        self._acl = self._group / 'acls' / _colons(self._host_port)
        self._acl.mkdir(parents=True)
        ends = (other, self._own)
        for end in ends:
            _CREATE.write_text(end)
        # Only then: a frame that comes while a port is being made ends the
        # kernel's thread for it (6.1, fcoe_ctlr_vn_recv).
        for end in ends:
            _run('ip', 'link', 'set', end, 'up')
        self.wait()

    def set_link(self, up: bool) -> None:
        _run('ip', 'link', 'set', self._own, 'up' if up else 'down')
        if up:
            self.wait()

    def wait(self) -> None:
        """Return once this host sees the port of the storage."""
        end = time.monotonic() + _PATIENCE
        while not self._is_seen():
            assert time.monotonic() < end, f'{self.port} does not come'
            time.sleep(0.05)

    def _is_seen(self) -> bool:
        return any(
            _text(port / 'port_name') == f'0x{self.port}'
            and _text(port / 'port_state') == 'Online'
            and 'FCP Target' in _text(port / 'roles')
            for port in (_CLASS / 'fc_remote_ports').iterdir()
        )

    def luns(self) -> Iterator[int]:
        for name in os.listdir(self._group / 'lun'):
            yield int(name.removeprefix('lun_'))

    def map(self, lun: int, volume: lio.Backing) -> None:
        name = f'lun_{lun}'
        place, shown = self._group / 'lun' / name, self._acl / name
        place.mkdir()
        (place / 'volume').symlink_to(volume.storage.path)
        shown.mkdir()
        (shown / 'volume').symlink_to(place)

    def unmap(self, lun: int) -> None:
        name = f'lun_{lun}'
        for place in (self._acl / name, self._group / 'lun' / name):
            if place.exists():
                (place / 'volume').unlink()
                place.rmdir()


_pairs: list[Pair] = []


def pairs() -> list[Pair]:
    """Both, made when they are first needed; they stay.

    The kernel looks for LUNs only where it is told to: it would find those
    of all tests whenever a port comes back.
    """
    if not _pairs:
        _run('modprobe', '-a', 'fcoe', 'tcm_fc')
        _SCAN.write_text('manual')
        CONFIGFS.mkdir(exist_ok=True)
        _pairs.extend(Pair(number) for number in range(_PAIRS))
    return _pairs


def pair_of(port: str) -> Pair:
    (found,) = (pair for pair in pairs() if pair.port == port)
    return found


class Array:
    """Some of the ports of the storage, in place of an iSCSI target.

    :param ports: how many
    """

    def __init__(self, ports: int) -> None:
        self._pairs = pairs()[:ports]
        self.ports = tuple(pair.port for pair in self._pairs)
        self.name = f'array-{"-".join(self.ports)}'
        self._mapped: set[int] = set()

    def next_lun(self) -> int:
        taken = {lun for pair in pairs() for lun in pair.luns()}
        return next(n for n in itertools.count() if n not in taken)

    def map(self, lun: int, volume: lio.Backing, address: str = '') -> None:
        self._mapped.add(lun)
        for pair in self._pairs:
            pair.map(lun, volume)

    def unmap(self, lun: int, address: str = '') -> None:
        for pair in self._pairs:
            pair.unmap(lun)

    def delete(self) -> None:
        for lun in self._mapped:
            self.unmap(lun)


def _wwpn(address: str) -> str:
    """The name of the port that is made of an Ethernet device."""
    return '2000' + address.replace(':', '')


def _colons(wwpn: str) -> str:
    return ':'.join(wwpn[at : at + 2] for at in range(0, len(wwpn), 2))


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ''


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
