# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Targets of the kernel's own iSCSI target, LIO.

Every target listens on the first of a handful of loopback addresses, as many
as it was made with. Each has a portal group of its own, so that one path can
be broken, or shown another volume, and the others not. Volumes are files below
/run, so they are memory.
"""

import itertools
import pathlib
import subprocess
from typing import Any
import uuid

import rtslib_fb

PORT = 3260
ADDRESSES = ('127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4')
DIRECTORY = pathlib.Path('/run/lab/volumes')
INITIATOR_FILE = pathlib.Path('/etc/iscsi/initiatorname.iscsi')

#: For targets without CHAP: whoever comes is let in, and may write.
OPEN = {
    'authentication': '0',
    'cache_dynamic_acls': '1',
    'demo_mode_write_protect': '0',
    'generate_node_acls': '1',
}
CHAP_ONLY = {
    'authentication': '1',
    'generate_node_acls': '0',
}


def initiator_name() -> str:
    for line in INITIATOR_FILE.read_text().splitlines():
        if line.startswith('InitiatorName='):
            return line.split('=', 1)[1].strip()
    raise LookupError(f'no InitiatorName in {INITIATOR_FILE}')


def wwn_of(serial: uuid.UUID, company: str = '001405') -> str:
    """What LIO makes of a unit serial: NAA 6, a company id, 25 digits."""
    return f'6{company}{serial.hex[:25]}'


def portal(address: str) -> str:
    return f'{address}:{PORT}'


class Target:
    """One target, with a portal group for each address.

    :param chap: user name and password that this machine's initiator needs
    """

    def __init__(
        self,
        name: str,
        addresses: tuple[str, ...],
        chap: tuple[str, str] | None,
    ) -> None:
        self.name = name
        fabric = rtslib_fb.FabricModule('iscsi')
        # The kernel takes more names than rtslib knows.
        fabric.to_normalized_wwn = lambda wwn: (wwn, 'iqn')
        self._target = rtslib_fb.Target(fabric, name, mode='create')
        self._groups = {
            address: self._create_group(tag, chap)
            for tag, address in enumerate(addresses, start=1)
        }

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._groups)

    def show_secret(self, user: str, password: str) -> None:
        """Prove this target's identity, too, to who asks (mutual CHAP)."""
        for group in self._groups.values():
            for acl in group.node_acls:
                acl.chap_mutual_userid = user
                acl.chap_mutual_password = password

    def listen(self, address: str) -> None:
        rtslib_fb.NetworkPortal(
            self._groups[address], address, PORT, mode='create'
        )

    def listen_also(self, address: str, port: int = PORT) -> None:
        """Listen at an address that the target was not made with."""
        group = next(iter(self._groups.values()))
        rtslib_fb.NetworkPortal(group, address, port, mode='create')

    def refuse(self, address: str) -> None:
        """Stop listening; connections that exist stay."""
        if address in self._groups:
            for network_portal in self._groups[address].network_portals:
                network_portal.delete()

    def next_lun(self) -> int:
        """The lowest free number."""
        taken = {
            lun.lun for group in self._groups.values() for lun in group.luns
        }
        return next(n for n in itertools.count() if n not in taken)

    def map(self, lun: int, volume: 'Backing', address: str = '') -> None:
        """Show a volume through one address, or all."""
        for group in self._at(address):
            mapped = rtslib_fb.LUN(group, lun, volume.storage)
            for acl in group.node_acls:
                rtslib_fb.MappedLUN(acl, lun, mapped, write_protect=False)

    def unmap(self, lun: int, address: str = '') -> None:
        """Take a volume away; an initiator is not told."""
        for group in self._at(address):
            for mapped in list(group.luns):
                if mapped.lun == lun:
                    mapped.delete()

    def set_access(self, lun: int, address: str, state: str) -> None:
        """Give the port at an address another state of ALUA."""
        for group in self._at(address):
            for mapped in group.luns:
                if mapped.lun == lun:
                    ports = _port_group(mapped.storage_object, state)
                    mapped.alua_tg_pt_gp_name = ports.name

    def enable(self, wanted: bool, address: str = '') -> None:
        """False closes all connections; then, none is served."""
        for group in self._at(address):
            group.enable = wanted

    def protect(self) -> None:
        """Let nobody write from the next login on."""
        for group in self._groups.values():
            group.set_attribute('demo_mode_write_protect', '1')

    def delete(self) -> None:
        self._target.delete()

    def _at(self, address: str) -> list[rtslib_fb.TPG]:
        return [
            group
            for one, group in self._groups.items()
            if address in ('', one)
        ]

    def _create_group(
        self, tag: int, chap: tuple[str, str] | None
    ) -> rtslib_fb.TPG:
        group = rtslib_fb.TPG(self._target, tag, mode='create')
        for key, value in (CHAP_ONLY if chap else OPEN).items():
            group.set_attribute(key, value)
        if chap is not None:
            acl = rtslib_fb.NodeACL(group, initiator_name(), mode='create')
            acl.chap_userid, acl.chap_password = chap
        group.enable = True
        return group


