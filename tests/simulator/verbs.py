# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The privileged verbs by name: what they take and what they return."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import inspect
from typing import Any
from typing import Protocol

#: What iscsiadm exits with.
OK = 0
NO_CONNECTION = 4
LOGIN_TIMED_OUT = 8
SESSION_EXISTS = 15
LOGIN_FAILED = 19
NOT_FOUND = 21
AUTH_FAILED = 24


class ISCSIVerbs(Protocol):
    def login(
        self,
        target_name: str,
        address: str,
        port: int,
        record: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]: ...

    def logout(self, session_id: int, timeout: float) -> tuple[int, str]: ...

    def discover(
        self,
        address: str,
        port: int,
        settings: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]: ...

    def interface(self, name: str, timeout: float) -> tuple[int, str]: ...


class SCSIVerbs(Protocol):
    def scan(self, host: int, channel: int, target: int, lun: int) -> None: ...

    def delete(self, hctl: str) -> None: ...

    def rescan(self, hctl: str) -> None: ...

    def inquiry(self, device: str, instance: int, page: int) -> bytes: ...


class BlockVerbs(Protocol):
    def flush(self, device: str) -> None: ...

    def claimed(self, devices: list[tuple[str, str]]) -> list[str]: ...

    def check_readable(self, device: str, instance: int) -> None: ...


class ProcessesVerbs(Protocol):
    def users(
        self, devices: dict[str, list[str]]
    ) -> tuple[list[tuple[str, int, str, str]], list[tuple[int, str]]]: ...


class EncryptionVerbs(Protocol):
    def read_header(
        self, device: str, instance: int, provider: str, timeout: float
    ) -> int | None: ...

    def format(
        self, device: str, instance: int, provider: str, key: str, memory: int
    ) -> None: ...

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
    ) -> None: ...

    def has_key(
        self,
        device: str,
        instance: int,
        provider: str,
        key: str,
        memory: int,
        timeout: float,
    ) -> bool: ...

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
    ) -> None: ...

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
    ) -> None: ...

    def close(self, name: str) -> None: ...

    def resize(
        self,
        device: str,
        instance: int,
        name: str,
        provider: str,
        key: str | None,
        memory: int,
    ) -> None: ...

    def offset(self, name: str, timeout: float) -> int: ...


class LoopVerbs(Protocol):
    def attach(self, path: str, read_only: bool) -> None: ...

    def detach(self, device: str, path: str) -> None: ...

    def resize(self, device: str, path: str) -> None: ...

    def is_ours(self, device: str, path: str) -> bool: ...

    def identify(self, device: str) -> list[int | str]: ...


class MountsVerbs(Protocol):
    def mount(
        self, kind: str, share: str, options: list[str], timeout: float
    ) -> tuple[int, str]: ...

    def unmount(self, kind: str, directory: str, lazy: bool) -> None: ...

    def inspect(
        self, kind: str, directory: str, name: str, fresh: bool
    ) -> list[int]: ...

    def flush(self, kind: str, directory: str, name: str) -> None: ...

    def users(
        self, kind: str, directory: str, name: str, inode: int | None
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[str]]: ...


class MultipathVerbs(Protocol):
    def running(self) -> bool: ...

    def add_path(self, disk: str) -> None: ...

    def make_map(self, disk: str) -> None: ...

    def remove_path(self, disk: str) -> None: ...

    def map_paths(self, map_name: str) -> list[tuple[str, str]]: ...

    def remove_map(self, map_name: str) -> None: ...

    def resize_map(self, map_name: str) -> None: ...

    def set_queueing(self, map_name: str, queue: bool) -> None: ...

    def listed(self) -> list[str]: ...

    def remember(self, wwid: str) -> None: ...

    def forget(self, wwid: str) -> None: ...


