# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSCSI sessions as the kernel shows them, each with a SCSI host."""

import dataclasses
import itertools
from typing import Protocol

from tests.simulator import portals
from tests.simulator import tree as trees
from tests.simulator import uevents

#: Not the first session's number: host and session must not be confused.
_FIRST_HOST = 2
TARGET_ID = 0
#: The tag of each target's only portal group.
GROUP = 1
#: A text that iscsid has not told the kernel yet.
_UNSET = '(null)'


class Link(Protocol):
    """What SCSI devices come through: a session, or a remote port.

    Its directory is below sys.
    """

    target_name: str
    portal: str
    logged_in: bool

    @property
    def host(self) -> int: ...

    @property
    def target_id(self) -> int: ...

    @property
    def directory(self) -> str: ...


@dataclasses.dataclass
class Session:
    """A session; its directory is below sys."""

    number: int
    host: int
    target_name: str
    portal: str
    logged_in: bool = False
    target_id: int = TARGET_ID

    @property
    def host_directory(self) -> str:
        return f'devices/platform/host{self.host}'

    @property
    def directory(self) -> str:
        return f'{self.host_directory}/session{self.number}'

    def attributes(self, kind: str) -> str:
        """Directory of an object that the session consists of."""
        name, parent = {
            'scsi_host': (f'host{self.host}', self.host_directory),
            'iscsi_host': (f'host{self.host}', self.host_directory),
            'iscsi_session': (f'session{self.number}', self.directory),
            'iscsi_connection': (
                f'connection{self.number}:0',
                f'{self.directory}/connection{self.number}:0',
            ),
        }[kind]
        return f'{parent}/{kind}/{name}'


#: In the order in which they come; they go in the opposite one.
_KINDS = ('scsi_host', 'iscsi_host', 'iscsi_session', 'iscsi_connection')


class Sessions:
    """The kernel's list of sessions; callers hold the machine's lock."""

    def __init__(
        self,
        tree: trees.Tree,
        events: uevents.Uevents,
        initiator_name: str,
    ) -> None:
        self._tree = tree
        self._events = events
        self._initiator_name = initiator_name
        self.clear()

    def clear(self) -> None:
        """Forget all, as a reboot does."""
        self._sessions: dict[int, Session] = {}
        self._numbers = itertools.count(1)
        self._hosts = itertools.count(_FIRST_HOST)

    def through(self, portal: str) -> list[Session]:
        return [s for s in self._sessions.values() if s.portal == portal]

    def by_number(self, number: int) -> Session | None:
        return self._sessions.get(number)

    def by_host(self, host: int) -> Session | None:
        for session in self._sessions.values():
            if session.host == host:
                return session
        return None

    def by_portal(self, target_name: str, portal: str) -> Session | None:
        for session in self._sessions.values():
            if (session.target_name, session.portal) == (target_name, portal):
                return session
        return None

    def next_host(self) -> int:
        """The number of the next SCSI host, of whatever kind."""
        return next(self._hosts)

    def create(self, target_name: str, portal: str) -> Session:
        """A session that is not logged in yet and has no name either."""
        session = Session(
            next(self._numbers), self.next_host(), target_name, portal
        )
        self._sessions[session.number] = session
        self._tree.place(
            f'sys/{session.host_directory}', self._contents(session)
        )
        self._emit('add', session, session.host_directory, 'scsi')
        for kind in _KINDS:
            path = session.attributes(kind)
            name = path.rpartition('/')[2]
            self._tree.symlink(f'sys/class/{kind}/{name}', f'sys/{path}')
            self._emit('add', session, path, kind)
        return session

    def set_parameters(self, session: Session) -> None:
        """What iscsid tells the kernel once the session is there."""
        address, port = portals.split(session.portal)
        path = session.attributes('iscsi_connection')
        self._tree.write(f'sys/{path}/persistent_address', f'{address}\n')
        self._tree.write(f'sys/{path}/persistent_port', f'{port}\n')
        path = session.attributes('iscsi_session')
        self._tree.write(f'sys/{path}/targetname', f'{session.target_name}\n')

    def set_logged_in(self, session: Session, logged_in: bool = True) -> None:
        path = session.attributes('iscsi_session')
        state = 'LOGGED_IN' if logged_in else 'FAILED'
        self._tree.write(f'sys/{path}/state', f'{state}\n')
        session.logged_in = logged_in

    def remove(self, session: Session) -> None:
        """Take a session and its host away; its devices are gone already."""
        del self._sessions[session.number]
        for kind in reversed(_KINDS):
            path = session.attributes(kind)
            name = path.rpartition('/')[2]
            self._tree.remove(f'sys/class/{kind}/{name}')
            self._emit('remove', session, path, kind)
        self._emit('remove', session, session.host_directory, 'scsi')
        self._tree.remove(f'sys/{session.host_directory}')

    def _emit(
        self, action: str, session: Session, path: str, subsystem: str
    ) -> None:
        more = {'DEVTYPE': 'scsi_host'} if subsystem == 'scsi' else {}
        self._events.emit(action, subsystem, f'/{path}', **more)

    def _contents(self, session: Session) -> trees.Contents:
        address, port = portals.split(session.portal)
        number = session.number
        files: dict[str, dict[str, str]] = {
            'scsi_host': {'proc_name': 'iscsi_tcp'},
            'iscsi_host': {'initiatorname': self._initiator_name},
            'iscsi_session': {
                'targetname': _UNSET,
                'initiatorname': self._initiator_name,
                'tpgt': str(GROUP),
                'target_id': str(TARGET_ID),
                'state': 'FREE',
                'device': f'../../../session{number}',
            },
            'iscsi_connection': {
                'persistent_address': _UNSET,
                'persistent_port': '0',
                'address': address,
                'port': str(port),
                'device': f'../../../connection{number}:0',
            },
        }
        base = session.host_directory + '/'
        return {
            f'{session.attributes(kind).removeprefix(base)}/{name}': (
                trees.Link(text) if name == 'device' else f'{text}\n'
            )
            for kind, attributes in files.items()
            for name, text in attributes.items()
        }
