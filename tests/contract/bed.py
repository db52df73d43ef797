# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What every test bed offers: a host, and storage that it can attach."""

import abc
from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import os
import pathlib
from typing import TYPE_CHECKING
from typing import Any
import uuid

if TYPE_CHECKING:
    from attachworker import host as hosts


#: Where local volumes are; in memory on the kernel.
#: That portals may be in: the storage of all beds is on loopback.
NETWORKS = ['127.0.0.0/8', '::1/128', 'fe80::/10', '0.0.0.0/0', '::/0']
LOCAL_ROOT = '/run/volumes-of-tests'
#: Where shares are mounted.
MOUNT_BASE = '/run/mounts-of-tests'

#: Protocols that User-Mode Linux has no modules for; the guest in QEMU has.
ELSEWHERE = frozenset(
    {'fibre_channel', 'nvmeof'}
    if os.environ.get('ATTACHWORKER_BED') == 'kernel'
    and 'User Mode Linux' in pathlib.Path('/proc/cpuinfo').read_text()
    else ()
)


#: Bytes at the beginning of a volume that are unique to it.
PATTERN_LENGTH = 4096
_SECTOR = 512
#: Where Acorn's ADFS has its boot block.
_ADFS = slice(0xC00, 0xC00 + _SECTOR)
_POWERTEC = 0x2A


def pattern_of(text: str) -> bytes:
    """A text again and again, which no kernel takes for partitions.

    Two tables of Acorn's computers are known by one byte of a checksum alone:
    of 256 texts, one would have the kernel show a partition that is none.
    """
    line = f'{text}\n'.encode()
    pattern = bytearray((line * PATTERN_LENGTH)[:PATTERN_LENGTH])
    pattern[_ADFS] = bytes(_SECTOR)
    pattern[_SECTOR - 1] = (sum(pattern[: _SECTOR - 1], _POWERTEC) + 1) % 256
    return bytes(pattern)


