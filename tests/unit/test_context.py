# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whose request a line of the log is about."""

from collections.abc import Iterator
import logging
import threading
from typing import Any

from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_log import formatters
from oslo_log import log
import pytest

from attachworker import context
from attachworker.bus import serializer
from attachworker.host import threads

REQUEST = 'req-6f70656e-7374-4163-8b21-000000000001'
GLOBAL = 'req-6f70656e-7374-4163-8b21-000000000002'


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """This thread has no context, before and after."""
    with context.use(context.NOBODYS):
        yield


def sent(**values: Any) -> dict[str, Any]:
    return {f'_context_{name}': value for name, value in values.items()}


def line() -> str:
    """What the log has of a message of this thread."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([])
    record = logging.LogRecord('n', logging.INFO, 'p', 1, 'said', (), None)
    return formatters.ContextFormatter(config=conf).format(record)


def test_a_line_has_the_identifiers_of_its_caller() -> None:
    received = context.of_message(
        sent(request_id=REQUEST, global_request_id=GLOBAL)
    )
    with context.use(received):
        assert f'[{GLOBAL} {REQUEST} ' in line()
    assert '[-] said' in line()


@pytest.mark.parametrize(
    'value',
    ['', 'a b', 'x' * 65, 'a\nCRITICAL', '\x1b[2J', 7, None, ['req-1'], {}],
)
def test_what_is_no_identifier_is_left_out(value: object) -> None:
    assert context.of_message(sent(request_id=value)) is context.NOBODYS
    received = context.of_message(
        sent(request_id=REQUEST, global_request_id=value)
    )
    assert received.global_request_id is None


def test_nothing_but_the_identifiers_is_taken_or_sent() -> None:
    theirs = oslo_context.RequestContext(
        auth_token='CANARY',
        user_id='u',
        request_id=REQUEST,
        global_request_id=GLOBAL,
        overwrite=False,
    )
    ids = {'request_id': REQUEST, 'global_request_id': GLOBAL}
    send = serializer.ObjectSerializer().serialize_context
    # Given as an object, as a dict, or by the thread that calls
    assert send(theirs) == ids
    assert send(theirs.to_dict()) == ids
    with context.use(theirs):
        assert send({}) == ids
    assert send({}) == {}
    received = context.of_message(
        sent(auth_token='CANARY', user_id='u', request_id=REQUEST)
    )
    assert received.auth_token is None
    assert received.user_id is None


def test_a_thread_has_the_context_of_whoever_began_it() -> None:
    # Given threads that stay and are used again
    pool = threads.Threads(kept=1)
    found: list[str | None] = []

    def body() -> None:
        found.append(context.current().request_id)
        done.set()

    for given in (REQUEST, GLOBAL, None):
        done = threading.Event()
        received = context.of_message(sent(request_id=given))
        with context.use(received):
            pool.run(body, 'test')
        assert done.wait(10)
    assert found == [REQUEST, GLOBAL, '']
