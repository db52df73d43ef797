# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What this host lacks to attach volumes, and the command that mends it."""

from attachworker import threading_backend  # noqa: F401

# isort: split
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import pwd

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import client
from attachworker import exception
from attachworker.bus import transport as bus
from attachworker.cmd import options
from attachworker.cmd import settings
from attachworker.connectors import Connectors
from attachworker.host import Host
from attachworker.host import directories

OK = 'ok'
WARNING = 'warning'
FAILURE = 'failure'

#: Seconds for the broker, and a worker that runs, to answer.
_BUS_TIMEOUT = 3.0

#: What a process of the worker is called.
_WORKER = 'attachworker'


@dataclasses.dataclass(frozen=True)
class _Daemon:
    """A program of the host that the worker talks to.

    :ivar unit: what starts it
    :ivar socket: where it listens, as /proc/net/unix has it
    :ivar lost: what cannot be done without it
    """

    name: str
    unit: str
    socket: str
    lost: str


#: Those that a protocol cannot do without.
_DAEMONS = {
    'iscsi': _Daemon(
        'iscsid',
        'iscsid.socket',
        '@ISCSIADM_ABSTRACT_NAMESPACE',
        'no iSCSI volume can be attached',
    )
}
_MULTIPATHD = _Daemon(
    'multipathd',
    'multipathd',
    '@/org/kernel/linux/storage/multipathd',
    'an attach with multipath gets no map',
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """How one thing stands.

    :ivar state: OK, WARNING (something cannot be done) or FAILURE (nothing
        can)
    :ivar detail: what is wrong, and what to do
    """

    check: str
    state: str
    detail: str = ''


def findings(conf: cfg.ConfigOpts, host: Host) -> list[Finding]:
    """All that was looked at; nothing is changed.

    :param conf: as it was parsed; its values may make no sense
    """
    said = [
        Finding('option', FAILURE if one.fatal else WARNING, str(one))
        for one in options.faults(conf)
    ]
    if any(one.state == FAILURE for one in said):
        # What depends on them would be said wrongly.
        return said
    return [
        *(said or [Finding('options', OK)]),
        *_privilege(),
        _finding('running worker', _stays_root(host)),
        *_protocols(conf, host),
        *_daemons(host),
        *_settings(host),
        _finding(
            'LUKS',
            None
            if host.tool('cryptsetup')
            else 'cryptsetup is not installed, and no encrypted volume can be '
            'attached; apt-get install cryptsetup-bin',
        ),
        *_directories(conf),
        _bus(conf),
    ]


def _finding(check: str, wrong: str | None) -> Finding:
    """A warning, or that all is well where nothing is wrong."""
    return Finding(check, WARNING if wrong else OK, wrong or '')


def _privilege() -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield _finding(
            'privilege',
            'what only root may read is taken to be missing; sudo '
            'attachworker-status check',
        )


def _stays_root(host: Host) -> str | None:
    """Whether the worker that runs is root; its helper, a child, has to be."""
    workers = {
        process.name: dict(
            line.split(':', 1) for line in status.splitlines() if ':' in line
        )
        for process, status in _statuses(host)
        if status.startswith(f'Name:\t{_WORKER}\n')
    }
    for process, status in workers.items():
        is_helper = status['PPid'].strip() in workers
        if not is_helper and status['Uid'].split()[1] == '0':
            return (
                f'the worker (process {process}) stays root: whoever takes it '
                'over has this host; set option user to a user of its own, as '
                'attachworker.service does, and start it again'
            )
    return None


def _statuses(host: Host) -> Iterator[tuple[pathlib.Path, str]]:
    for process in (host.root / 'proc').glob('[0-9]*'):
        # it may have ended meanwhile
        with contextlib.suppress(OSError):
            status = (process / 'status').read_text(errors='replace')
            yield process, status


def _protocols(conf: cfg.ConfigOpts, host: Host) -> Iterator[Finding]:
    reasons = Connectors(host, conf).availability()
    for name, reason in sorted(reasons.items()):
        # Its tool is there, but would find nobody to talk to.
        if reason is None and name in _DAEMONS:
            reasons[name] = _trouble(host, _DAEMONS[name])
        yield _finding(f'protocol {name}', reasons[name])
    if None not in reasons.values():
        yield Finding(
            'protocols', FAILURE, 'none can be used; mend one of the above'
        )


def _daemons(host: Host) -> Iterator[Finding]:
    for daemon in (*_DAEMONS.values(), _MULTIPATHD):
        yield _finding(daemon.name, _trouble(host, daemon))


def _trouble(host: Host, daemon: _Daemon) -> str | None:
    """Why a daemon cannot be used, and what to do; None: it can."""
    if _is_replaced(host, daemon.name):
        return (
            'its program was replaced since it was started, and may not '
            'understand the tools any more; systemctl restart '
            f'{daemon.name}'
        )
    try:
        sockets = (host.root / 'proc/net/unix').read_text(encoding='utf-8')
    except OSError:
        sockets = ''
    listening = {line.rpartition(' ')[2] for line in sockets.splitlines()}
    if daemon.socket in listening:
        return None
    return (
        f'{daemon.name} does not listen, and {daemon.lost}; '
        f'systemctl enable --now {daemon.unit}'
    )


def _is_replaced(host: Host, name: str) -> bool:
    """Whether a daemon runs that is not the one that is installed."""
    for process in (host.root / 'proc').glob('[0-9]*'):
        try:
            if (process / 'comm').read_text(encoding='utf-8').strip() != name:
                continue
            if os.readlink(process / 'exe').endswith(' (deleted)'):
                return True
        except OSError:
            continue
    return False


def _settings(host: Host) -> Iterator[Finding]:
    for name, tool, look in (
        ('initiator name', 'iscsiadm', settings.of_initiator),
        ('multipath.conf', 'multipathd', settings.of_multipath),
        ('LVM', 'lvm', settings.of_lvm),
    ):
        if host.tool(tool) is not None:
            for wrong in list(look(host.root)) or ['']:
                yield _finding(name, wrong)


def _directories(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    state, runtime = conf.state_path, conf.runtime_path
    wrong: dict[str, Finding] = {}
    try:
        if conf.user:
            uid = pwd.getpwnam(conf.user).pw_uid
        else:
            # The unit gives the option by its environment, not in the file.
            uid = os.stat(state if os.path.isdir(state) else '/').st_uid
    except KeyError:
        yield _no_start(
            'user',
            f'there is no user {conf.user}; make one, or set option user',
        )
    else:
        for option, reason in directories.faults(state, runtime, uid):
            wrong.setdefault(option, _no_start(option, reason))
    if not os.path.isdir(state):
        wrong.setdefault(
            'state_path',
            _finding(
                'state_path',
                f'there is no directory {state}; install -d -m 0700 '
                f'-o {conf.user or "root"} {state}',
            ),
        )
    for option in ('state_path', 'runtime_path'):
        yield wrong.get(option, Finding(option, OK))


def _no_start(check: str, reason: str) -> Finding:
    """No worker starts, or nobody reaches it: nothing can be attached."""
    return Finding(check, FAILURE, reason)


def _bus(conf: cfg.ConfigOpts) -> Finding:
    broker = 'the broker'
    try:
        with client.AttachWorkerClient(
            None,
            conf.host,
            conf=conf,
            timeout=_BUS_TIMEOUT,
            key_file=conf.secrets.key_file,
            level=conf.upgrade_levels.attachworker,
        ) as ours:
            name, version = bus.broker(ours.transport)
            broker = f'{name} {version}'
            try:
                worker = f'worker {ours.ping()["version"]}'
            except exception.HostNotFound:
                worker = 'no worker has started yet'
            else:
                # It is there: nothing new is made.
                bus.declare_queue(ours.transport, conf.host)
    except messaging.MessagingTimeout:
        return _finding(
            'bus',
            f'{broker} is there, and the worker of this host does not answer; '
            'systemctl status attachworker',
        )
    except exception.ConfigurationError as error:
        return _no_start('bus', f'{broker}: {error}')
    except (
        exception.AttachWorkerError,
        messaging.MessagingException,
    ) as error:
        return _no_start(
            'bus', f'{broker}: {error}; see transport_url in the configuration'
        )
    if name != 'RabbitMQ' or not _is_tested(version):
        oldest, newest = (
            '.'.join(map(str, one))
            for one in (bus.OLDEST_RABBITMQ, bus.NEWEST_RABBITMQ)
        )
        return _finding(
            'bus',
            f'{broker} was not tested with attachworker; use RabbitMQ '
            f'{oldest} to {newest}',
        )
    return Finding('bus', OK, f'{broker}, {worker}')


def _is_tested(version: str) -> bool:
    numbers = version.split('.')[:2]
    return all(one.isdigit() for one in numbers) and (
        bus.OLDEST_RABBITMQ <= tuple(map(int, numbers)) <= bus.NEWEST_RABBITMQ
    )
