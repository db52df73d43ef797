# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The callers' side of the RPC interface, without a broker."""

import subprocess
import sys
from typing import Any

from oslo_config import cfg
import pytest

from attachworker import exception
from attachworker import rpcapi
from attachworker.bus import transport

METHODS = (
    'get_connector_properties attach_volume detach_volume extend_volume '
    'get_attachment list_attachments get_result get_volume_paths cancel '
    'audit ping cast_attach_volume cast_detach_volume cast_extend_volume '
    'rotate_encryption_key cast_rotate_encryption_key'
)

HOST_SIDE = (
    'attachworker.host',
    'attachworker.privileged',
    'attachworker.connectors',
    'attachworker.tasks',
    'attachworker.flows',
    'taskflow',
    'pyudev',
    'oslo_privsep',
    'attachworker.journal',
    'attachworker.worker',
)


@pytest.mark.parametrize(
    'module',
    [
        'attachworker.rpcapi',
        'attachworker.client',
        'attachworker.brick',
        'attachworker.cmd.attachctl',
    ],
)
def test_callers_load_no_host_code(module: str) -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            f'import sys, {module}; print(*sys.modules)',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert module in loaded
    assert [name for name in loaded if name.startswith(HOST_SIDE)] == []


def test_callers_may_have_loaded_oslo_messaging_before() -> None:
    subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            'import oslo_messaging, attachworker.rpcapi',
        ],
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize('method', METHODS.split())
def test_every_method_of_the_contract_is_there(method: str) -> None:
    assert callable(getattr(rpcapi.AttachWorkerAPI, method))


def test_version_is_in_the_history() -> None:
    assert f'* {rpcapi.AttachWorkerAPI.VERSION} - ' in str(
        rpcapi.AttachWorkerAPI.__doc__
    )


@pytest.mark.parametrize(
    'url',
    [
        'fake://',
        'kafka://u:SECRET@host/',
        'amqp://host/',
        'kombu+sqla://',
        'kombu+filesystem://',
        'SECRET',
        'rabbit://u:SECRET@host:port/',
        'rabbit://u:SECRET@host/?no_such_option=1',
        'rabbit://u:SECRET@host/?heartbeat_rate=often',
    ],
)
def test_other_buses_are_refused(url: str) -> None:
    with pytest.raises(exception.ConfigurationError) as caught:
        transport.get_transport(cfg.CONF, url)
    assert 'SECRET' not in str(caught.value)


def settings(conf: cfg.ConfigOpts, query: str = '') -> Any:
    made = transport.get_transport(conf, f'rabbit://localhost/{query}')
    return made.conf.oslo_messaging_rabbit


def private(*values: tuple[str, Any]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf(
        [],
        project='attachworker',
        default_config_files=[],
        default_config_dirs=[],
    )
    transport.get_transport(conf, 'rabbit://localhost/')
    for name, value in values:
        conf.set_override(name, value, group='oslo_messaging_rabbit')
    return conf


def test_defaults_are_ours_for_our_transports_only() -> None:
    conf = private()
    assert settings(conf).amqp_durable_queues is True
    assert settings(conf).heartbeat_timeout_threshold == 15
    assert conf.oslo_messaging_rabbit.amqp_durable_queues is False
    assert conf.oslo_messaging_rabbit.heartbeat_timeout_threshold == 60


def test_what_the_operator_says_wins_but_for_durability() -> None:
    conf = private(
        ('heartbeat_timeout_threshold', 30), ('amqp_durable_queues', False)
    )
    assert settings(conf).heartbeat_timeout_threshold == 30
    assert settings(conf).amqp_durable_queues is True
    query = '?heartbeat_timeout_threshold=5'
    assert settings(conf, query).heartbeat_timeout_threshold == 5
