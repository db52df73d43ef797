# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A simulated host with storage to attach, for tests."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any
import uuid

from tests.contract import bed
from tests.simulator import client
from tests.simulator import crypts
from tests.simulator import faults
from tests.simulator import machine
from tests.simulator import multipathd
from tests.simulator import picture

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
#: What the simulator takes where a new volume is said to be nothing else.
_DEFAULTS = {'mapped': True, 'block_size': 512, 'company': '001405'}


class RemoteFault:
    """A fault armed in the simulator's process."""

    def __init__(self, control: client.Control, index: int) -> None:
        self._control = control
        self._index = index

    @property
    def fired(self) -> int:
        """How often it has struck."""
        count: int = self._control('fired', index=self._index)
        return count

    def wait(self, timeout: float = 10.0) -> bool:
        """Until it has struck once; False if it did not in time."""
        struck: bool = self._control(
            'wait_fired', index=self._index, timeout=timeout
        )
        return struck

    def release(self) -> None:
        """Let go what hangs on it, now and later."""
        self._control('release', index=self._index)


class SimulatedBed(bed.Bed):
    """Starts the simulator on a temporary directory.

    The simulator ends with :meth:`close`, and with this process.

    :param project: the checkout whose simulator it is
    :param python: the interpreter for that
    """

    def __init__(
        self,
        project: pathlib.Path = _PROJECT,
        python: str = sys.executable,
    ) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='simulated-'))
        self.control = client.Control(self.root)
        self.verbs = client.Verbs(self.root)
        self._process = subprocess.Popen(
            [
                python,
                '-m',
                'tests.simulator.server',
                str(self.root),
                '--parent',
                str(os.getpid()),
            ],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self.close()
            raise RuntimeError('the simulator did not start')

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def uevent_source(self) -> client.UeventSource:
        return client.UeventSource(self.root)

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
        target_name: str | None = None,
        like: bed.Volume | None = None,
        company: str = '001405',
    ) -> bed.Volume:
        asked = {
            'target': on.target if on else None,
            'chap': chap,
            'lun': lun,
            'mapped': mapped,
            'block_size': block_size,
            'target_name': target_name,
            'like': like.name if like else None,
            'company': company,
        }
        # What an earlier simulator does not know, it is not asked for: the
        # benchmark compares with earlier commits.
        made = self.control(
            'create_volume',
            size=size,
            portals=portals,
            **{
                name: value
                for name, value in asked.items()
                if value not in (None, _DEFAULTS.get(name))
            },
        )
        return _volume(made)

    def export_volume(self, volume: bed.Volume, on: bed.Volume) -> bed.Volume:
        """See :class:`tests.contract.bed.Bed`."""
        return _volume(
            self.control('export_volume', volume=volume.name, target=on.target)
        )

    def encrypt(
        self,
        volume: bed.Volume,
        provider: str,
        key: str,
        memory: int = 0,
        integrity: bool = False,
    ) -> None:
        with open(self._file(volume), 'r+b') as file:
            file.write(crypts.header(provider, key, memory, integrity))

    @contextlib.contextmanager
    def loop_device(self, path: str) -> Iterator[None]:
        self.control('make_loop_device', path=path)
        yield
        self.control('remove_loop_device', path=path)

    def blocklist(self, blocked: bool) -> None:
        self.control('blocklist', blocked=blocked)

    def halve(self, name: str) -> None:
        self.control('halve_mapping', mapping=name)

    def clear(self, volume: bed.Volume) -> None:
        with open(self._file(volume), 'r+b') as file:
            file.write(bytes(len(volume.pattern)))

    def _file(self, volume: bed.Volume) -> pathlib.Path:
        if volume.protocol == 'local':
            return self.root / volume.target.lstrip('/')
        if volume.protocol == 'rbd':
            return self.root / machine.VOLUMES / f'rbd-{volume.wwn}'
        return self.root / machine.VOLUMES / volume.name

    def create_nvme_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: bed.Volume | None = None,
    ) -> bed.Volume:
        made = self.control(
            'create_nvme_volume',
            size=size,
            portals=portals,
            target=on.target if on else None,
        )
        made['portals'] = tuple(made['portals'])
        return bed.Volume(**made)

    def create_fc_volume(
        self,
        size: int = 32 * 1024 * 1024,
        portals: int = 1,
        on: bed.Volume | None = None,
        mapped: bool = True,
        lun: int | None = None,
    ) -> bed.Volume:
        return _volume(
            self.control(
                'create_fc_volume',
                size=size,
                portals=portals,
                target=on.target if on else None,
                mapped=mapped,
                lun=lun,
            )
        )

    def create_rbd_volume(
        self,
        size: int = 32 * 1024 * 1024,
        pool: str = 'volumes',
        name: str | None = None,
    ) -> bed.Volume:
        made = self.control(
            'create_rbd_volume',
            size=size,
            pool=pool,
            image=name or f'volume-{uuid.uuid4()}',
        )
        made['portals'] = tuple(made['portals'])
        made['chap'] = tuple(made['chap'])
        return bed.Volume(**made)

    def create_mount_volume(
        self, size: int = 32 * 1024 * 1024, on: bed.Volume | None = None
    ) -> bed.Volume:
        made = self.control(
            'create_mount_volume', size=size, share=on.target if on else None
        )
        made['portals'] = tuple(made['portals'])
        return bed.Volume(**made)

    def file_of(self, volume: bed.Volume) -> pathlib.Path:
        share = volume.target.rpartition('/')[2]
        return self.root / 'run/exports' / share / volume.name

    def unmount_share(self, volume: bed.Volume) -> None:
        self.control('take_mount_away', directory=volume.directory)

    @contextlib.contextmanager
    def mount_elsewhere(
        self, volume: bed.Volume, other: bool = False
    ) -> Iterator[None]:
        address, _, port = volume.portals[0].rpartition(':')
        self.control(
            'make_mount',
            share=volume.target,
            kind='tmpfs' if other else 'nfs4',
            options='rw' if other else f'rw,addr={address},port={port}',
        )
        yield
        self.control('take_mount_away', directory=volume.directory)

    def remove_volume(self, volume: bed.Volume) -> None:
        if volume.protocol == 'nfs':
            os.unlink(self.file_of(volume))
            return
        if volume.protocol == 'rbd':
            self.control('remove_rbd_volume', spec=volume.target)
            return
        if volume.protocol == 'nvmeof':
            self.control(
                'remove_nvme_volume', target=volume.target, lun=volume.lun
            )
            return
        if volume.protocol == 'local':
            os.unlink(self.root / volume.target.lstrip('/'))
            return
        self.control('remove_volume', target=volume.target, lun=volume.lun)

    def resize_volume(self, volume: bed.Volume, size: int) -> None:
        if volume.protocol == 'nfs':
            os.truncate(self.file_of(volume), size)
            return
        if volume.protocol == 'rbd':
            self.control('resize_rbd_volume', spec=volume.target, size=size)
            return
        if volume.protocol == 'nvmeof':
            os.truncate(self.root / 'run/volumes' / volume.name, size)
            return
        if volume.protocol == 'local':
            os.truncate(self.root / volume.target.lstrip('/'), size)
            return
        self.control('resize_volume', volume=volume.name, size=size)

    def remap(
        self, volume: bed.Volume, other: bed.Volume, portal: str = ''
    ) -> None:
        self.control(
            'remap',
            target=volume.target,
            lun=volume.lun,
            volume=other.name,
            portal=portal,
        )

    def set_access(self, volume: bed.Volume, portal: str, state: str) -> None:
        if volume.protocol == 'nvmeof':
            serves = state == 'optimized'
            self.control('set_nvme_access', portal=portal, serves=serves)
            return
        self.control(
            'set_access',
            target=volume.target,
            lun=volume.lun,
            portal=portal,
            state=state,
        )

    def set_discovery_chap(self, chap: tuple[str, str] | None) -> None:
        self.control('set_discovery_chap', chap=chap)

    def kill_path(self, volume: bed.Volume, portal: str) -> None:
        if volume.protocol == 'fibre_channel':
            self.control('set_port', portal=portal, connected=False)
            return
        self.control('kill_path', portal=portal)

    def restore_path(self, volume: bed.Volume, portal: str) -> None:
        if volume.protocol == 'fibre_channel':
            self.control('set_port', portal=portal, connected=True)
            return
        self.control('restore_path', portal=portal)

    def set_multipathd(
        self,
        find_multipaths: str | None = 'yes',
        user_friendly_names: bool = False,
        queueing: bool = False,
        uid_attribute: str | None = None,
        blacklist: bool = False,
        reaction: float = multipathd.REACTION_SECONDS,
    ) -> None:
        self.control(
            'set_multipathd',
            find_multipaths=find_multipaths,
            user_friendly_names=user_friendly_names,
            queueing=queueing,
            reaction=reaction,
            uid_attribute=uid_attribute,
            blacklist=blacklist,
        )

    def set_up(self) -> None:
        self.set_multipathd()
        self.protect_etc(False)

    def protect_etc(self, protect: bool) -> None:
        self.control('protect_etc', protect=protect)

    def stop_multipathd(self) -> None:
        self.control('stop_multipathd')

    def stop_portal(self, portal: str) -> None:
        self.control('set_portal', portal=portal, state='stopped')

    def start_portal(self, portal: str) -> None:
        self.control('set_portal', portal=portal, state='listening')

    def hang_portal(self, portal: str, accept: bool = True) -> None:
        """Connections to the portal are neither accepted nor refused."""
        self.control('set_portal', portal=portal, state='hanging')

    def restart_host(self) -> None:
        """Reboot the host: no session, no device, another boot id.

        What was the worker must be dead by then, as after a real one.
        """
        self.control('reboot')

    def arm(
        self,
        kind: faults.Fault,
        verb: str = '',
        *,
        times: int | None = 1,
        match: Mapping[str, Any] | None = None,
        exit_code: int = 8,
        seconds: float = 0.0,
        number: int = errno.EIO,
    ) -> RemoteFault:
        """Arm a fault in the simulator: it strikes in any process.

        For the parameters see :meth:`faults.FaultPlan.arm`.
        """
        index = self.control(
            'arm',
            kind=kind.value,
            verb=verb,
            times=times,
            match=dict(match or {}),
            exit_code=exit_code,
            seconds=seconds,
            number=number,
        )
        return RemoteFault(self.control, index)

    def unfired(self) -> list[str]:
        """Faults that never struck: a test that armed them shows nothing."""
        found: list[str] = self.control('unfired')
        return found

    @contextlib.contextmanager
    def used_by_host(self, path: str, point: str) -> Iterator[None]:
        # of a mapping there is a link
        device = os.path.realpath(self.root / path.lstrip('/'))
        device = os.path.basename(device)
        if point == 'swap':
            self.control('swap_on', device=device)
        else:
            self.mount(device, point)
        yield
        if point == 'swap':
            self.control('swap_off')
        else:
            self.unmount(point)

    def mount(self, device: str, directory: str, pid: int = 1) -> None:
        """Show a device, for example ``sda``, as mounted.

        :param pid: of a process in whose namespace it is; 1: the host's own
        """
        self.control('mount', device=device, directory=directory, pid=pid)

    def unmount(self, directory: str, pid: int = 1) -> None:
        self.control('unmount', directory=directory, pid=pid)

    def add_holder(self, device: str, holder: str) -> None:
        """Show a block device, for example ``dm-0``, on top of another."""
        self.control('add_holder', device=device, holder=holder)

    def remove_holder(self, device: str, holder: str) -> None:
        self.control('remove_holder', device=device, holder=holder)

    def drop_session(self, volume: bed.Volume, portal: str) -> None:
        """Somebody else on the host logs out."""
        self.control('drop_session', target=volume.target, portal=portal)

    @contextlib.contextmanager
    def unreadable(self, place: str) -> Iterator[None]:
        """Have each read of a place fail, in all processes, with ELOOP.

        :param place: below the root, for example ``sys/class/block``
        """
        path, aside = self.root / place, self.root / 'run/unreadable'
        path.rename(aside)
        path.symlink_to(path)
        try:
            yield
        finally:
            path.unlink()
            aside.rename(path)

    def release(self) -> None:
        """Let everything go that hangs."""
        self.control('release')

    def read(
        self, path: str | os.PathLike[str], length: int = 4096, offset: int = 0
    ) -> bytes:
        descriptor = self._open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def write(
        self, path: str | os.PathLike[str], data: bytes, offset: int = 0
    ) -> None:
        descriptor = self._open(path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def node(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Where a device is in this file system: ``/dev/sda`` → a file."""
        found = pathlib.Path(path)
        if found.is_relative_to(self.root):
            return found
        return self.root / found.relative_to(found.anchor)

    def snapshot(self) -> dict[str, Any]:
        # multipathd learns of a disk a little after the worker.
        self.control('settle')
        running = self.verbs.multipath.running()
        known = self.control('known_to_multipathd') if running else []
        return picture.of(self.root, self.control('children'), known)

    def _open(self, path: str | os.PathLike[str], flags: int) -> int:
        descriptor = os.open(self.node(path), flags | os.O_CLOEXEC)
        if os.fstat(descriptor).st_size == 0:
            # nothing is mapped there (any more)
            os.close(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return descriptor


def _volume(made: dict[str, Any]) -> bed.Volume:
    """One that is a SCSI disk, as the simulator tells it."""
    made['portals'] = tuple(made['portals'])
    made['chap'] = tuple(made['chap']) if made['chap'] else None
    return bed.Volume(**made)