def mounts_of(root: pathlib.Path) -> list[str]:
    """What is mounted below MOUNT_BASE, and the directories there."""
    table = (root / 'proc/1/mountinfo').read_text()
    base = root / MOUNT_BASE.lstrip('/')
    mounted = [
        f'{line.split(" - ")[1].split()[1]} {line.split()[4]}'
        for line in table.splitlines()
        if f' {MOUNT_BASE}/' in line
    ]
    return sorted([*mounted, *(os.listdir(base) if base.exists() else ())])


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume that a target exports, or a local one.

    :ivar target: IQN or NQN; a path if it is local; pool/image of Ceph; the
        share of a file
    :ivar portals: for example ``127.0.0.1:3260``; WWPNs of Fibre Channel
    :ivar wwn: as sysfs ``wwid`` gives it, without ``naa.``
    :ivar size: bytes
    :ivar pattern: its first 4096 bytes, unique to it
    :ivar chap: user name and password, or key
    """

    name: str
    target: str
    portals: tuple[str, ...]
    lun: int
    wwn: str
    size: int
    pattern: bytes
    chap: tuple[str, str] | None
    protocol: str = 'iscsi'

    def connection_info(self, multipath: bool = False) -> dict[str, Any]:
        """A fresh dict in the nested shape of Cinder's LIO driver."""
        if self.protocol == 'local':
            return {
                'driver_volume_type': 'local',
                'data': {'device_path': self.target},
            }
        if self.protocol == 'nvmeof':
            portals = [one.rpartition(':') for one in self.portals]
            return {
                'driver_volume_type': 'nvmeof',
                'data': {
                    'target_nqn': self.target,
                    'vol_uuid': self.wwn,
                    'portals': [
                        [address.strip('[]'), port, 'tcp']
                        for address, _, port in portals
                    ],
                    'ns_id': self.lun,
                },
            }
        if self.protocol == 'rbd':
            return self._of_ceph()
        if self.protocol == 'fibre_channel':
            return {
                'driver_volume_type': 'fibre_channel',
                'data': {
                    'target_discovered': True,
                    'target_wwn': [one.upper() for one in self.portals],
                    'target_lun': self.lun,
                    'volume_id': self.name.removeprefix('volume-'),
                    'access_mode': 'rw',
                    'discard': True,
                },
            }
        if self.protocol == 'nfs':
            return self._of_nfs()
        data: dict[str, Any] = {
            'target_discovered': False,
            'target_portal': self.portals[0],
            'target_iqn': self.target,
            'target_lun': self.lun,
            'volume_id': self.name.removeprefix('volume-'),
            'encrypted': False,
            'qos_specs': None,
            'access_mode': 'rw',
            'cacheable': False,
            'discard': True,
        }
        if self.chap is not None:
            data['auth_method'] = 'CHAP'
            data['auth_username'], data['auth_password'] = self.chap
        if multipath or len(self.portals) > 1:
            count = len(self.portals)
            data['target_portals'] = list(self.portals)
            data['target_iqns'] = [self.target] * count
            data['target_luns'] = [self.lun] * count
        return {'driver_volume_type': 'iscsi', 'data': data}

    def _of_ceph(self) -> dict[str, Any]:
        """As Cinder's RBD driver has it, with the key as cinderlib does."""
        assert self.chap is not None
        user, key = self.chap
        monitors = [one.rpartition(':') for one in self.portals]
        data: dict[str, Any] = {
            'name': self.target,
            'hosts': [address for address, _, _ in monitors],
            'ports': [port for _, _, port in monitors],
            'cluster_name': 'ceph',
            'auth_enabled': True,
            'auth_username': user,
            'keyring': f'[client.{user}]\n\tkey = {key}\n',
            'secret_type': 'ceph',
            'secret_uuid': None,
            'volume_id': self.name.removeprefix('volume-'),
            'discard': True,
        }
        return {'driver_volume_type': 'rbd', 'data': data}

    def _of_nfs(self) -> dict[str, Any]:
        """As Cinder's NFS driver has it."""
        port = self.portals[0].rpartition(':')[2]
        return {
            'driver_volume_type': 'nfs',
            'data': {
                'export': self.target,
                'name': self.name,
                'options': f'-o vers=4.2,port={port}',
                'format': 'raw',
                'qos_specs': None,
                'access_mode': 'rw',
                'encrypted': False,
            },
            'mount_point_base': '/var/lib/cinder/mnt',
        }

    @property
    def directory(self) -> str:
        """Where os-brick mounts the share of a file, below its base."""
        share = self.target.encode()
        return hashlib.md5(share, usedforsecurity=False).hexdigest()