#: States of a target port group, as SPC numbers them
STATES = {'optimized': 0, 'standby': 2, 'unavailable': 3}


def _port_group(storage: Any, state: str) -> Any:
    for group in storage.alua_tpgs:
        if group.name == state:
            return group
    number = STATES[state]
    group = rtslib_fb.ALUATargetPortGroup(storage, state, number + 1)
    group.alua_access_type = 1  # it is told, and changes by itself
    group.alua_access_state = number
    return group


def set_discovery_chap(chap: tuple[str, str] | None) -> None:
    """What a discovery needs, at every portal."""
    fabric = rtslib_fb.FabricModule('iscsi')
    fabric.clear_discovery_auth_settings()
    if chap is not None:
        fabric.discovery_userid, fabric.discovery_password = chap
        fabric.discovery_enable_auth = True


class Backing:
    """A file that targets can export.

    :param serial: unit serial number; the volume's WWN follows from it
    :param size: bytes
    :param head: the first bytes of the volume
    """

    def __init__(
        self, name: str, serial: uuid.UUID, size: int, head: bytes
    ) -> None:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        self.path = DIRECTORY / name
        with open(self.path, 'wb') as file:
            file.truncate(size)
            file.write(head)
        self.storage = self._export(name, serial, size)

    def set_company(self, company: str) -> None:
        """Have the volume's WWN begin otherwise; before it is mapped."""
        place = pathlib.Path(self.storage.path, 'wwn/company_id')
        place.write_text(f'0x{company}')

    def delete(self) -> None:
        self.storage.delete()
        self.path.unlink()

    def _export(self, name: str, serial: uuid.UUID, size: int) -> Any:
        return rtslib_fb.FileIOStorageObject(
            name,
            dev=str(self.path),
            size=size,
            wwn=str(serial),
            # a cache that a flush has to reach, as most storage has
            write_back=True,
        )


class BackingDevice(Backing):
    """A file behind a loop device: it can grow while it is exported.

    :param block_size: the logical one, bytes
    """

    def __init__(
        self,
        name: str,
        serial: uuid.UUID,
        size: int,
        head: bytes,
        block_size: int,
    ) -> None:
        self._block_size = block_size
        self._device = ''
        super().__init__(name, serial, size, head)

    def resize(self, size: int) -> None:
        with open(self.path, 'r+b') as file:
            file.truncate(size)
        subprocess.run(['losetup', '-c', self._device], check=True)

    def delete(self) -> None:
        super().delete()
        subprocess.run(['losetup', '-d', self._device], check=True)

    def _export(self, name: str, serial: uuid.UUID, size: int) -> Any:
        self._device = subprocess.run(
            [
                'losetup',
                '--find',
                '--show',
                '--sector-size',
                str(self._block_size),
                str(self.path),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()
        return rtslib_fb.BlockStorageObject(
            name, dev=self._device, wwn=str(serial)
        )
