# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The settings that a session is made with, in open-iscsi's names."""

from typing import Any

from attachworker import objects
from attachworker.connectors import base

#: The iface of whoever has not made one: TCP, the host's own name.
DEFAULT = 'default'

_AUTH = 'node.session.auth.'


def interface(info: objects.ISCSIConnectionInfo) -> str:
    """The name of the iface to go through."""
    return str(info.transport_iface or DEFAULT)


def transport(info: objects.ISCSIConnectionInfo) -> str:
    """What carries iSCSI: ``tcp`` or ``iser``.

    Of an iface that the operator has made, its own record says more.
    """
    return 'iser' if interface(info) == 'iser' else 'tcp'


def build(
    info: objects.ISCSIConnectionInfo,
    target: base.Target,
    login_timeout: int,
    settings: Any,
    several: bool,
) -> dict[str, str]:
    """The node record for one login.

    What it does not say is as the operator has it in iscsid.conf.

    :param login_timeout: seconds
    :param settings: the options of the connector
    :param several: whether other paths stand in for this one
    """
    address, _, port = target.portal.rpartition(':')
    record = {
        'node.name': target.name,
        'node.tpgt': '-1',
        'node.startup': 'manual',
        'iface.iscsi_ifacename': interface(info),
        'iface.transport_name': transport(info),
        'node.conn[0].address': address.strip('[]'),
        'node.conn[0].port': port,
        # Only the wanted LUN is to appear.
        'node.session.scan': 'manual',
        'node.session.nr_sessions': '1',
        # iscsid goes on trying for this many login time-outs.
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': str(login_timeout),
    }
    for key, value in (
        ('HeaderDigest', settings.header_digest),
        ('DataDigest', settings.data_digest),
    ):
        if value is not None:
            record[f'node.conn[0].iscsi.{key}'] = value
    if several:
        record['node.session.timeo.replacement_timeout'] = str(
            settings.replacement_timeout
        )
    if info.auth_method and settings.chap_algorithms:
        record[f'{_AUTH}chap_algs'] = ','.join(settings.chap_algorithms)
    if info.auth_method:
        record[f'{_AUTH}authmethod'] = info.auth_method
        for key in ('username', 'password', 'username_in', 'password_in'):
            value = getattr(info, f'auth_{key}')
            if value:
                record[f'{_AUTH}{key}'] = value
    return record
