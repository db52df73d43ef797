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
    monkeypatch: pytest.MonkeyPatch,
    exclusive: bool = False,
    ms_mode: str | None = None,
    **data: Any,
) -> tuple[Any, ...]:
    """What the kernel is asked for: all arguments of the verb."""
    monkeypatch.setattr(rbd.network, 'probe_any', lambda *_: None)
    kernel = Kernel()
    host: Any = on_files(monitor=kernel, rbd=kernel)
    settings = types.SimpleNamespace(
        map_timeout=30,
        device_timeout=10,
        exclusive=exclusive,
        ms_mode=ms_mode,
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
    # the one on port 3300 speaks the second version alone
    assert monitors == ['192.0.2.2:6789']
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


V1, V2 = '192.0.2.1:6789', '192.0.2.1:3300'


@pytest.mark.parametrize(
    ('hosts', 'option', 'monitors', 'mode'),
    [
        ([V1], None, [V1], None),
        ([V2], None, [V2], 'prefer-crc'),
        ([V1, V2], None, [V1], None),
        ([V1, V2], 'secure', [V2], 'secure'),
        ([V1], 'prefer-secure', [V1], 'prefer-secure'),
        ([V2], 'legacy', [V2], None),
    ],
)
def test_the_version_of_the_protocol(
    monkeypatch: pytest.MonkeyPatch,
    hosts: list[str],
    option: str | None,
    monitors: list[str],
    mode: str | None,
) -> None:
    pairs = [one.split(':') for one in hosts]
    found, _, _, _, options, _, _ = mapped(
        monkeypatch,
        ms_mode=option,
        hosts=[host for host, _ in pairs],
        ports=[port for _, port in pairs],
    )
    assert found == monitors
    assert options.get('ms_mode') == mode
