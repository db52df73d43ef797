# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which worker is asked, over which connections."""

from collections.abc import Iterator

import pytest

from attachworker import brick
from attachworker import exception
from attachworker.brick import bus


@pytest.fixture(autouse=True)
def no_connections() -> Iterator[None]:
    yield
    bus.close()


def test_connectors_share_their_connections() -> None:
    first = bus.client_for('rabbit://192.0.2.1/', 'one')
    assert bus.client_for('rabbit://192.0.2.1/', 'one') is first
    assert bus.client_for('rabbit://192.0.2.1/', 'two') is not first
    assert first.host == 'one'
    # until they are closed
    bus.close()
    assert bus.client_for('rabbit://192.0.2.1/', 'one') is not first


def test_the_bus_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('OS_DEFAULT__TRANSPORT_URL', 'rabbit://192.0.2.7/')
    monkeypatch.setenv('OS_DEFAULT__HOST', 'configured')
    assert bus.client_for(None, None).host == 'configured'
    assert bus.client_for(None, 'given').host == 'given'
    assert '192.0.2.7' in str(
        bus.client_for(None, None).transport._driver._url
    )


def test_a_configuration_that_makes_no_sense() -> None:
    with pytest.raises(exception.BrickException, match='transport_url'):
        brick.RemoteConnector(transport_url='amqp://x:SECRET@y/', host='one')
