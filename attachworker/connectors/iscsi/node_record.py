# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The settings that a session is made with, in open-iscsi's names."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from attachworker import objects
from attachworker.connectors import base

#: The iface of whoever has not made one: TCP, the host's own name.
DEFAULT = 'default'
#: Ifaces that have no record of their own, with what carries iSCSI there.
BUILT_IN = {DEFAULT: 'tcp', 'iser': 'iser'}


def interface(info: objects.ISCSIConnectionInfo) -> str:
    """The name of the iface to go through."""
    return str(info.transport_iface or DEFAULT)


def build(
    info: objects.ISCSIConnectionInfo,
    iface: Mapping[str, str],
    target: base.Target,
    login_timeout: int,
    settings: Any,
    several: bool,
) -> dict[str, str]:
    """The node record for one login.

    What it does not say is as the operator has it in iscsid.conf.

    :param iface: the settings of the iface to go through
    :param login_timeout: seconds
    :param settings: the options of the connector
    :param several: whether other paths stand in for this one
    """
    address, _, port = target.portal.rpartition(':')
    record = {
        'node.name': target.name,
        'node.tpgt': '-1',
        'node.startup': 'manual',
        'node.conn[0].address': address.strip('[]'),
        'node.conn[0].port': port,
        # Only the wanted LUN is to appear.
        'node.session.scan': 'manual',
        'node.session.nr_sessions': '1',
        # iscsid goes on trying for this many login time-outs.
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': str(login_timeout),
    }
    optional = {
        'node.conn[0].iscsi.HeaderDigest': settings.header_digest,
        'node.conn[0].iscsi.DataDigest': settings.data_digest,
        'node.session.timeo.replacement_timeout': several
        and str(settings.replacement_timeout),
    }
    record |= {name: value for name, value in optional.items() if value}
    return {**record, **iface} | authentication(
        info, 'auth_', 'node.session.auth.', settings.chap_algorithms
    )


def authentication(
    info: objects.ISCSIConnectionInfo,
    field: str,
    name: str,
    algorithms: Sequence[str],
) -> dict[str, str]:
    """The settings of CHAP; none where it is not asked for.

    :param field: what the fields of ``info`` begin with
    :param name: what the names of the settings begin with
    :param algorithms: the best first; none: as iscsid.conf says
    """
    method = getattr(info, f'{field}method')
    if not method:
        return {}
    values = {'chap_algs': ','.join(algorithms), 'authmethod': method}
    for key in ('username', 'password', 'username_in', 'password_in'):
        values[key] = getattr(info, f'{field}{key}')
    return {f'{name}{key}': value for key, value in values.items() if value}
