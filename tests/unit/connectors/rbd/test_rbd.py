# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


import contextlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import rbd
from tests.unit.on_files import on_files

KEYRING = '[client.cinder]\nkey = YQ==\n'


class Kernel:
    """Writes down what is mapped, and lets nothing be mapped."""

    def __init__(self) -> None:
        self.added: list[tuple[Any, ...]] = []

    def add(self, *arguments: Any) -> None:
        self.added.append(arguments)

    def wait_for(self, *_: Any) -> None:
        return None


def mapped(
    monkeypatch: pytest.MonkeyPatch, exclusive: bool = False, **data: Any
) -> tuple[Any, ...]:
    """What the kernel is asked for: all arguments of the verb."""
    monkeypatch.setattr(rbd.network, 'probe_any', lambda *_: None)
    kernel = Kernel()
    host: Any = on_files(monitor=kernel, rbd=kernel)
    settings = types.SimpleNamespace(
        map_timeout=30, device_timeout=10, exclusive=exclusive
    )
    info = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'rbd',
            'data': {
                'name': 'volumes/one',
                'hosts': ['192.0.2.2', '192.0.2.1'],
                'ports': ['6789', '3300'],
            }
            | data,
        }
    )
    holdings: Any = types.SimpleNamespace(
        take=lambda target: None, intend_device=lambda target: None
    )
    connector = rbd.RBDConnector(host, settings)
    with contextlib.suppress(exception.DeviceNotFound):
        connector.connect(
            info,
            base.Claim(
                info.targets[0], holdings, deadlines.Deadline.after(20.0)
            ),
            base.Interest(),
        )
    (arguments,) = kernel.added
    return arguments


def test_a_cluster_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monitors, pool, image, snapshot, options, cluster, keyring = mapped(
        monkeypatch
    )
    assert monitors == ['192.0.2.1:3300', '192.0.2.2:6789']
    assert (pool, image, snapshot) == ('volumes', 'one', '')
    assert options.pop('mount_timeout') in ('19', '20')
    assert options == {'name': 'admin'}
    assert (cluster, keyring) == ('', '')


def test_a_cluster_with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, options, cluster, keyring = mapped(
        monkeypatch,
        auth_enabled=True,
        auth_username='cinder',
        cluster_name='second',
        keyring=KEYRING,
    )
    assert options['name'] == 'cinder'
    assert (cluster, keyring) == ('second', KEYRING)


@pytest.mark.parametrize(
    ('data', 'exclusive', 'wanted'),
    [
        ({}, False, set()),
        ({}, True, {'exclusive'}),
        ({'access_mode': 'ro'}, True, {'read_only'}),
        ({'name': 'volumes/one@daily'}, True, {'read_only'}),
        ({'name': 'volumes/tenant/one'}, False, {'_pool_ns'}),
    ],
    ids=str,
)
def test_options(
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, Any],
    exclusive: bool,
    wanted: set[str],
) -> None:
    options = mapped(monkeypatch, exclusive, **data)[4]
    assert options.keys() - {'name', 'mount_timeout'} == wanted
    assert options.get('_pool_ns', 'tenant') == 'tenant'
