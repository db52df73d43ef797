# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Targets of the kernel's own iSCSI target, LIO.

Every target listens on the first of a handful of loopback addresses, as many
as it was made with. Volumes are files below /run, so they are memory.
"""

import itertools
import pathlib
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


def wwn_of(serial: uuid.UUID) -> str:
    """What LIO makes of a unit serial: NAA 6, its company id, 25 digits."""
    return '6001405' + serial.hex[:25]


def portal(address: str) -> str:
    return f'{address}:{PORT}'


class Target:
    """One target with one portal group.

    :param chap: user name and password that this machine's initiator needs
    """

    def __init__(self, name: str, chap: tuple[str, str] | None) -> None:
        self.name = name
        self._target = rtslib_fb.Target(
            rtslib_fb.FabricModule('iscsi'), name, mode='create'
        )
        self._group = rtslib_fb.TPG(self._target, 1, mode='create')
        for key, value in (CHAP_ONLY if chap else OPEN).items():
            self._group.set_attribute(key, value)
        self._acl: rtslib_fb.NodeACL | None = None
        if chap is not None:
            self._acl = rtslib_fb.NodeACL(
                self._group, initiator_name(), mode='create'
            )
            self._acl.chap_userid, self._acl.chap_password = chap
        self._group.enable = True

    def listen(self, address: str) -> None:
        rtslib_fb.NetworkPortal(self._group, address, PORT, mode='create')

    def refuse(self, address: str) -> None:
        """Stop listening; connections that exist stay."""
        for network_portal in self._group.network_portals:
            if network_portal.ip_address == address:
                network_portal.delete()

    def next_lun(self) -> int:
        """The lowest free number."""
        taken = {lun.lun for lun in self._group.luns}
        return next(n for n in itertools.count() if n not in taken)

    def map(self, lun: int, volume: 'BackingFile') -> None:
        mapped = rtslib_fb.LUN(self._group, lun, volume.storage)
        if self._acl is not None:
            rtslib_fb.MappedLUN(self._acl, lun, mapped, write_protect=False)

    def unmap(self, lun: int) -> None:
        """Take a volume away; an initiator is not told."""
        for mapped in list(self._group.luns):
            if mapped.lun == lun:
                mapped.delete()

    def break_connections(self) -> None:
        """Close all connections; the initiator may come back at once."""
        self._group.enable = False
        self._group.enable = True

    def delete(self) -> None:
        self._target.delete()


class BackingFile:
    """A file that targets can export.

    :param serial: unit serial number; the volume's WWN follows from it
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
        self.storage = rtslib_fb.FileIOStorageObject(
            name,
            dev=str(self.path),
            size=size,
            wwn=str(serial),
            write_back=False,
        )

    def delete(self) -> None:
        self.storage.delete()
        self.path.unlink()
