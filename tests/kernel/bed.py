# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A real kernel with LIO as its storage. Runs only inside the lab."""

from collections.abc import Iterator
import contextlib
import dataclasses
import mmap
import os
import pathlib
import socket
import subprocess
import tempfile
from typing import Any
import uuid

from oslo_config import cfg
from oslo_privsep import priv_context

from attachworker import privileged
from attachworker.host import netlink
from attachworker.privileged import process
from tests.contract import bed
from tests.kernel import ceph
from tests.kernel import daemons
from tests.kernel import fabric
from tests.kernel import lio
from tests.kernel import nfsd
from tests.kernel import nvmet
from tests.kernel import picture
from tests.kernel import set_ups
from tests.kernel import spy

MULTIPATHD_PID = pathlib.Path('/run/multipathd.pid')


def configure_helpers() -> None:
    """Give the helpers their options, which are those of who forks them.

    One knows the roots, and one is not root, as under the unit.
    """
    cfg.CONF.set_override('local_roots', [bed.LOCAL_ROOT], group='local')
    cfg.CONF.set_override('mount_point_base', bed.MOUNT_BASE, group='nfs')
    # nobody guesses the keys of a test
    cfg.CONF.set_override('encryption_key_time', 10)
    cfg.CONF.set_override('user', 'nobody', privileged.READONLY_SECTION)