class Bed(abc.ABC):
    """A host with storage to attach: simulated or a real kernel."""

    #: Holds sys, proc, dev and etc; ``/`` on the kernel.
    root: pathlib.Path

    #: The privileged verbs of this host.
    verbs: Any

    @abc.abstractmethod
    def uevent_source(self) -> Any:
        """A new source of this host's uevents."""

    def host(self, verbs: Any = None) -> 'hosts.Host':
        """A new Host on this bed.

        :param verbs: instead of this host's own; some that go wrong, say
        """
        from attachworker import host as hosts
        from attachworker.host import network

        made = hosts.Host(self.root, verbs or self.verbs, self.uevent_source())
        made.networks = network.Networks(NETWORKS)
        return made

    @abc.abstractmethod
    def create_volume(
        self,
        *,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: Volume | None = None,
        chap: tuple[str, str] | None = None,
        lun: int | None = None,
        resizable: bool = False,
        mapped: bool = True,
        block_size: int = 512,
        target_name: str | None = None,
        like: Volume | None = None,
        company: str = '001405',
    ) -> Volume:
        """A new volume, mapped on a target.

        :param on: share this volume's target, at the next free LUN
        :param resizable: it can be grown later
        :param mapped: False: see :meth:`remap`
        :param block_size: the logical one, bytes
        :param target_name: of a new target; None: a usual one
        :param like: one whose identifier and unit serial number it has, too;
            there is storage that gives the same ones to two volumes
        :param company: number of the one that made the storage, six digits
            at the beginning of the identifier
        """

    def create_local_volume(self, size: int = 32 * 1024 * 1024) -> Volume:
        """A file of this host."""
        name = f'volume-{uuid.uuid4()}'
        file = self._local_file(name, size)
        return Volume(
            name=name,
            target=f'{LOCAL_ROOT}/{name}',
            portals=(),
            lun=0,
            wwn=f'inode-{file.stat().st_ino}',
            size=size,
            pattern=file.read_bytes()[:4096],
            chap=None,
            protocol='local',
        )

    def _local_file(self, name: str, size: int) -> pathlib.Path:
        """A file with a pattern of its own at its beginning."""
        file = self.root / LOCAL_ROOT.lstrip('/') / name
        # as the helper wants it, whatever the umask is
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(file, 'xb') as opened:
            opened.write(pattern_of(name))
            opened.truncate(size)
        return file

    @abc.abstractmethod
    def export_volume(self, volume: Volume, on: Volume) -> Volume:
        """Map a volume on the target of another one, too.

        :returns: the same volume, as it is to be found there
        """

    @abc.abstractmethod
    def create_nvme_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: Volume | None = None,
    ) -> Volume:
        """A namespace of an NVMe subsystem.

        :param on: share this volume's subsystem
        """

    @abc.abstractmethod
    def create_fc_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: Volume | None = None,
        mapped: bool = True,
        lun: int | None = None,
    ) -> Volume:
        """A volume behind ports of Fibre Channel, which are its portals.

        Each of them is seen by one port of this host, by turns.

        :param on: share this volume's ports
        :param mapped: False: see :meth:`remap`
        """

    @abc.abstractmethod
    def create_rbd_volume(
        self,
        size: int = 32 * 1024 * 1024,
        pool: str = 'volumes',
        name: str | None = None,
    ) -> Volume:
        """An image of a Ceph cluster, which wants a user and a key."""

    @abc.abstractmethod
    def create_mount_volume(
        self, size: int = 32 * 1024 * 1024, on: Volume | None = None
    ) -> Volume:
        """A file of a share of NFS.

        :param on: in the share of this volume
        """

    @abc.abstractmethod
    def file_of(self, volume: Volume) -> pathlib.Path:
        """The file on the server of a volume that is one."""

    @abc.abstractmethod
    def unmount_share(self, volume: Volume) -> None:
        """Have somebody else unmount the share of a volume."""

    @abc.abstractmethod
    def mount_elsewhere(
        self, volume: Volume, other: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """Have somebody else mount the share of a volume meanwhile.

        :param other: not that share, but something else in its place
        """

    @abc.abstractmethod
    def encrypt(
        self,
        volume: Volume,
        provider: str,
        key: str,
        memory: int = 0,
        integrity: bool = False,
    ) -> None:
        """Format a volume that is attached nowhere.

        :param provider: luks or luks2
        :param memory: bytes that its header asks for
        :param integrity: whether dm-integrity is below dm-crypt
        """

    @abc.abstractmethod
    def loop_device(
        self, path: str
    ) -> contextlib.AbstractContextManager[None]:
        """Have somebody else use a file as a loop device meanwhile."""

    @abc.abstractmethod
    def blocklist(self, blocked: bool) -> None:
        """Have the cluster of images refuse this host, or serve it again."""

    @abc.abstractmethod
    def halve(self, name: str) -> None:
        """Leave only the lower device of a mapping with integrity."""

    @abc.abstractmethod
    def clear(self, volume: Volume) -> None:
        """Make a volume that is attached nowhere all zeros."""

    @abc.abstractmethod
    def remove_volume(self, volume: Volume) -> None:
        """Unmap the LUN on the target; the host is not told."""

    @abc.abstractmethod
    def resize_volume(self, volume: Volume, size: int) -> None:
        """Grow it on the storage; the host is not told.

        :param size: bytes
        """

    @abc.abstractmethod
    def remap(self, volume: Volume, other: Volume, portal: str = '') -> None:
        """Have the LUN of a volume lead to another one's data and identity.

        The host is not told.

        :param other: one that was made unmapped, or the first one again
        :param portal: change only what this one shows
        """

    @abc.abstractmethod
    def set_access(self, volume: Volume, portal: str, state: str) -> None:
        """Change the state (ALUA, ANA) of the port that a portal is.

        :param state: ``optimized``; ``standby``: it answers, but nothing can
            be read; ``unavailable``: not even its size; of NVMe
            ``inaccessible``
        """

    @abc.abstractmethod
    def set_discovery_chap(self, chap: tuple[str, str] | None) -> None:
        """Have the portals demand this for a discovery; None: nothing."""

    @abc.abstractmethod
    def kill_path(self, volume: Volume, portal: str) -> None:
        """Break the connections of a portal, and refuse new ones."""

    @abc.abstractmethod
    def restore_path(self, volume: Volume, portal: str) -> None:
        """Take back :meth:`kill_path`; sessions come back by themselves."""

    @abc.abstractmethod
    def drop_session(self, volume: Volume, portal: str) -> None:
        """Somebody else on the host logs out."""

    @abc.abstractmethod
    def set_multipathd(
        self,
        find_multipaths: str | None = 'yes',
        user_friendly_names: bool = False,
        queueing: bool = False,
        uid_attribute: str | None = None,
        blacklist: bool = False,
    ) -> None:
        """(Re)start multipathd with these settings.

        :param find_multipaths: None: the configuration does not say
        :param queueing: I/O waits while no path works, and does not fail
        :param uid_attribute: udev's property that names a volume; None: the
            default
        :param blacklist: it is to leave all disks of SCSI alone
        """

    @abc.abstractmethod
    def set_up(self) -> None:
        """Make multipathd, and /etc, what they are on this host."""

    @abc.abstractmethod
    def protect_etc(self, protect: bool) -> None:
        """Make /etc read-only, as far as attachworker writes there."""

    @abc.abstractmethod
    def stop_multipathd(self) -> None:
        """Its maps stay."""

    @abc.abstractmethod
    def hang_portal(self, portal: str, accept: bool = True) -> None:
        """Neither answer nor refuse.

        :param accept: whether connections are made all the same; those that
            are not go on being tried
        """

    @abc.abstractmethod
    def stop_portal(self, portal: str) -> None:
        """Refuse connections."""

    @abc.abstractmethod
    def start_portal(self, portal: str) -> None:
        """Take connections again."""

    @abc.abstractmethod
    def read(
        self, path: str | os.PathLike[str], length: int = 4096, offset: int = 0
    ) -> bytes:
        """Read through the attached device."""

    @abc.abstractmethod
    def write(
        self, path: str | os.PathLike[str], data: bytes, offset: int = 0
    ) -> None:
        """Write through the attached device."""

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[None]:
        """Keep an attached device open for the length of a with block."""
        with open(self.root / path.lstrip('/'), 'rb'):
            yield

    @abc.abstractmethod
    def used_by_host(
        self, path: str, point: str
    ) -> contextlib.AbstractContextManager[None]:
        """Have the host itself live on a device meanwhile.

        :param path: of a device whose content does not matter
        :param point: where its file system is mounted, or ``swap``
        """

    def instance(self, disk: str) -> int:
        """What no other device of the name of a disk has; verbs take it."""
        return (self.root / 'sys/class/block' / disk).stat().st_ino

    @abc.abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """A picture of the host that goes into JSON; it waits for nothing.

        Sessions (target, portal), node records, SCSI and block devices, maps,
        links in /dev/disk, files that iscsiadm and multipath keep, the disks
        that multipathd knows, stray children. Without the kernel's growing
        numbers.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back."""
