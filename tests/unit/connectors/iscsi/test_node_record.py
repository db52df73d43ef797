# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings that a session is made with."""

import types
from typing import Any

from oslo_config import cfg
import pytest

from attachworker import objects
from attachworker.connectors import iscsi
from attachworker.connectors.iscsi import node_record
from attachworker.privileged import iscsi as privileged
from tests.unit.connectors.iscsi import interfaces
from tests.unit.objects import shapes

DEFAULTS = {each.dest: each.default for each in iscsi.ISCSIConnector.options()}


def record(
    info: dict[str, Any],
    number: int = 0,
    several: bool = False,
    **options: Any,
) -> dict[str, str]:
    given = objects.ConnectionInfo.from_dict(info)
    assert isinstance(given, objects.ISCSIConnectionInfo)
    settings = types.SimpleNamespace(**DEFAULTS | options)
    name = node_record.interface(given)
    carries = {'iface.transport_name': node_record.BUILT_IN.get(name, 'tcp')}
    return node_record.build(
        given,
        interfaces.named(name, carries).settings,
        given.targets[number],
        15,
        settings,
        several,
    )


def auth(found: dict[str, str]) -> dict[str, str]:
    prefix = 'node.session.auth.'
    return {
        key.removeprefix(prefix): value
        for key, value in found.items()
        if key.startswith(prefix)
    }


def test_without_authentication() -> None:
    assert record(
        shapes.lio(auth_method=None, auth_username=None, auth_password=None)
    ) == {
        'node.name': shapes.IQN,
        'node.tpgt': '-1',
        'node.startup': 'manual',
        'iface.iscsi_ifacename': 'default',
        'iface.transport_name': 'tcp',
        'node.conn[0].address': '192.0.2.5',
        'node.conn[0].port': '3260',
        'node.session.scan': 'manual',
        'node.session.nr_sessions': '1',
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': '15',
    }


def test_chap() -> None:
    assert auth(record(shapes.lio())) == {
        'authmethod': 'CHAP',
        'username': 'u',
        'password': shapes.CANARY,
    }


def test_mutual_chap() -> None:
    info = shapes.lio(auth_username_in='them', auth_password_in='theirs')
    assert auth(record(info)) == {
        'authmethod': 'CHAP',
        'username': 'u',
        'password': shapes.CANARY,
        'username_in': 'them',
        'password_in': 'theirs',
    }


def test_credentials_for_discovery_stay_out() -> None:
    """They are for another service of the target."""
    info = shapes.lio(
        auth_method=None,
        auth_username=None,
        auth_password=None,
        discovery_auth_method='CHAP',
        discovery_auth_username='d',
        discovery_auth_password=shapes.CANARY,
    )
    assert auth(record(info)) == {}
    assert shapes.CANARY not in str(record(info))


def test_credentials_without_a_method_stay_out() -> None:
    found = record(shapes.lio(auth_method=None))
    assert auth(found) == {}
    assert shapes.CANARY not in str(found)


def test_ipv6_has_no_brackets() -> None:
    found = record(shapes.netapp())
    assert found['node.conn[0].address'] == '2001:db8::1'
    assert found['node.conn[0].port'] == '3260'


def test_each_target_has_its_own_record() -> None:
    names = [record(shapes.pure(), n)['node.name'] for n in range(4)]
    assert names == [shapes.IQN] * 2 + [shapes.OTHER_IQN] * 2


def test_algorithms_of_chap() -> None:
    algorithms = ['SHA3-256', 'SHA256', 'MD5']
    found = record(shapes.lio(), chap_algorithms=algorithms)
    assert auth(found)['chap_algs'] == 'SHA3-256,SHA256,MD5'
    # and nothing is said of them where there is no CHAP
    assert auth(record(without_auth(), chap_algorithms=algorithms)) == {}


def without_auth() -> dict[str, Any]:
    return shapes.lio(auth_method=None, auth_username=None, auth_password=None)


def test_digests() -> None:
    found = record(
        shapes.lio(), header_digest='CRC32C', data_digest='CRC32C,None'
    )
    assert found['node.conn[0].iscsi.HeaderDigest'] == 'CRC32C'
    assert found['node.conn[0].iscsi.DataDigest'] == 'CRC32C,None'


def test_only_one_of_several_paths_gives_up_early() -> None:
    """The default of 120 s is right where there is no other path."""
    key = 'node.session.timeo.replacement_timeout'
    assert key not in record(shapes.lio())
    assert record(shapes.lio(), several=True)[key] == '5'
    found = record(shapes.lio(), several=True, replacement_timeout=9)
    assert found[key] == '9'


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('chap_algorithms', 'MD5,SHA512'),
        ('header_digest', 'crc'),
        ('data_digest', 'CRC32C None'),
        ('replacement_timeout', '-1'),
    ],
)
def test_options_that_are_refused(option: str, value: str) -> None:
    conf = cfg.ConfigOpts()
    conf.register_opts(iscsi.ISCSIConnector.options())
    with pytest.raises(ValueError, match='(Valid values|Should be)'):
        conf.set_override(option, value)


@pytest.mark.parametrize('interface', ['default', 'iser', 'eth5'])
def test_ifaces(interface: str) -> None:
    found = record(shapes.lio(transport_iface=interface))
    assert found['iface.iscsi_ifacename'] == interface
    kind = 'iser' if interface == 'iser' else 'tcp'
    assert found['iface.transport_name'] == kind


@pytest.mark.parametrize('shape', shapes.ALL, ids=lambda one: one.__name__)
def test_the_privileged_side_takes_every_record(shape: Any) -> None:
    given = objects.ConnectionInfo.from_dict(shape())
    for number, target in enumerate(given.targets):
        found = record(shape(), number)
        privileged._check_login(
            target.name,
            found['node.conn[0].address'],
            int(found['node.conn[0].port']),
            found,
        )