class KernelBed(bed.Bed):
    """This machine as initiator and target."""

    def __init__(self) -> None:
        if 'LAB_INSIDE' not in os.environ:
            # It would change the kernel of whoever's machine this is.
            raise RuntimeError(
                'not in the lab: python -m tests.kernel.lab run -- COMMAND'
            )
        spy.install()
        if privileged.default.channel is None:
            configure_helpers()
            # forked before there are threads, as the daemon does it
            process.start_helpers(priv_context.Method.FORK)
        self.root = pathlib.Path('/')
        self._targets: dict[str, lio.Target] = {}
        self._arrays: dict[str, fabric.Array] = {}
        self._volumes: dict[str, lio.Backing] = {}
        self._shares: dict[str, nfsd.Share] = {}
        os.makedirs(bed.MOUNT_BASE, exist_ok=True)
        self._subsystems: dict[str, nvmet.Subsystem] = {}
        self._silent: dict[str, list[str]] = {}
        self.verbs = privileged
        self._stopped: set[str] = set()
        self._hanging: dict[str, list[socket.socket]] = {}
        self._set_up = contextlib.ExitStack()
        # What it has yet to hear of is another bed's.
        daemons.drain_multipathd()

    def uevent_source(self) -> netlink.NetlinkSource:
        return netlink.NetlinkSource()

    def create_volume(
        self,
        *,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: bed.Volume | None = None,
        chap: tuple[str, str] | None = None,
        lun: int | None = None,
        resizable: bool = False,
        mapped: bool = True,
        block_size: int = 512,
        serial: uuid.UUID | None = None,
        target_name: str | None = None,
        like: bed.Volume | None = None,
        company: str = '001405',
    ) -> bed.Volume:
        """See :class:`tests.contract.bed.Bed`.

        :param serial: of a volume that an earlier guest had; None: a new one
        """
        serial = serial or uuid.uuid4()
        name = f'volume-{serial}'
        if like is not None:
            serial = uuid.UUID(like.name.removeprefix('volume-'))
        wwn = lio.wwn_of(serial, company)
        pattern = bed.pattern_of(f'{name} {wwn}')
        if on is None:
            addresses = lio.ADDRESSES[:portals]
            target = self._create_target(
                target_name or f'iqn.2010-10.org.openstack:{name}',
                addresses,
                chap,
            )
            listens = tuple(lio.portal(address) for address in addresses)
        else:
            target, listens, chap = (
                self._targets[on.target],
                on.portals,
                on.chap,
            )
        if lun is None:
            lun = target.next_lun()
        backing = (
            lio.BackingDevice(name, serial, size, pattern, block_size)
            if resizable or block_size != 512
            else lio.Backing(name, serial, size, pattern)
        )
        backing.set_company(company)
        self._volumes[name] = backing
        if mapped:
            target.map(lun, backing)
        return bed.Volume(
            name=name,
            target=target.name,
            portals=listens,
            lun=lun,
            wwn=wwn,
            size=size,
            pattern=pattern,
            chap=chap,
        )

    def export_volume(self, volume: bed.Volume, on: bed.Volume) -> bed.Volume:
        """See :class:`tests.contract.bed.Bed`."""
        target = self._targets[on.target]
        lun = target.next_lun()
        target.map(lun, self._volumes[volume.name])
        return dataclasses.replace(
            volume,
            target=target.name,
            portals=on.portals,
            lun=lun,
            chap=on.chap,
        )

    def _create_target(
        self,
        name: str,
        addresses: tuple[str, ...],
        chap: tuple[str, str] | None,
    ) -> lio.Target:
        target = lio.Target(name, addresses, chap)
        self._targets[name] = target
        for address in addresses:
            if address not in self._stopped:
                target.listen(address)
        return target

    def encrypt(
        self,
        volume: bed.Volume,
        provider: str,
        key: str,
        memory: int = 0,
        integrity: bool = False,
    ) -> None:
        # a key that is quickly derived is weak, and these are known anyway
        command = 'cryptsetup luksFormat --batch-mode --key-file=-'
        if memory:
            command += ' --pbkdf=argon2id --pbkdf-force-iterations=4'
            command += f' --pbkdf-memory={memory // 1024}'
        else:
            command += ' --pbkdf=pbkdf2 --pbkdf-force-iterations=1000'
        if integrity:
            command += ' --integrity=hmac-sha256'
        kind = {'luks': 'luks1', 'luks2': 'luks2'}[provider]
        with self._content(volume) as path:
            subprocess.run(
                [*command.split(), '--type', kind, str(path)],
                input=key.encode(),
                check=True,
            )

    @contextlib.contextmanager
    def loop_device(self, path: str) -> Iterator[None]:
        device = subprocess.run(
            ['losetup', '--find', '--show', path],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()
        yield
        subprocess.run(['losetup', '--detach', device], check=True)

    @contextlib.contextmanager
    def used_by_host(self, path: str, point: str) -> Iterator[None]:
        use = ['mkfs.ext4', '-q', '-F', path], ['mount', path, point]
        end = ['umount', point]
        if point == 'swap':
            use = ['mkswap', '--force', path], ['swapon', path]
            end = ['swapoff', path]
        for command in use:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            subprocess.run(end, check=True)

    def blocklist(self, blocked: bool) -> None:
        for one in pathlib.Path('/sys/bus/rbd/devices').iterdir():
            address = (one / 'client_addr').read_text().strip()
            ceph.cluster().blocklist(address, blocked)

    def halve(self, name: str) -> None:
        subprocess.run(['dmsetup', 'remove', name], check=True)

    def clear(self, volume: bed.Volume) -> None:
        with self._content(volume) as path, open(path, 'r+b') as file:
            file.write(bytes(len(volume.pattern)))

    @contextlib.contextmanager
    def _content(self, volume: bed.Volume) -> Iterator[pathlib.Path]:
        """A file to be filled with what the volume is to have."""
        if volume.protocol != 'rbd':
            yield self._file(volume)
            return
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(volume.size)
            yield pathlib.Path(file.name)
            ceph.cluster().remove(volume.target)
            ceph.cluster().store(volume.target, file.name)

    def path_of(self, volume: bed.Volume) -> pathlib.Path:
        """The file with the data of a volume that is in one."""
        return self._file(volume)

    def _file(self, volume: bed.Volume) -> pathlib.Path:
        if volume.protocol == 'local':
            return pathlib.Path(volume.target)
        if volume.protocol == 'nvmeof':
            return pathlib.Path(bed.LOCAL_ROOT) / volume.name
        return self._volumes[volume.name].path

    def create_nvme_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: bed.Volume | None = None,
    ) -> bed.Volume:
        identifier = uuid.uuid4()
        file = self._local_file(f'volume-{identifier}', size)
        if on is None:
            nqn = f'nqn.2014-08.org.nvmexpress:uuid:{identifier}'
            subsystem = nvmet.Subsystem(nqn, nvmet.ADDRESSES[:portals])
            self._subsystems[nqn] = subsystem
        else:
            subsystem = self._subsystems[on.target]
            portals = len(on.portals)
        nsid = subsystem.next_nsid()
        subsystem.map(nsid, file, identifier)
        return bed.Volume(
            name=file.name,
            target=subsystem.nqn,
            portals=tuple(map(nvmet.portal, nvmet.ADDRESSES[:portals])),
            lun=nsid,
            wwn=str(identifier),
            size=size,
            pattern=file.read_bytes()[: bed.PATTERN_LENGTH],
            chap=None,
            protocol='nvmeof',
        )

    def create_fc_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: bed.Volume | None = None,
        mapped: bool = True,
        lun: int | None = None,
    ) -> bed.Volume:
        if on is None:
            array = fabric.Array(portals)
            # Another one with the same ports has the same LUNs.
            array = self._arrays.setdefault(array.name, array)
        else:
            array = self._arrays[on.target]
        if lun is None:
            lun = array.next_lun()
        serial = uuid.uuid4()
        name = f'volume-{serial}'
        pattern = bed.pattern_of(f'{name} {lio.wwn_of(serial)}')
        backing = lio.BackingDevice(name, serial, size, pattern, 512)
        self._volumes[name] = backing
        if mapped:
            array.map(lun, backing)
        return bed.Volume(
            name=name,
            target=array.name,
            portals=array.ports,
            lun=lun,
            wwn=lio.wwn_of(serial),
            size=size,
            pattern=pattern,
            chap=None,
            protocol='fibre_channel',
        )

    def _shower(self, volume: bed.Volume) -> lio.Target | fabric.Array:
        """What shows a volume that is a SCSI disk."""
        if volume.protocol == 'fibre_channel':
            return self._arrays[volume.target]
        return self._targets[volume.target]

    def create_rbd_volume(
        self,
        size: int = 32 * 1024 * 1024,
        pool: str = 'volumes',
        name: str | None = None,
    ) -> bed.Volume:
        cluster = ceph.cluster()
        name = name or f'volume-{uuid.uuid4()}'
        spec = f'{pool}/{name}'
        pattern = bed.pattern_of(f'{spec} {uuid.uuid4()}')
        cluster.create(spec, pattern, size)
        return bed.Volume(
            name=name,
            target=spec,
            portals=(ceph.MONITOR,),
            lun=0,
            wwn='',
            size=size,
            pattern=pattern,
            chap=(ceph.USER, cluster.key),
            protocol='rbd',
        )

    def create_mount_volume(
        self, size: int = 32 * 1024 * 1024, on: bed.Volume | None = None
    ) -> bed.Volume:
        share = nfsd.Share() if on is None else self._shares[on.target]
        self._shares[share.name] = share
        name = f'volume-{uuid.uuid4()}'
        pattern = bed.pattern_of(f'{share.name} {name}')
        with open(share.file(name), 'xb') as file:
            file.write(pattern)
            file.truncate(size)
        return bed.Volume(
            name=name,
            target=share.name,
            portals=(nfsd.PORTAL,),
            lun=0,
            wwn='',
            size=size,
            pattern=pattern,
            chap=None,
            protocol='nfs',
        )

    def file_of(self, volume: bed.Volume) -> pathlib.Path:
        return self._shares[volume.target].file(volume.name)

    def unmount_share(self, volume: bed.Volume) -> None:
        place = f'{bed.MOUNT_BASE}/{volume.directory}'
        nfsd.unmount(place)
        os.rmdir(place)

    @contextlib.contextmanager
    def mount_elsewhere(
        self, volume: bed.Volume, other: bool = False
    ) -> Iterator[None]:
        place = f'{bed.MOUNT_BASE}/{volume.directory}'
        if other:
            os.makedirs(place)
            command = ['mount', '-t', 'tmpfs', 'tmpfs', place]
            subprocess.run(command, check=True)
        else:
            nfsd.mount(volume.target, place)
        try:
            yield
        finally:
            nfsd.unmount(place)
            os.rmdir(place)

    def remove_volume(self, volume: bed.Volume) -> None:
        if volume.protocol == 'nfs':
            self.file_of(volume).unlink()
            return
        if volume.protocol == 'rbd':
            ceph.cluster().remove(volume.target)
            return
        if volume.protocol == 'nvmeof':
            self._subsystems[volume.target].unmap(volume.lun)
            return
        if volume.protocol == 'local':
            os.unlink(self.root / volume.target.lstrip('/'))
            return
        self._shower(volume).unmap(volume.lun)
        self._volumes.pop(volume.name).delete()

    def resize_volume(self, volume: bed.Volume, size: int) -> None:
        if volume.protocol == 'nfs':
            os.truncate(self.file_of(volume), size)
            return
        if volume.protocol == 'rbd':
            ceph.cluster().resize(volume.target, size)
            return
        if volume.protocol == 'nvmeof':
            os.truncate(f'{bed.LOCAL_ROOT}/{volume.name}', size)
            self._subsystems[volume.target].revalidate(volume.lun)
            return
        if volume.protocol == 'local':
            os.truncate(self.root / volume.target.lstrip('/'), size)
            return
        backing = self._volumes[volume.name]
        assert isinstance(backing, lio.BackingDevice), 'not made resizable'
        backing.resize(size)

    def remap(
        self, volume: bed.Volume, other: bed.Volume, portal: str = ''
    ) -> None:
        target = self._shower(volume)
        address = portal.rpartition(':')[0]
        target.unmap(volume.lun, address)
        target.map(volume.lun, self._volumes[other.name], address)

    def set_access(self, volume: bed.Volume, portal: str, state: str) -> None:
        address = portal.rpartition(':')[0]
        if volume.protocol == 'nvmeof':
            nvmet.set_access(address, state)
            return
        self._targets[volume.target].set_access(volume.lun, address, state)

    def set_discovery_chap(self, chap: tuple[str, str] | None) -> None:
        lio.set_discovery_chap(chap)

    def kill_path(self, volume: bed.Volume, portal: str) -> None:
        if volume.protocol == 'fibre_channel':
            fabric.pair_of(portal).set_link(False)
            return
        if volume.protocol == 'nfs':
            nfsd.stop()
            return
        address = portal.rpartition(':')[0]
        if volume.protocol == 'nvmeof':
            self._silent[address] = nvmet.stop(address)
            return
        self._targets[volume.target].enable(False, address)
        self.stop_portal(portal)

    def restore_path(self, volume: bed.Volume, portal: str) -> None:
        if volume.protocol == 'fibre_channel':
            fabric.pair_of(portal).set_link(True)
            return
        if volume.protocol == 'nfs':
            nfsd.start()
            return
        address = portal.rpartition(':')[0]
        if volume.protocol == 'nvmeof':
            nvmet.start(address, self._silent.pop(address))
            return
        self._targets[volume.target].enable(True, address)
        self.start_portal(portal)

    def stop_portal(self, portal: str) -> None:
        address = portal.rpartition(':')[0]
        self._stopped.add(address)
        for target in self._targets.values():
            target.refuse(address)

    def start_portal(self, portal: str) -> None:
        address = portal.rpartition(':')[0]
        if address in self._hanging:
            for one in self._hanging.pop(address):
                one.close()
        if address not in self._stopped:
            return
        self._stopped.remove(address)
        for target in self._targets.values():
            if address in target.addresses:
                target.listen(address)

    def hang_portal(self, portal: str, accept: bool = True) -> None:
        """See :class:`tests.contract.bed.Bed`."""
        self.stop_portal(portal)
        address = portal.rpartition(':')[0]
        silent = socket.create_server(
            (address, lio.PORT), backlog=None if accept else 0
        )
        self._hanging[address] = [silent]
        while not accept:
            # Once its queue is full, the kernel drops who wants to connect.
            one = socket.socket()
            one.settimeout(0.5)
            self._hanging[address].append(one)
            accept = one.connect_ex((address, lio.PORT)) != 0

    def target_of(self, volume: bed.Volume) -> lio.Target:
        """To change what the bed itself does not."""
        return self._targets[volume.target]

    def backing_of(self, volume: bed.Volume) -> lio.Backing:
        return self._volumes[volume.name]

    def break_connections(self, volume: bed.Volume) -> None:
        """The target closes all connections; it takes them again."""
        for wanted in (False, True):
            self._targets[volume.target].enable(wanted)

    def set_multipathd(
        self,
        find_multipaths: str | None = 'yes',
        user_friendly_names: bool = False,
        queueing: bool = False,
        uid_attribute: str | None = None,
        blacklist: bool = False,
    ) -> None:
        self.stop_multipathd()
        daemons.configure_multipathd(
            find_multipaths=find_multipaths,
            user_friendly_names='yes' if user_friendly_names else 'no',
            no_path_retry='queue' if queueing else 'fail',
            uid_attribute=uid_attribute,
            blacklist='devnode "^sd[a-z0-9]+"' if blacklist else '',
        )
        daemons.start('multipathd')
        daemons.wait_for_multipathd()

    def set_up(self) -> None:
        chosen = set_ups.chosen()
        if chosen is None:
            self.protect_etc(False)
            self.set_multipathd()
            return
        self._set_up.close()
        self.stop_multipathd()
        set_ups.configure_multipathd(chosen.multipath_conf)
        if chosen.records_in_var:
            self._set_up.enter_context(set_ups.records_in_var())
        self.protect_etc(chosen.read_only_etc)
        if chosen.multipathd:
            daemons.start('multipathd')
            daemons.wait_for_multipathd()

    def protect_etc(self, protect: bool) -> None:
        set_ups.protect_etc(protect)

    def stop_multipathd(self) -> None:
        daemons.kill('multipathd')
        # What shows that it was not stopped, but died.
        MULTIPATHD_PID.unlink(missing_ok=True)

    def restart_iscsid(self) -> None:
        daemons.kill('iscsid')
        daemons.start('iscsid')

    def drop_session(self, volume: bed.Volume, portal: str) -> None:
        """Somebody else on the host logs out."""
        for session, *place in picture.sessions():
            if place == [volume.target, portal]:
                log_out(session)

    def read(
        self, path: str | os.PathLike[str], length: int = 4096, offset: int = 0
    ) -> bytes:
        """Read past the kernel's cache."""
        skipped = offset % mmap.PAGESIZE
        pages = -(-(skipped + length) // mmap.PAGESIZE)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            # An anonymous map is aligned, as O_DIRECT wants it.
            with mmap.mmap(-1, pages * mmap.PAGESIZE) as buffer:
                count = os.preadv(descriptor, [buffer], offset - skipped)
                return buffer[skipped : min(skipped + length, count)]
        finally:
            os.close(descriptor)

    def write(
        self, path: str | os.PathLike[str], data: bytes, offset: int = 0
    ) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def snapshot(self) -> dict[str, Any]:
        # udevd makes and removes its links after the kernel's events; that
        # they follow is its promise, not the worker's.
        subprocess.run(['udevadm', 'settle', '--timeout=30'], check=True)
        return picture.take()

    def close(self) -> None:
        """End what a test left, then take the storage away."""
        self._set_up.close()
        for portal in list(self._hanging):
            self.start_portal(lio.portal(portal))
        for session, target_name, _portal in picture.sessions():
            if target_name in self._targets:
                log_out(session)
        for target in self._targets.values():
            target.delete()
        for array in self._arrays.values():
            array.delete()
        for subsystem in self._subsystems.values():
            subsystem.delete()
        for backing in self._volumes.values():
            backing.delete()


def log_out(session: str) -> None:
    subprocess.run(
        ['iscsiadm', '-m', 'session', '-r', session, '-u'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )
