# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""iSCSI sessions from sysfs; login and logout through iscsid."""

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import dataclasses
import errno
import pathlib
import re
import socket
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors.iscsi import late_logins
from attachworker.connectors.iscsi import node_record
from attachworker.host import known
from attachworker.host import machine
from attachworker.host import network
from attachworker.host import sysfs
from attachworker.host import system

# Exit codes of iscsiadm (its manual page, section EXIT STATUS).
_OK = 0
_SESSION_EXISTS = 15
_NO_DAEMON = 20
_NOTHING_FOUND = 21
_FATAL = 19
_AUTH_FAILED = 24
_NOT_IN_TIME = 8
_UNREACHABLE = {4: 'connection failed', 11: 'no answer to a login'}
#: The target could not show its own secret; exit code 19 has other causes too.
_NOT_THE_TARGET = 'received incorrect CHAP response from target'
#: The state of a session that takes I/O.
LOGGED_IN = 'LOGGED_IN'
#: What the kernel says of a text that iscsid has not told it yet.
_UNSET = '(null)'
#: What an iface may be bound to, in the order in which iscsid looks.
_BINDINGS = ('iface.hwaddress', 'iface.net_ifacename')
#: A line of a discovery's output: 'address:port,tag name'.
_FOUND = re.compile(r'(\S+:[0-9]+),-?[0-9]+ (\S+)')
_SESSION = re.compile('session([0-9]{1,10})')
_HOST = re.compile('host([0-9]{1,10})')

#: iscsid has said no; after other errors it may still be at it.
REFUSALS = (
    exception.AuthFailed,
    exception.LoginFailed,
    exception.TargetUnreachable,
)


@dataclasses.dataclass(frozen=True)
class Session:
    """One iSCSI session that the kernel has.

    :ivar sid: its number, growing and never reused until the next boot
    :ivar host: the number of its SCSI host
    :ivar target_id: its target number on that host
    :ivar directory: its device directory in sysfs
    :ivar state: the kernel's word for it; this and what follows may change,
        and is empty where only the lasting part was asked for
    :ivar interface: the iface of open-iscsi that it goes through
    :ivar initiator_name: the name that this host has shown
    """

    sid: int
    host: int
    target_id: int
    target_name: str
    directory: pathlib.Path
    state: str = ''
    interface: str = ''
    initiator_name: str = ''


@dataclasses.dataclass(frozen=True)
class Interface:
    """An iface of open-iscsi: a way to storage, and a name of this host.

    :ivar settings: of its record, by open-iscsi's names
    :ivar device: the network device that it is bound to; None: to none, or
        nobody knows which one
    """

    name: str
    settings: Mapping[str, str]
    device: str | None = None

    @property
    def initiator_name(self) -> str | None:
        """The name that this host shows; None: its usual one."""
        return self.settings.get('iface.initiatorname')

    @property
    def goes_by_tcp(self) -> bool:
        """Whether a socket of this host can go where its sessions go.

        Those of RDMA, and of an adapter that does all by itself, do not.
        """
        bound = any(map(self.settings.get, _BINDINGS))
        tcp = self.settings['iface.transport_name'] == 'tcp'
        return tcp and (self.device is not None or not bound)

    def probe(self, portal: str, timeout: float) -> None:
        """Find out whether a portal answers, on the way of a session.

        Where nobody can tell without a login, it is not asked.

        :param portal: by address
        :param timeout: seconds
        :raises TargetUnreachable: it does not
        """
        if self.goes_by_tcp:
            network.probe(*network.split(portal), timeout, self.device)

    def first_answering(self, portals: list[str], timeout: float) -> str:
        """The first of several portals that answers, or may.

        :param timeout: seconds for each
        :raises TargetUnreachable: none does; it is about the last
        """
        *others, last = portals
        for portal in others:
            with contextlib.suppress(exception.TargetUnreachable):
                self.probe(portal, timeout)
                return portal
        self.probe(last, timeout)
        return last

    def cannot_reach(self, portal: str) -> bool:
        """Whether it takes a network device that nobody has named."""
        address, _ = network.split(portal)
        unbound = self.goes_by_tcp and self.device is None
        return unbound and network.needs_device(address)


