# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the worker under test uses in place of a kernel."""

import errno
import fcntl
import os
import pathlib
import socket
from typing import IO
from typing import Any
import uuid

from tests.simulator import wire


class Process:
    """The lock of a helper that the simulator stands in for.

    Each call has the simulator share it until the verb has ended, as a thread
    in the kernel would; iscsid, which goes on by itself, does not.
    """

    def __init__(self) -> None:
        self.lock: IO[bytes] | None = None

    def hold(self, path: str) -> None:
        file = open(path, 'rb')
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self.lock is not None:
            self.lock.close()
        self.lock = file


class _Group:
    def __init__(self, root: pathlib.Path, process: Process) -> None:
        self._root = root
        self._process = process

    def _call(self, verb: str, /, **arguments: Any) -> Any:
        lock = self._process.lock
        shared = [] if lock is None else [lock.fileno()]
        return wire.call(self._root, verb, shared, **arguments)


class ISCSI(_Group):
    def login(
        self,
        target_name: str,
        address: str,
        port: int,
        record: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]:
        code, message = self._call(
            'iscsi.login',
            target_name=target_name,
            address=address,
            port=port,
            record=record,
            timeout=timeout,
        )
        return code, message

    def logout(self, session_id: int, timeout: float) -> tuple[int, str]:
        code, message = self._call(
            'iscsi.logout', session_id=session_id, timeout=timeout
        )
        return code, message

    def discover(
        self,
        address: str,
        port: int,
        settings: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]:
        code, message = self._call(
            'iscsi.discover',
            address=address,
            port=port,
            settings=settings,
            timeout=timeout,
        )
        return code, message

    def interface(self, name: str, timeout: float) -> tuple[int, str]:
        code, message = self._call(
            'iscsi.interface', name=name, timeout=timeout
        )
        return code, message


class SCSI(_Group):
    def scan(self, host: int, channel: int, target: int, lun: int) -> None:
        self._call(
            'scsi.scan',
            host=host,
            channel=channel,
            target=target,
            lun=lun,
        )

    def delete(self, hctl: str) -> None:
        self._call('scsi.delete', hctl=hctl)

    def rescan(self, hctl: str) -> None:
        self._call('scsi.rescan', hctl=hctl)

    def inquiry(self, device: str, instance: int, page: int) -> bytes:
        data: bytes = self._call(
            'scsi.inquiry',
            device=device,
            instance=instance,
            page=page,
        )
        return data


class Block(_Group):
    def flush(self, device: str) -> None:
        self._call('block.flush', device=device)

    def claimed(self, devices: list[tuple[str, str]]) -> list[str]:
        found: list[str] = self._call('block.claimed', devices=devices)
        return found

    def check_readable(self, device: str, instance: int) -> None:
        self._call('block.check_readable', device=device, instance=instance)


class Processes(_Group):
    def users(
        self, devices: dict[str, list[str]]
    ) -> tuple[list[tuple[str, int, str, str]], list[tuple[int, str]]]:
        uses, hidden = self._call('processes.users', devices=devices)
        return (
            [(number, pid, name, point) for number, pid, name, point in uses],
            [(pid, name) for pid, name in hidden],
        )


