# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSCSI login and logout, as iscsiadm and iscsid do them together."""

from collections.abc import Callable
from collections.abc import Mapping
import concurrent.futures
import errno
import threading

from tests.simulator import portals
from tests.simulator import scsi
from tests.simulator import sessions
from tests.simulator import storage
from tests.simulator import verbs

#: From the session's first sight in sysfs to the end of its login.
LOGIN_SECONDS = 0.002


class Iscsid:
    """The initiator; its methods are the verbs of ``iscsi``."""

    def __init__(
        self,
        lock: threading.RLock,
        targets: storage.Storage,
        listeners: portals.Portals,
        known: sessions.Sessions,
        bus: scsi.Bus,
        refresh: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._storage = targets
        self._portals = listeners
        self._sessions = known
        self._bus = bus
        self._refresh = refresh
        self._busy: set[tuple[str, str]] = set()
        self._boots = 0

    def clear(self) -> None:
        """Forget all, as a reboot does: unfinished logins end nowhere."""
        self._busy = set()
        self._boots += 1

    def login(
        self,
        target_name: str,
        address: str,
        port: int,
        record: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]:
        """Make a session.

        When ``timeout`` ends iscsiadm, iscsid goes on all the same.
        """
        portal = portals.key(address, port)
        with self._lock:
            if (target_name, portal) in self._busy or self._sessions.by_portal(
                target_name, portal
            ):
                return verbs.SESSION_EXISTS, 'iscsiadm: session exists'
            self._busy.add((target_name, portal))
            boots = self._boots
        done: concurrent.futures.Future[int] = concurrent.futures.Future()

        def end() -> None:
            with self._lock:
                if boots == self._boots:
                    self._busy.discard((target_name, portal))

        def body() -> None:
            try:
                code = self._attempt(target_name, portal, record, boots)
            except Exception as error:
                end()
                done.set_exception(error)
            else:
                end()
                done.set_result(code)

        threading.Thread(target=body, name='login', daemon=True).start()
        try:
            code = done.result(timeout)
        except concurrent.futures.TimeoutError:
            raise _not_ended(timeout) from None
        if code == verbs.OK:
            return code, f'Login to [{target_name}] successful.'
        return code, f'iscsiadm: initiator reported error ({code})'

    def logout(self, session_id: int, timeout: float) -> tuple[int, str]:
        with self._lock:
            session = self._sessions.by_number(session_id)
            if session is None:
                return verbs.NOT_FOUND, 'iscsiadm: No session found.'
            self.drop(session)
        return verbs.OK, f'Logout of [sid: {session_id}] successful.'

    def interface(self, name: str, timeout: float) -> tuple[int, str]:
        """Nobody has made an iface on this host."""
        return verbs.NOT_FOUND, f'iscsiadm: Could not read iface {name}'

    def discover(
        self,
        address: str,
        port: int,
        settings: dict[str, str],
        timeout: float,
    ) -> tuple[int, str]:
        """Ask a portal for its targets, and for all portals of each."""
        portal = portals.key(address, port)
        if not self._portals.wait_listening(
            portal, min(timeout, _patience(settings))
        ):
            if _patience(settings) > timeout:
                raise _not_ended(timeout)
            return (
                verbs.NO_CONNECTION,
                'iscsiadm: encountered connection failure',
            )
        if not _admits(
            self._storage.discovery_chap, settings, 'discovery.sendtargets'
        ):
            return verbs.AUTH_FAILED, 'iscsiadm: authorization failure'
        lines = [
            f'{listed},{sessions.GROUP} {target.name}'
            for target in self._storage.targets_at(portal)
            for listed in target.portals
        ]
        if not lines:
            return verbs.NOT_FOUND, 'iscsiadm: No portals found'
        return verbs.OK, '\n'.join(lines)

    def set_connected(self, portal: str, connected: bool) -> None:
        """Break the connections of a portal, or have them made again."""
        with self._lock:
            for session in self._sessions.through(portal):
                self._sessions.set_logged_in(session, connected)
                self._bus.set_state(
                    session, 'running' if connected else 'transport-offline'
                )
            self._refresh()

    def drop(self, session: sessions.Session) -> None:
        """Take a session away with all that is on it."""
        with self._lock:
            self._bus.remove_all(session)
            self._sessions.remove(session)

    def _attempt(
        self,
        target_name: str,
        portal: str,
        record: dict[str, str],
        boots: int,
    ) -> int:
        retries = int(record.get('node.session.initial_login_retry_max', 8))
        patience = float(record.get('node.conn[0].timeo.login_timeout', 15))
        if not self._portals.wait_listening(
            portal, max(1, retries) * patience
        ):
            return verbs.LOGIN_TIMED_OUT
        with self._lock:
            if boots != self._boots:
                return verbs.LOGIN_TIMED_OUT
            session = self._sessions.create(target_name, portal)
        never = threading.Event()
        never.wait(LOGIN_SECONDS / 2)
        with self._lock:
            if self._sessions.by_number(session.number) is not session:
                return verbs.LOGIN_TIMED_OUT  # gone meanwhile
            self._sessions.set_parameters(session)
        never.wait(LOGIN_SECONDS / 2)
        with self._lock:
            if self._sessions.by_number(session.number) is not session:
                return verbs.LOGIN_TIMED_OUT  # gone meanwhile
            code = self._answer(target_name, portal, record)
            if code != verbs.OK:
                self._sessions.remove(session)
                return code
            self._sessions.set_logged_in(session)
            if record.get('node.session.scan', 'auto') != 'manual':
                for lun in self._storage.luns(target_name):
                    self._bus.probe(session, lun)
        return verbs.OK

    def _answer(
        self, target_name: str, portal: str, record: dict[str, str]
    ) -> int:
        """The target's answer to a login request."""
        target = self._storage.target(target_name)
        if target is None or portal not in target.portals:
            return verbs.LOGIN_FAILED
        if not _admits(target.chap, record, 'node.session'):
            return verbs.AUTH_FAILED
        return verbs.OK


def _admits(
    chap: tuple[str, str] | None, settings: Mapping[str, str], prefix: str
) -> bool:
    """Whether settings hold the credentials that are wanted, if any."""
    names = ('authmethod', 'username', 'password')
    given = [settings.get(f'{prefix}.auth.{name}') for name in names]
    return chap is None or given == ['CHAP', *chap]


def _patience(settings: Mapping[str, str]) -> float:
    """Seconds until iscsiadm gives a discovery up."""
    prefix = 'discovery.sendtargets'
    attempts = int(settings.get(f'{prefix}.reopen_max', 5)) + 1
    return attempts * float(settings.get(f'{prefix}.timeo.login_timeout', 15))


def _not_ended(timeout: float) -> OSError:
    return TimeoutError(
        errno.ETIMEDOUT, f'iscsiadm has not ended after {timeout:.0f} s'
    )