class Initiator(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._lasting = known.Known(
            self._root / 'sys/class/iscsi_session', 'session', self._read
        )
        #: By portal and target, as the calls of a login are.
        self.late = late_logins.LateLogins()

    def name(self) -> str | None:
        """This host's iSCSI name; None if it has none."""
        text = system.read(self._root, 'initiator') or ''
        for line in text.splitlines():
            key, _, value = line.partition('=')
            if key.strip() == 'InitiatorName' and value.strip():
                return value.strip()
        return None

    def sessions(
        self, target_name: str, address: str, port: int
    ) -> list[Session]:
        """All sessions to one target through one portal, oldest first.

        The names of targets have no case (RFC 3722), their portals one
        spelling for each address.
        """
        wanted, portal = target_name.lower(), network.join(address, port)
        found = [
            session
            for session in self._lasting.all().values()
            if session.target_name.lower() == wanted
            and portal in self.portals(session)
        ]
        return [self._now(session) for session in _by_age(found)]

    def everything(self) -> list[tuple[Session, list[str]]]:
        """All sessions, oldest first, with their portals."""
        found = _by_age(self._lasting.all().values())
        return [(self._now(one), self.portals(one)) for one in found]

    def session_of(self, disk: str) -> tuple[Session, str] | None:
        """The session that a disk comes from, and the portal it was made for.

        None if it comes from none, or its session has just ended.
        """
        device = sysfs.resolved(self._block(disk) / 'device')
        if device is None:
            return None
        for parent in device.parents:
            if parent.name.startswith('session'):
                session = self._lasting.get(parent.name)
                portals = self.portals(session) if session else None
                return (session, portals[0]) if session and portals else None
        return None

    def last_sid(self) -> int:
        """The highest session number in use; 0 if there is no session."""
        names = sysfs.names(self._root / 'sys/class/iscsi_session')
        found = filter(None, map(_SESSION.fullmatch, names))
        return max((int(one[1]) for one in found), default=0)

    def interface(
        self, name: str, timeout: float, deadline: deadlines.Deadline
    ) -> Interface:
        """An iface, which has a record if it is not one of open-iscsi's own.

        :param timeout: seconds after which iscsiadm is killed
        :raises HostToolMissing: there is no such iface
        :raises HostToolFailed: iscsiadm does not tell
        """
        settings = {
            'iface.iscsi_ifacename': name,
            'iface.transport_name': node_record.BUILT_IN.get(name, 'tcp'),
        }
        if name in node_record.BUILT_IN:
            return Interface(name, settings)
        try:
            code, output = self._call(
                'iscsi.interface', deadline, name, timeout
            )
        except FileNotFoundError as error:
            raise _not_installed(error) from error
        except TimeoutError as error:
            raise exception.HostToolFailed.from_os_error(
                error, f'iscsiadm (iface {name})'
            ) from error
        if code != _OK:
            raise exception.HostToolMissing(
                tool='open-iscsi',
                reason=f'no iface {name} ({_last_line(output)}); make it '
                f'with "iscsiadm -m iface -I {name} -o new"',
            )
        settings |= settings_in(output)
        return Interface(name, settings, self._device_of(settings))

    def _device_of(self, settings: Mapping[str, str]) -> str | None:
        """The network device that iscsid binds the sockets of an iface to."""
        hardware, device = map(settings.get, _BINDINGS)
        if hardware is None:
            return device
        place = self._root / 'sys/class/net'
        found = [
            name
            for name in sysfs.names(place)
            if (sysfs.read(place / name / 'address') or '').lower()
            == hardware.lower()
        ]
        # Several, as a bond and its members have one: iscsid takes any.
        return found[0] if len(found) == 1 else None

    def login(
        self,
        target_name: str,
        address: str,
        port: int,
        record: dict[str, str],
        timeout: float,
        deadline: deadlines.Deadline,
    ) -> bool:
        """Make a session; False if there was one already.

        :param record: settings of the session, names as in iscsid.conf
        :param timeout: seconds after which iscsiadm is killed
        :raises AuthFailed, TargetUnreachable, LoginFailed: as iscsid said
        :raises HostToolMissing: the host lacks something
        """
        portal = network.join(address, port)
        about = f'{portal},{target_name.lower()}'

        def verb(*arguments: Any) -> Any:
            self.late.begin(about)
            try:
                return self._machine.privileged.iscsi.login(*arguments)
            except TimeoutError:
                # iscsiadm was killed; maybe its caller has left before
                self.late.expect(about)
                raise

        try:
            code, message = self._machine.verbs.call(
                verb,
                target_name,
                address,
                port,
                record,
                timeout,
                name='iscsi.login',
                about=about,
                deadline=deadline,
            )
        except FileNotFoundError as error:
            raise _not_installed(error) from error
        if code in (_OK, _SESSION_EXISTS):
            return bool(code == _OK)
        # iscsid does not tell a target that cannot show its secret from other
        # refusals that are final
        mutual = 'node.session.auth.password_in' in record
        _refuse(code, target_name, portal, record, code == _FATAL and mutual)
        if code == _NOTHING_FOUND:
            message = (
                'no record found; the directory where this iscsiadm keeps '
                'its records is missing: make /var/lib/iscsi or /etc/iscsi'
            )
        if code == _NOT_IN_TIME:
            message = 'no login in time; the target may not exist there'
        raise exception.LoginFailed(
            target=target_name,
            portal=portal,
            reason=f'iscsiadm exit code {code}: {_last_line(message)}',
        )

    def discover(
        self,
        address: str,
        port: int,
        settings: dict[str, str],
        timeout: float,
        deadline: deadlines.Deadline,
    ) -> list[tuple[str, str]]:
        """What a portal tells of its targets: portal and name of each.

        The portals are as iscsiadm spells them, without the group's tag.

        :param settings: of the discovery, names as in iscsid.conf, and the
            ``iface`` to go through
        :param timeout: seconds after which iscsiadm is killed
        :raises AuthFailed, TargetUnreachable, HostToolFailed: as it said
        """
        portal = network.join(address, port)
        try:
            code, message = self._call(
                'iscsi.discover',
                deadline,
                address,
                port,
                settings,
                timeout,
                about=portal,
            )
        except TimeoutError as error:
            raise exception.TargetUnreachable(
                portal=portal, reason='no answer to a discovery'
            ) from error
        if code in (_OK, _NOTHING_FOUND):
            return targets_in(message)
        stranger = _NOT_THE_TARGET in message
        _refuse(code, 'Discovery', portal, settings, stranger)
        raise exception.HostToolFailed(
            what=f'iscsiadm (discovery at {portal})',
            reason=f'exit code {code}: {_last_line(message)}',
        )

    def logout(
        self, session: Session, timeout: float, deadline: deadlines.Deadline
    ) -> None:
        """End a session; that it is gone already is fine.

        :raises HostToolFailed: iscsiadm could not end it
        """
        code, message = self._call(
            'iscsi.logout',
            deadline,
            session.sid,
            timeout,
            about=f'session{session.sid}',
        )
        if code != _OK and sysfs.exists(session.directory):
            _need_daemon(code)
            raise exception.HostToolFailed(
                what='iscsiadm (logout)',
                reason=f'exit code {code}: {_last_line(message)}',
            )

    def _read(self, name: str) -> Session | None:
        """What stays of a session; None until iscsid has told its target."""
        place = self._root / 'sys/class/iscsi_session' / name
        target = sysfs.read(place / 'targetname')
        directory = sysfs.resolved(place / 'device')
        if target in (None, '', _UNSET) or directory is None:
            return None
        host = _HOST.fullmatch(directory.parent.name)
        return Session(
            sid=int(name.removeprefix('session')),
            host=int(host[1]) if host else -1,
            target_id=sysfs.read_int(place / 'target_id') or 0,
            target_name=str(target),
            directory=directory,
        )

    def _now(self, session: Session) -> Session:
        """A session with what may change about it."""
        place = self._root / f'sys/class/iscsi_session/session{session.sid}'
        state, interface, name = (
            sysfs.read(place / attribute) or ''
            for attribute in ('state', 'ifacename', 'initiatorname')
        )
        return dataclasses.replace(
            session, state=state, interface=interface, initiator_name=name
        )

    def portals(self, session: Session) -> list[str]:
        """What the session was made for, then where it is connected now.

        They differ when the target redirected the login.
        """
        found = []
        connections = self._root / 'sys/class/iscsi_connection'
        for name in sysfs.names(session.directory):
            if not name.startswith(f'connection{session.sid}:'):
                continue
            for prefix in ('persistent_', ''):
                place = f'{connections / name}/{prefix}'
                address = sysfs.read(f'{place}address', errno.ENOTCONN)
                port = sysfs.read_int(f'{place}port', errno.ENOTCONN)
                if address and port is not None:
                    found.append(network.join(_compressed(address), port))
        return found


def _by_age(sessions: Iterable[Session]) -> list[Session]:
    """The oldest first."""
    return sorted(sessions, key=lambda session: session.sid)


def _not_installed(error: OSError) -> exception.HostToolMissing:
    return exception.HostToolMissing(
        tool='open-iscsi', reason=error.strerror or str(error)
    )


def _compressed(address: str) -> str:
    """One spelling for each IP address."""
    try:
        binary = socket.inet_pton(socket.AF_INET6, address.strip('[]'))
    except OSError:
        return address
    return socket.inet_ntop(socket.AF_INET6, binary)


def _refuse(
    code: int,
    target: str,
    portal: str,
    settings: Mapping[str, str],
    stranger: bool,
) -> None:
    """Raise what an exit code of iscsiadm says of a target or portal.

    :param settings: that iscsiadm was given
    :param stranger: whether the target could not show its own secret
    """
    if code == _AUTH_FAILED or stranger:
        raise exception.AuthFailed(
            _explained(target, portal, settings), target=target, portal=portal
        )
    if code in _UNREACHABLE:
        raise exception.TargetUnreachable(
            portal=portal, reason=_UNREACHABLE[code]
        )
    _need_daemon(code)


def _explained(target: str, portal: str, settings: Mapping[str, str]) -> str:
    """Why credentials were refused, as far as this host can tell."""
    text = exception.AuthFailed.msg_fmt % {'target': target, 'portal': portal}
    cut = sorted(
        key.rpartition('.')[2]
        for key, value in settings.items()
        if '.auth.' in key and value != value.strip()
    )
    if cut:
        text += (
            ' open-iscsi cuts off the blanks at the beginning and the end of '
            f'{" and ".join(cut)}: choose credentials without them.'
        )
    return text


def _need_daemon(code: int) -> None:
    """Raise what an exit code of iscsiadm says of iscsid, if it does.

    iscsiadm may not start it: it would do so in the worker's own namespace of
    mounts, and iscsid would end with the worker.
    """
    if code == _NO_DAEMON:
        raise exception.HostToolFailed(
            what='iscsiadm',
            reason='iscsid is not running; start it with "systemctl enable '
            '--now iscsid.socket" (or iscsid.service)',
        )


def settings_in(output: str) -> dict[str, str]:
    """What iscsiadm has printed of the record of an iface."""
    lines = (line.partition('=') for line in output.splitlines())
    return {
        key.strip(): value.strip()
        for key, _, value in lines
        if key.startswith('iface.') and value.strip() not in ('', '<empty>')
    }


def targets_in(output: str) -> list[tuple[str, str]]:
    """Read a list of targets, between whatever warnings there are."""
    found = map(_FOUND.fullmatch, map(str.strip, output.splitlines()))
    return [(match[1], match[2]) for match in found if match]


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else 'no message'
