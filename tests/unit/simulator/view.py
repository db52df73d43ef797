# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a kernel shows in sysfs, read in the plainest way."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import pathlib
import select
import time
from typing import Protocol

from tests.contract import bed as beds
from tests.simulator import verbs as verb_names

#: Far longer than anything here takes; only failures wait that long.
PATIENCE = 10.0


class Source(Protocol):
    def fileno(self) -> int: ...

    def receive(self) -> dict[str, str] | None: ...


@dataclasses.dataclass(frozen=True)
class Session:
    number: int
    host: int
    target_name: str
    portal: str
    state: str
    directory: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Device:
    hctl: str
    wwid: str
    disk: str | None
    directory: pathlib.Path


def record(
    volume: beds.Volume, settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The node record of a login that gives up soon and scans nothing."""
    made = {
        'node.session.scan': 'manual',
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': '1',
    }
    if volume.chap is not None:
        made['node.session.auth.authmethod'] = 'CHAP'
        made['node.session.auth.username'] = volume.chap[0]
        made['node.session.auth.password'] = volume.chap[1]
    return made | dict(settings or {})


def until(look: Callable[[], object]) -> None:
    """Look again and again until there is something true."""
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.002)


def next_event(source: Source, **wanted: str) -> dict[str, str]:
    """The next uevent with these keys; others are skipped."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        event = source.receive()
        if event is None:
            select.select([source.fileno()], [], [], PATIENCE)
        elif wanted.items() <= event.items():
            return event
    raise AssertionError(f'no such uevent: {wanted}')


class Kernel:
    """A host as seen below its root, and the verbs that change it."""

    def __init__(self, root: pathlib.Path, verbs: verb_names.Verbs) -> None:
        self.root = root
        self._verbs = verbs

    def login(
        self,
        volume: beds.Volume,
        portal: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        address, _, port = volume.portals[portal].rpartition(':')
        return self._verbs.iscsi.login(
            volume.target,
            address,
            int(port),
            record(volume, settings),
            30.0,
        )

    def attach(self, volume: beds.Volume, portal: int = 0) -> Device:
        """Log in if need be, scan, and wait for the block device."""
        assert self.login(volume, portal)[0] in (
            verb_names.OK,
            verb_names.SESSION_EXISTS,
        )
        session = self.session(volume, portal)
        self._verbs.scsi.scan(session.host, 0, 0, volume.lun)
        until(lambda: self.device(session, volume.lun).disk)
        device = self.device(session, volume.lun)
        until((self.root / f'dev/{device.disk}').exists)
        return device

    def sessions(self, volume: beds.Volume) -> list[Session]:
        """All sessions to a volume's target."""
        found = []
        for path in (self.root / 'sys/class/iscsi_session').iterdir():
            number = path.name.removeprefix('session')
            connection = (
                self.root / f'sys/class/iscsi_connection/connection{number}:0'
            )
            address = text(connection / 'persistent_address')
            port = text(connection / 'persistent_port')
            directory = (path / 'device').resolve()
            session = Session(
                number=int(number),
                host=int(directory.parent.name.removeprefix('host')),
                target_name=text(path / 'targetname'),
                portal=f'{address}:{port}',
                state=text(path / 'state'),
                directory=directory,
            )
            if session.target_name == volume.target:
                found.append(session)
        return sorted(found, key=lambda session: session.number)

    def session(self, volume: beds.Volume, portal: int = 0) -> Session:
        """The only session through a portal."""
        (found,) = [
            session
            for session in self.sessions(volume)
            if session.portal == volume.portals[portal]
        ]
        return found

    def devices(self, session: Session) -> list[Device]:
        found = []
        for path in (self.root / 'sys/class/scsi_device').iterdir():
            directory = (path / 'device').resolve()
            if session.directory not in directory.parents:
                continue
            block = directory / 'block'
            disks = [p.name for p in block.iterdir()] if block.exists() else []
            found.append(
                Device(
                    hctl=path.name,
                    wwid=text(directory / 'wwid'),
                    disk=disks[0] if disks else None,
                    directory=directory,
                )
            )
        return found

    def device(self, session: Session, lun: int) -> Device:
        """The device at a LUN, which must be there."""
        hctl = f'{session.host}:0:0:{lun}'
        (found,) = [d for d in self.devices(session) if d.hctl == hctl]
        return found


def text(path: pathlib.Path) -> str:
    """An attribute; empty if it is not there."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ''  # not there yet, or no longer
