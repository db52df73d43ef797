# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which of all that a portal tells is used, and where a host name leads."""

from collections.abc import Iterator
from collections.abc import Sequence
import socket
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors.iscsi import discovery
from attachworker.connectors.iscsi import initiator
from attachworker.host import network
from attachworker.host import verbs
from tests.contract import bed as beds
from tests.unit.connectors.iscsi import interfaces
from tests.unit.objects import shapes

OTHER = 'iqn.2026-01.example:other'


class FakeInitiator:
    """Tells what it was told to, and notes the settings."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.settings: list[dict[str, str]] = []

    def discover(
        self,
        address: str,
        port: int,
        settings: dict[str, str],
        timeout: float,
        deadline: deadlines.Deadline,
    ) -> list[tuple[str, str]]:
        self.settings.append(settings)
        return self.said


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(('127.0.0.1', 0)) as made:
        yield made.getsockname()[1]


@pytest.fixture
def fake() -> FakeInitiator:
    return FakeInitiator()


def find(
    fake: FakeInitiator,
    multipath: bool = True,
    interface: initiator.Interface = interfaces.DEFAULT,
    networks: Sequence[str] = tuple(beds.NETWORKS),
    **data: Any,
) -> list[objects.Target]:
    info = objects.ConnectionInfo.from_dict(shapes.lio(**data))
    host: Any = types.SimpleNamespace(
        verbs=verbs.Verbs(), networks=network.Networks(networks)
    )
    told: Any = fake
    found = discovery.Discovery(host, told, info, interface, 5)
    return found.targets(multipath, deadlines.Deadline.after(10.0))


def test_only_the_named_target_is_used(fake: FakeInitiator, port: int) -> None:
    # Given a portal that tells of two targets, of which one is named
    fake.said = [
        ('192.0.2.9:3260', shapes.IQN),
        ('192.0.2.9:3260', OTHER),
        (f'127.0.0.1:{port}', shapes.IQN),
        ('[2001:0db8::9]:3260', shapes.IQN.upper()),
    ]
    found = find(fake, target_portal=f'127.0.0.1:{port}', target_lun=7)
    # Then all its portals are used, the one of the request first
    assert found == [
        (f'127.0.0.1:{port}', shapes.IQN, 7),
        ('192.0.2.9:3260', shapes.IQN, 7),
        ('[2001:db8::9]:3260', shapes.IQN.upper(), 7),
    ]


def test_what_is_no_portal_is_left_out(fake: FakeInitiator, port: int) -> None:
    """Launchpad 1886855, and what arrays without an address tell."""
    fake.said = [
        (bad, shapes.IQN)
        for bad in ('[]:3260', '0.0.0.0:3260', ':3260', '192.0.2.9:0', '-x:1')
    ]
    fake.said.append((f'127.0.0.1:{port}', shapes.IQN))
    found = find(fake, target_portal=f'127.0.0.1:{port}')
    assert found == [(f'127.0.0.1:{port}', shapes.IQN, 0)]


def test_a_link_local_portal_needs_a_network_device(
    fake: FakeInitiator, port: int
) -> None:
    """Each network has its own addresses that begin with fe80."""
    link_local = '[fe80::9]:3260'
    fake.said = [(link_local, shapes.IQN), (f'127.0.0.1:{port}', shapes.IQN)]

    def portals(interface: initiator.Interface) -> list[str]:
        found = find(fake, True, interface, target_portal=f'127.0.0.1:{port}')
        return [target.portal for target in found]

    # Without one it is left out
    assert portals(interfaces.DEFAULT) == [f'127.0.0.1:{port}']
    # By an iface that is bound to one, or that is an adapter, it is used
    bound = interfaces.named('eth5', {'iface.net_ifacename': 'lo'}, 'lo')
    adapter = interfaces.named('hba', {'iface.transport_name': 'qla4xxx'})
    for interface in (bound, adapter):
        assert portals(interface) == [f'127.0.0.1:{port}', link_local]


def test_a_portal_that_is_told_of_where_none_may_be(
    fake: FakeInitiator, port: int
) -> None:
    # Given a target that tells of portals where other things may be
    fake.said = [
        ('169.254.169.254:80', shapes.IQN),
        ('[::ffff:169.254.169.254]:80', shapes.IQN),
        ('[::1]:5672', shapes.IQN),
        (f'127.0.0.1:{port}', shapes.IQN),
        (f'localhost:{port}', shapes.IQN),
        ('192.0.2.9:3260', shapes.IQN),
    ]
    # Then they are not used
    found = find(
        fake,
        networks=['127.0.0.0/8', '0.0.0.0/0', '::/0'],
        target_portal=f'127.0.0.1:{port}',
    )
    assert [target.portal for target in found] == [
        f'127.0.0.1:{port}',
        '192.0.2.9:3260',
    ]


def test_a_portal_where_none_may_be_is_not_asked(
    fake: FakeInitiator, port: int
) -> None:
    for name in '127.0.0.1', 'localhost':
        with pytest.raises(exception.PortalNotAllowed, match='portal_netw'):
            find(fake, networks=(), target_portal=f'{name}:{port}')
    assert fake.settings == []


def test_a_target_that_is_not_listed(fake: FakeInitiator, port: int) -> None:
    fake.said = [(f'127.0.0.1:{port}', OTHER)]
    with pytest.raises(exception.LoginFailed, match='does not list it'):
        find(fake, target_portal=f'127.0.0.1:{port}')


def test_a_dead_portal_is_not_asked(fake: FakeInitiator, port: int) -> None:
    with socket.create_server(('127.0.0.1', 0)) as closed:
        dead = closed.getsockname()[1]
    with pytest.raises(exception.TargetUnreachable):
        find(fake, target_portal=f'127.0.0.1:{dead}')
    assert fake.settings == []


def test_no_discovery_for_one_path(fake: FakeInitiator, port: int) -> None:
    portal = f'localhost:{port}'
    found = find(fake, multipath=False, target_portal=portal)
    assert found == [(f'127.0.0.1:{port}', shapes.IQN, 0)]
    assert fake.settings == []


def test_a_name_that_leads_nowhere_stays(fake: FakeInitiator) -> None:
    found = find(fake, multipath=False, target_portal='no.such.host.invalid')
    assert found == [('no.such.host.invalid:3260', shapes.IQN, 0)]


def test_two_names_of_one_portal_are_one(
    fake: FakeInitiator, port: int
) -> None:
    names = [f'localhost:{port}', f'127.0.0.1:{port}']
    found = find(
        fake,
        target_portals=names,
        target_iqns=[shapes.IQN] * 2,
        target_luns=[0, 0],
    )
    assert found == [(f'127.0.0.1:{port}', shapes.IQN, 0)]


def settings(**data: Any) -> dict[str, str]:
    info = objects.ConnectionInfo.from_dict(shapes.lio(**data))
    assert isinstance(info, objects.ISCSIConnectionInfo)
    return discovery.settings(info, 5, ['SHA256', 'MD5'])


def test_credentials_of_sessions_stay_out() -> None:
    assert settings() == {'iface': 'default'}


def test_credentials() -> None:
    found = settings(
        transport_iface='eth5',
        discovery_auth_method='CHAP',
        discovery_auth_username='d',
        discovery_auth_password=shapes.CANARY,
        discovery_auth_username_in='them',
        discovery_auth_password_in='theirs',
    )
    prefix = 'discovery.sendtargets.auth.'
    assert found['iface'] == 'eth5'
    assert found['discovery.sendtargets.timeo.login_timeout'] == '5'
    assert found['discovery.sendtargets.reopen_max'] == '0'
    assert {
        key.removeprefix(prefix): value
        for key, value in found.items()
        if key.startswith(prefix)
    } == {
        'authmethod': 'CHAP',
        'chap_algs': 'SHA256,MD5',
        'username': 'd',
        'password': shapes.CANARY,
        'username_in': 'them',
        'password_in': 'theirs',
    }