class Removals(_Group):
    def carried(self, devices: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self._call(
            'removals.carried', devices=devices
        )
        return found


class Encryption(_Group):
    def read_header(
        self, device: str, instance: int, provider: str, timeout: float
    ) -> int | None:
        found: int | None = self._call(
            'encryption.read_header',
            device=device,
            instance=instance,
            provider=provider,
            timeout=timeout,
        )
        return found

    def format(
        self, device: str, instance: int, provider: str, key: str, memory: int
    ) -> None:
        self._call(
            'encryption.format',
            device=device,
            instance=instance,
            provider=provider,
            key=key,
            memory=memory,
        )

    def open(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        read_only: bool,
        memory: int,
        timeout: float,
    ) -> None:
        self._call(
            'encryption.open',
            device=device,
            instance=instance,
            name=name,
            provider=provider,
            key=key,
            read_only=read_only,
            memory=memory,
            timeout=timeout,
        )

    def has_key(
        self,
        device: str,
        instance: int,
        provider: str,
        key: str,
        memory: int,
        timeout: float,
    ) -> bool:
        found: bool = self._call(
            'encryption.has_key',
            device=device,
            instance=instance,
            provider=provider,
            key=key,
            memory=memory,
            timeout=timeout,
        )
        return found

    def add_key(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        new_key: str,
        memory: int,
        timeout: float,
    ) -> None:
        self._call(
            'encryption.add_key',
            device=device,
            instance=instance,
            name=name,
            provider=provider,
            key=key,
            new_key=new_key,
            memory=memory,
            timeout=timeout,
        )

    def remove_key(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str,
        kept_key: str,
        memory: int,
        timeout: float,
    ) -> None:
        self._call(
            'encryption.remove_key',
            device=device,
            instance=instance,
            name=name,
            provider=provider,
            key=key,
            kept_key=kept_key,
            memory=memory,
            timeout=timeout,
        )

    def close(self, name: str) -> None:
        self._call('encryption.close', name=name)

    def resize(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str | None,
        memory: int,
    ) -> None:
        self._call(
            'encryption.resize',
            device=device,
            instance=instance,
            name=name,
            provider=provider,
            key=key,
            memory=memory,
        )

    def offset(self, name: str, timeout: float) -> int:
        found: int = self._call(
            'encryption.offset', name=name, timeout=timeout
        )
        return found


class Loop(_Group):
    def attach(self, path: str, read_only: bool) -> None:
        self._call('loop.attach', path=path, read_only=read_only)

    def detach(self, device: str, path: str) -> None:
        self._call('loop.detach', device=device, path=path)

    def resize(self, device: str, path: str) -> None:
        self._call('loop.resize', device=device, path=path)

    def is_ours(self, device: str, path: str) -> bool:
        found: bool = self._call('loop.is_ours', device=device, path=path)
        return found

    def identify(self, device: str) -> list[int | str]:
        found: list[int | str] = self._call('loop.identify', device=device)
        return found


class NVMe(_Group):
    def connect(self, options: dict[str, str]) -> int:
        number: int = self._call('nvme.connect', options=options)
        return number

    def delete(self, controller: str, instance: int) -> None:
        self._call('nvme.delete', controller=controller, instance=instance)

    def rescan(self, controller: str, instance: int) -> None:
        self._call('nvme.rescan', controller=controller, instance=instance)

    def identify(
        self, controller: str, instance: int, nsid: int, page: int
    ) -> bytes:
        data: bytes = self._call(
            'nvme.identify',
            controller=controller,
            instance=instance,
            nsid=nsid,
            page=page,
        )
        return data

    def register(self, controller: str, instance: int) -> None:
        self._call('nvme.register', controller=controller, instance=instance)

    def create_host_identity(self, nqn: str, host_id: str) -> None:
        self._call('nvme.create_host_identity', nqn=nqn, host_id=host_id)


class RBD(_Group):
    def add(
        self,
        monitors: list[str],
        pool: str,
        image: str,
        snapshot: str,
        options: dict[str, str],
        cluster: str,
        keyring: str,
    ) -> None:
        self._call(
            'rbd.add',
            monitors=monitors,
            pool=pool,
            image=image,
            snapshot=snapshot,
            options=options,
            cluster=cluster,
            keyring=keyring,
        )

    def remove(self, number: int, instance: int, force: bool) -> None:
        self._call('rbd.remove', number=number, instance=instance, force=force)

    def refresh(self, number: int) -> None:
        self._call('rbd.refresh', number=number)

    def monitors(self, number: int) -> list[str]:
        found: list[str] = self._call('rbd.monitors', number=number)
        return found

    def is_ours(self, number: int) -> bool:
        found: bool = self._call('rbd.is_ours', number=number)
        return found


class Mounts(_Group):
    def mount(
        self, kind: str, share: str, options: list[str], timeout: float
    ) -> tuple[int, str]:
        code, output = self._call(
            'mounts.mount',
            kind=kind,
            share=share,
            options=options,
            timeout=timeout,
        )
        return code, output

    def unmount(self, kind: str, directory: str, lazy: bool) -> None:
        self._call('mounts.unmount', kind=kind, directory=directory, lazy=lazy)

    def inspect(
        self, kind: str, directory: str, name: str, fresh: bool
    ) -> list[int]:
        found: list[int] = self._call(
            'mounts.inspect',
            kind=kind,
            directory=directory,
            name=name,
            fresh=fresh,
        )
        return found

    def flush(self, kind: str, directory: str, name: str) -> None:
        self._call('mounts.flush', kind=kind, directory=directory, name=name)

    def users(
        self, kind: str, directory: str, name: str, inode: int | None
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[str]]:
        uses, hidden, kernel = self._call(
            'mounts.users',
            kind=kind,
            directory=directory,
            name=name,
            inode=inode,
        )
        return [(pid, one) for pid, one in uses], hidden, kernel


class Multipath(_Group):
    def running(self) -> bool:
        answer: bool = self._call('multipath.running')
        return answer

    def add_path(self, disk: str) -> None:
        self._call('multipath.add_path', disk=disk)

    def make_map(self, disk: str) -> None:
        self._call('multipath.make_map', disk=disk)

    def remove_path(self, disk: str) -> None:
        self._call('multipath.remove_path', disk=disk)

    def map_paths(self, map_name: str) -> list[tuple[str, str]]:
        found = self._call('multipath.map_paths', map_name=map_name)
        return [(disk, state) for disk, state in found]

    def remove_map(self, map_name: str) -> None:
        self._call('multipath.remove_map', map_name=map_name)

    def resize_map(self, map_name: str) -> None:
        self._call('multipath.resize_map', map_name=map_name)

    def set_queueing(self, map_name: str, queue: bool) -> None:
        self._call(
            'multipath.set_queueing',
            map_name=map_name,
            queue=queue,
        )

    def listed(self) -> list[str]:
        found: list[str] = self._call('multipath.listed')
        return found

    def remember(self, wwid: str) -> None:
        self._call('multipath.remember', wwid=wwid)

    def forget(self, wwid: str) -> None:
        self._call('multipath.forget', wwid=wwid)


class Verbs:
    """The privileged verbs of one simulated host; a connection a call."""

    def __init__(self, root: pathlib.Path | str) -> None:
        path = pathlib.Path(root)
        self.process = Process()
        self.iscsi = ISCSI(path, self.process)
        self.scsi = SCSI(path, self.process)
        self.block = Block(path, self.process)
        self.encryption = Encryption(path, self.process)
        self.loop = Loop(path, self.process)
        self.mounts = Mounts(path, self.process)
        self.multipath = Multipath(path, self.process)
        self.processes = Processes(path, self.process)
        self.removals = Removals(path, self.process)
        self.nvme = NVMe(path, self.process)
        self.rbd = RBD(path, self.process)


class UeventSource:
    """A socket that receives the uevents of one simulated host.

    Whatever the server emits after the constructor has returned arrives.
    """

    def __init__(self, root: pathlib.Path | str) -> None:
        name = f'{os.getpid()}-{uuid.uuid4().hex[:8]}'
        self._path = pathlib.Path(root) / wire.UEVENTS / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> dict[str, str] | None:
        """The next uevent; None when there is no more for now.

        :raises OSError: ENOBUFS when uevents were lost
        """
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return None
        event: dict[str, str] = wire.load(data)
        if wire.OVERRUN in event:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return event

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()


class Control:
    """What a test may do to the simulated world.

    For example ``Control(root)('set_portal', portal=..., state='stopped')``;
    the names are the methods of ``control.Controls``.
    """

    def __init__(self, root: pathlib.Path | str) -> None:
        self._root = pathlib.Path(root)

    def __call__(self, name: str, **arguments: Any) -> Any:
        return wire.call(self._root, f'control.{name}', **arguments)
