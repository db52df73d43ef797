# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What this host lacks to attach volumes, and the command that mends it."""

from collections.abc import Iterator
import dataclasses
import os
import pathlib

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import client
from attachworker import exception
from attachworker.cmd import settings
from attachworker.connectors import Connectors
from attachworker.host import Host

OK = 'ok'
WARNING = 'warning'
FAILURE = 'failure'

#: Seconds for the broker, and a worker that runs, to answer.
_BUS_TIMEOUT = 3.0

#: Where a daemon listens, as /proc/net/unix has it.
_ISCSID = '@ISCSIADM_ABSTRACT_NAMESPACE'
_MULTIPATHD = '@/org/kernel/linux/storage/multipathd'


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

    :param conf: with the options of the bus, too
    """
    return [
        *_privilege(),
        *_protocols(conf, host),
        *_daemons(host),
        *_settings(host),
        _encryption(host),
        _state_path(conf),
        _bus(conf),
    ]


def _privilege() -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding(
            'privilege',
            WARNING,
            'what only root may read is taken to be missing; sudo '
            'attachworker-status check',
        )


def _protocols(conf: cfg.ConfigOpts, host: Host) -> Iterator[Finding]:
    reasons = Connectors(host, conf).availability()
    for name, reason in sorted(reasons.items()):
        state = OK if reason is None else WARNING
        yield Finding(f'protocol {name}', state, reason or '')
    if None not in reasons.values():
        yield Finding(
            'protocols', FAILURE, 'none can be used; mend one of the above'
        )


def _daemons(host: Host) -> Iterator[Finding]:
    for name, socket, lost in (
        ('iscsid', _ISCSID, 'no iSCSI volume can be attached'),
        ('multipathd', _MULTIPATHD, 'an attach with multipath gets no map'),
    ):
        unit = 'iscsid.socket' if name == 'iscsid' else 'multipathd'
        if _is_replaced(host, name):
            yield Finding(
                name,
                WARNING,
                'its program was replaced since it was started, and may not '
                f'understand the tools any more; systemctl restart {name}',
            )
        elif socket in _sockets(host):
            yield Finding(name, OK)
        else:
            yield Finding(
                name,
                WARNING,
                f'it does not listen, and {lost}; '
                f'systemctl enable --now {unit}',
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


def _sockets(host: Host) -> set[str]:
    try:
        text = (host.root / 'proc/net/unix').read_text(encoding='utf-8')
    except OSError:
        return set()
    return {line.rpartition(' ')[2] for line in text.splitlines()}


def _settings(host: Host) -> Iterator[Finding]:
    for name, tool, look in (
        ('initiator name', 'iscsiadm', settings.of_initiator),
        ('multipath.conf', 'multipathd', settings.of_multipath),
        ('LVM', 'lvm', settings.of_lvm),
    ):
        if host.tool(tool) is None:
            continue
        wrong = list(look(host.root))
        for detail in wrong:
            yield Finding(name, WARNING, detail)
        if not wrong:
            yield Finding(name, OK)


def _bus(conf: cfg.ConfigOpts) -> Finding:
    try:
        with client.AttachWorkerClient(
            None, conf.host, conf=conf, timeout=_BUS_TIMEOUT
        ) as ours:
            answer = ours.ping()
    except exception.HostNotFound:
        return Finding('bus', OK, 'no worker has started yet')
    except messaging.MessagingTimeout:
        return Finding(
            'bus',
            WARNING,
            'the worker of this host does not answer; systemctl status '
            'attachworker',
        )
    except (
        exception.AttachWorkerError,
        messaging.MessagingException,
    ) as error:
        return Finding(
            'bus', WARNING, f'{error}; see transport_url in the configuration'
        )
    return Finding('bus', OK, f'worker {answer["version"]}')


def _encryption(host: Host) -> Finding:
    if host.tool('cryptsetup') is not None:
        return Finding('LUKS', OK)
    return Finding(
        'LUKS',
        WARNING,
        'cryptsetup is not installed, and no encrypted volume can be '
        'attached; apt-get install cryptsetup-bin',
    )


def _state_path(conf: cfg.ConfigOpts) -> Finding:
    path = pathlib.Path(conf.state_path)
    if path.is_dir():
        return Finding('state_path', OK)
    return Finding(
        'state_path',
        WARNING,
        f'there is no directory {path}; install -d -m 0700 '
        f'-o {conf.user or "root"} {path}',
    )
