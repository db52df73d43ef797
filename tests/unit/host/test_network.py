# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether a portal answers, on loopback."""

from collections.abc import Iterator
import socket

import pytest

from attachworker import exception
from attachworker.host import network

TIMEOUT = 10.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(('127.0.0.1', 0)) as made:
        yield made


def test_a_portal_that_answers(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    network.probe('127.0.0.1', port, TIMEOUT)
    # and the connection is closed again, so that none is left of it
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(TIMEOUT)
        assert connection.recv(1) == b''


def test_a_name_is_looked_up_by_those_alone_who_judge_its_addresses(
    listener: socket.socket,
) -> None:
    port = listener.getsockname()[1]
    assert '127.0.0.1' in network.addresses('localhost', port)
    with pytest.raises(exception.TargetUnreachable):
        network.probe('localhost', port, TIMEOUT)


@pytest.mark.parametrize(
    'address',
    [
        '127.0.0.1',
        '127.255.0.9',
        '::1',
        '::',
        '0.0.0.0',
        '::ffff:127.0.0.1',
        '::ffff:7f00:1',
        '::127.0.0.1',
        '169.254.0.1',
        '169.254.169.254',
        '::ffff:169.254.169.254',
        'fd00:ec2::254',
        'fe80::1',
        'fe80::1%eth0',
        'fe80::a9fe:a9fe',
        '224.0.0.1',
        '255.255.255.255',
        'ff02::1',
    ],
)
def test_where_no_storage_is_unless_somebody_says_so(address: str) -> None:
    # Given no option, or one that names everything
    assert not network.Networks().allow(address)
    assert not network.Networks(['0.0.0.0/0', '::/0']).allow(address)
    # Then a network of addresses of that kind alone lets portals be there
    plain = address.removeprefix('::ffff:').replace('7f00:1', '127.0.0.1')
    assert network.Networks([plain.partition('%')[0]]).allow(address)


@pytest.mark.parametrize(
    'address', ['192.0.2.1', '10.0.0.1', '2001:db8::1', 'fd00::1']
)
def test_storage_is_anywhere_else(address: str) -> None:
    assert network.Networks().allow(address)
    assert network.Networks([address]).allow(address)
    assert not network.Networks(['198.51.100.0/24', 'fd77::/16']).allow(
        address
    )
    assert not network.Networks([]).allow(address)


@pytest.mark.parametrize(
    ('listed', 'address'),
    [
        # that of the metadata service has to be listed by itself
        ('169.254.0.0/16', '169.254.169.254'),
        ('fe80::/10', 'fe80::a9fe:a9fe'),
        ('127.0.0.0/8', '::1'),
        ('126.0.0.0/7', '127.0.0.1'),
    ],
)
def test_one_range_does_not_stand_for_another(
    listed: str, address: str
) -> None:
    assert not network.Networks([listed]).allow(address)


@pytest.mark.parametrize(
    'listed', ['storage.example', '192.0.2.1/24', '192.0.2.0/33', '']
)
def test_what_is_no_network_is_told(listed: str) -> None:
    with pytest.raises(exception.ConfigurationError, match='portal_networks'):
        network.Networks([listed])


@pytest.mark.parametrize(
    ('portal', 'parts'),
    [
        ('192.0.2.1:3260', ('192.0.2.1', 3260)),
        ('[2001:db8::1]:860', ('2001:db8::1', 860)),
        ('storage.example:3260', ('storage.example', 3260)),
    ],
)
def test_parts_of_a_portal(portal: str, parts: tuple[str, int]) -> None:
    assert network.split(portal) == parts
    assert network.join(*parts) == portal


def test_a_portal_that_refuses(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(exception.TargetUnreachable) as caught:
        network.probe('127.0.0.1', port, TIMEOUT)
    assert f'127.0.0.1:{port}' in str(caught.value)
    assert 'refused' in str(caught.value)
    assert caught.value.retryable


def test_a_portal_that_says_nothing() -> None:
    # Given a socket whose queue is full: the kernel drops what comes
    with socket.socket() as full:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address, TIMEOUT):
            with pytest.raises(exception.TargetUnreachable) as caught:
                network.probe(*address, 0.1)
    assert 'no answer' in str(caught.value)


def test_a_name_that_nobody_knows() -> None:
    name = 'no.such.host.invalid'
    with pytest.raises(exception.TargetUnreachable) as caught:
        network.addresses(name, 3260)
    assert f'{name}:3260' in str(caught.value)


def test_ipv6_is_told_in_brackets() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(('::1', 0))
        except OSError:
            pytest.skip('no IPv6 here')
        port = probe.getsockname()[1]
    with pytest.raises(exception.TargetUnreachable) as caught:
        network.probe('::1', port, TIMEOUT)
    assert f'[::1]:{port}' in str(caught.value)


def test_a_portal_is_asked_through_a_network_device(
    listener: socket.socket,
) -> None:
    port = listener.getsockname()[1]
    network.probe('127.0.0.1', port, TIMEOUT, 'lo')
    with pytest.raises(exception.TargetUnreachable, match='no-such-device'):
        network.probe('127.0.0.1', port, TIMEOUT, 'no-such-device')


@pytest.mark.parametrize(
    ('address', 'needed'),
    [
        ('fe80::1', True),
        ('2001:db8::1', False),
        ('169.254.0.1', False),
        ('storage.example', False),
    ],
)
def test_addresses_that_need_a_network_device(
    address: str, needed: bool
) -> None:
    assert network.needs_device(address) == needed


def test_a_link_local_portal_without_a_network_device() -> None:
    with pytest.raises(exception.TargetUnreachable) as caught:
        network.probe('fe80::1', 3260, TIMEOUT)
    assert 'iface.net_ifacename' in str(caught.value)