class NVMeVerbs(Protocol):
    def connect(self, options: dict[str, str]) -> int: ...

    def delete(self, controller: str, instance: int) -> None: ...

    def rescan(self, controller: str, instance: int) -> None: ...

    def identify(
        self, controller: str, instance: int, nsid: int, page: int
    ) -> bytes: ...

    def register(self, controller: str, instance: int) -> None: ...

    def create_host_identity(self, nqn: str, host_id: str) -> None: ...


class ProcessVerbs(Protocol):
    def hold(self, path: str) -> None: ...


class RBDVerbs(Protocol):
    def add(
        self,
        monitors: list[str],
        pool: str,
        image: str,
        snapshot: str,
        options: dict[str, str],
        cluster: str,
        keyring: str,
    ) -> None: ...

    def remove(self, number: int, instance: int, force: bool) -> None: ...

    def refresh(self, number: int) -> None: ...

    def monitors(self, number: int) -> list[str]: ...

    def is_ours(self, number: int) -> bool: ...


class RemovalsVerbs(Protocol):
    def carried(self, devices: list[str]) -> dict[str, list[str]]: ...


class Verbs(Protocol):
    """All of them; the package attachworker.privileged is one, too."""

    @property
    def iscsi(self) -> ISCSIVerbs: ...

    @property
    def scsi(self) -> SCSIVerbs: ...

    @property
    def block(self) -> BlockVerbs: ...

    @property
    def encryption(self) -> EncryptionVerbs: ...

    @property
    def loop(self) -> LoopVerbs: ...

    @property
    def mounts(self) -> MountsVerbs: ...

    @property
    def multipath(self) -> MultipathVerbs: ...

    @property
    def nvme(self) -> NVMeVerbs: ...

    @property
    def process(self) -> ProcessVerbs: ...

    @property
    def processes(self) -> ProcessesVerbs: ...

    @property
    def rbd(self) -> RBDVerbs: ...

    @property
    def removals(self) -> RemovalsVerbs: ...


_GROUPS: dict[str, Any] = {
    'iscsi': ISCSIVerbs,
    'scsi': SCSIVerbs,
    'block': BlockVerbs,
    'encryption': EncryptionVerbs,
    'loop': LoopVerbs,
    'mounts': MountsVerbs,
    'multipath': MultipathVerbs,
    'nvme': NVMeVerbs,
    'process': ProcessVerbs,
    'processes': ProcessesVerbs,
    'rbd': RBDVerbs,
    'removals': RemovalsVerbs,
}

#: Every verb, ``group.name``, with its signature.
SIGNATURES: dict[str, inspect.Signature] = {
    f'{group}.{name}': inspect.signature(function)
    for group, protocol in _GROUPS.items()
    for name, function in vars(protocol).items()
    if inspect.isfunction(function) and not name.startswith('_')
}

#: Those of them that change nothing.
READ_ONLY = frozenset(
    (
        'iscsi.discover',
        'iscsi.interface',
        'scsi.inquiry',
        'block.claimed',
        'block.check_readable',
        'loop.identify',
        'loop.is_ours',
        'encryption.read_header',
        'encryption.has_key',
        'encryption.offset',
        'mounts.inspect',
        'mounts.users',
        'nvme.identify',
        'rbd.monitors',
        'rbd.is_ours',
        'process.hold',
        'processes.users',
        'removals.carried',
        'multipath.running',
        'multipath.listed',
        'multipath.map_paths',
    )
)


def bind(
    verb: str, positional: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """A call's arguments by name.

    :raises TypeError: they do not fit the verb
    """
    bound = SIGNATURES[verb].bind(None, *positional, **keywords)
    return {k: v for k, v in bound.arguments.items() if k != 'self'}


def function(verbs: Verbs, verb: str) -> Callable[..., Any]:
    """The verb itself, out of an object that has them all.

    :param verb: for example ``iscsi.login``
    """
    if verb not in SIGNATURES:
        raise ValueError(f'no such verb: {verb}')
    group, name = verb.split('.')
    found: Callable[..., Any] = getattr(getattr(verbs, group), name)
    return found
