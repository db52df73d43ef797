# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Two brokers that begin at the same time never have the same port."""

import socket
import subprocess
import sys

import pytest

from tests.functional import rabbitmq


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given as many ports as are asked for, and one that is taken
    first = rabbitmq.free_port()
    monkeypatch.setattr(rabbitmq, '_PORTS', range(first, first + 4))
    given = [rabbitmq.free_port() for _ in range(2)]
    # Then each is given once, in this process
    assert len({first, *given}) == 3
    # and in others
    monkeypatch.setattr(rabbitmq, '_PORTS', range(first, first + 1))
    with pytest.raises(RuntimeError, match='no free port'):
        rabbitmq.free_port()
    other = subprocess.run(
        [
            sys.executable,
            '-c',
            'from tests.functional import rabbitmq; '
            f'rabbitmq._PORTS = range({first}, {first + 1}); '
            'rabbitmq.free_port()',
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'there is no free port' in other.stderr


def test_a_broker_that_cannot_have_its_port_is_given_up() -> None:
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    node = rabbitmq.RabbitMQNode()
    with socket.create_server(('127.0.0.1', node.port)):
        with pytest.raises(RuntimeError, match='the broker ended'):
            node.start()
        node.stop()
