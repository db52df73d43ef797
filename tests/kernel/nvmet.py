# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The kernel's own NVMe target, through configfs."""

import os
import pathlib
import uuid

ROOT = pathlib.Path('/sys/kernel/config/nvmet')
ADDRESSES = ('127.0.0.1', '127.0.0.2')
PORT = 4420


class Subsystem:
    """A subsystem that any host may use, at one or more portals.

    :param addresses: of its portals
    """

    def __init__(self, nqn: str, addresses: tuple[str, ...]) -> None:
        self.nqn = nqn
        self._addresses = addresses
        self._directory = ROOT / 'subsystems' / nqn
        self._directory.mkdir()
        (self._directory / 'attr_allow_any_host').write_text('1')
        for address in addresses:
            self.listen(address)

    def listen(self, address: str) -> None:
        (_port(address) / 'subsystems' / self.nqn).symlink_to(self._directory)

    def refuse(self, address: str) -> None:
        """Break its connections at a portal, and take no new ones."""
        (_port(address) / 'subsystems' / self.nqn).unlink(missing_ok=True)

    def next_nsid(self) -> int:
        taken = os.listdir(self._directory / 'namespaces')
        return 1 + max(map(int, taken), default=0)

    def map(
        self, nsid: int, file: pathlib.Path, identifier: uuid.UUID
    ) -> None:
        """Have a namespace lead to a file."""
        namespace = self._directory / 'namespaces' / str(nsid)
        namespace.mkdir()
        (namespace / 'device_path').write_text(str(file))
        (namespace / 'device_uuid').write_text(str(identifier))
        # the file may be in memory, which takes no direct I/O
        (namespace / 'buffered_io').write_text('1')
        (namespace / 'enable').write_text('1')

    def revalidate(self, nsid: int) -> None:
        """See the new size of its file."""
        namespace = self._directory / 'namespaces' / str(nsid)
        (namespace / 'revalidate_size').write_text('1')

    def unmap(self, nsid: int) -> None:
        namespace = self._directory / 'namespaces' / str(nsid)
        if namespace.exists():
            (namespace / 'enable').write_text('0')
            namespace.rmdir()

    def delete(self) -> None:
        for address in self._addresses:
            self.refuse(address)
        for nsid in os.listdir(self._directory / 'namespaces'):
            self.unmap(int(nsid))
        self._directory.rmdir()


def stop(address: str) -> list[str]:
    """Break all connections at a portal, which no longer listens then.

    :returns: for :func:`start`
    """
    links = list((_port(address) / 'subsystems').iterdir())
    for link in links:
        link.unlink()
    return [link.name for link in links]


def start(address: str, stopped: list[str]) -> None:
    for nqn in stopped:
        link = _port(address) / 'subsystems' / nqn
        link.symlink_to(ROOT / 'subsystems' / nqn)


def set_access(address: str, state: str) -> None:
    """Change what a portal says of all namespaces there (ANA).

    :param state: ``optimized``, ``inaccessible`` and others
    """
    group = _port(address) / 'ana_groups' / '1'
    (group / 'ana_state').write_text(state)


def portal(address: str) -> str:
    return f'{address}:{PORT}'


def _port(address: str) -> pathlib.Path:
    """The port at an address, made when it is first needed."""
    directory = ROOT / 'ports' / address.rpartition('.')[2]
    if not directory.exists():
        directory.mkdir()
        (directory / 'addr_adrfam').write_text('ipv4')
        (directory / 'addr_trtype').write_text('tcp')
        (directory / 'addr_traddr').write_text(address)
        (directory / 'addr_trsvcid').write_text(str(PORT))
    return directory
