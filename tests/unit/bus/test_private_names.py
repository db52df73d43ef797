# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is private to oslo.messaging, and is used nevertheless.

Fails when a release of oslo.messaging, kombu or amqp moves it, and when more
of it is used than stands here.
"""

import ast
import inspect
from typing import Any

import oslo_messaging as messaging
from oslo_messaging import server as message_server
from oslo_messaging import transport as oslo_transport
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import base
from oslo_messaging._drivers import common
from oslo_messaging._drivers import impl_rabbit
from oslo_messaging._drivers import pool
from oslo_messaging.rpc import dispatcher
from oslo_messaging.rpc import server
import pytest

from attachworker.bus import transport

_LIBRARY = (
    amqpdriver,
    base,
    common,
    impl_rabbit,
    pool,
    oslo_transport,
    message_server,
    dispatcher,
    server,
)
_USED = {
    # of a connection
    '_callback',
    '_connection_lock',
    '_consumers',
    '_ensure_publishing',
    '_fetch_ssl_params',
    '_new_tags',
    '_publish',
    '_publish_and_raises_on_missing_exchange',
    '_raw_message',
    '_set_current_channel',
    '_url',
    # of the driver
    '_allowed_remote_exmods',
    '_connection_pool',
    '_driver',
    '_get_connection',
    '_get_queue_arguments',
    '_get_reply_q',
    '_get_reply_queue_name',
    '_queues',
    '_reply_q',
    '_reply_q_conn',
    '_reply_q_lock',
    '_waiter',
    # of listener, server and dispatcher
    '_create_listener',
    '_current_timeout',
    '_executor_cls',
    '_is_compatible',
    '_message_operations_handler',
    '_obsolete_reply_queues',
    '_on_incoming',
    '_send_reply',
    '_shutdown',
    '_target',
}


def private(source: str) -> set[str]:
    """The private names that a file defines, or uses of an object."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {
        name
        for name in found
        if name.startswith('_') and not name.endswith('__')
    }


def test_the_private_names_that_are_used_are_still_there() -> None:
    theirs = set().union(
        *(private(inspect.getsource(module)) for module in _LIBRARY)
    )
    assert private(inspect.getsource(transport)) & theirs == _USED


@pytest.mark.parametrize(
    ('ours', 'stock'),
    [
        (transport.BusConnection, impl_rabbit.Connection),
        (transport.BusDriver, impl_rabbit.RabbitDriver),
        (transport.Listener, amqpdriver.AMQPListener),
        (transport.Server, server.RPCServer),
        (transport.Dispatcher, messaging.RPCDispatcher),
    ],
)
def test_what_is_overridden_still_has_the_same_parameters(
    ours: type[Any], stock: type[Any]
) -> None:
    common_names = [
        name
        for name, value in vars(ours).items()
        if inspect.isfunction(value)
        and name != '__init__'
        and hasattr(stock, name)
    ]
    for name in common_names:
        expected = inspect.signature(getattr(stock, name)).parameters
        found = inspect.signature(getattr(ours, name)).parameters
        takes_all = {one.kind for one in found.values()} & {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }
        for parameter in expected:
            assert takes_all or parameter in found, (name, parameter)
        for parameter, value in found.items():
            if value.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                assert parameter in expected, (name, parameter)


def test_a_consumer_of_the_library_can_be_made_as_it_is_made_here() -> None:
    wanted = inspect.signature(impl_rabbit.Consumer).parameters
    for name in (
        'exchange_name',
        'queue_name',
        'routing_key',
        'type',
        'durable',
        'exchange_auto_delete',
        'queue_auto_delete',
        'callback',
        'rabbit_queue_ttl',
    ):
        assert name in wanted
