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
    assert network.probe('127.0.0.1', port, TIMEOUT) == '127.0.0.1'
    # and the connection is closed again, so that none is left of it
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(TIMEOUT)
        assert connection.recv(1) == b''


def test_a_name_leads_to_the_address_that_answers(
    listener: socket.socket,
) -> None:
    port = listener.getsockname()[1]
    assert network.probe('localhost', port, TIMEOUT) == '127.0.0.1'
    assert '127.0.0.1' in network.addresses('localhost', port)


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
        network.probe(name, 3260, TIMEOUT)
    assert f'{name}:3260' in str(caught.value)
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
    assert network.probe('127.0.0.1', port, TIMEOUT, 'lo') == '127.0.0.1'
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
