# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each error that can cross the bus crosses it, whatever it speaks of."""

from collections.abc import Iterator
import contextlib
import datetime
import errno
import pathlib
import re
import sqlite3
import time
from typing import Any
import uuid

from oslo_config import cfg
import oslo_messaging as messaging
import pytest

from attachworker import exception
from attachworker.bus import server
from attachworker.bus import transport as bus
from attachworker.journal import AttachmentState
from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

CLASSES = {
    name: value
    for name, value in vars(exception).items()
    if isinstance(value, type)
    and issubclass(value, exception.AttachWorkerError)
}

#: What an error may have been given to speak of; no JSON has most of it.
VALUES = {
    'path': pathlib.Path('/var/lib/attachworker'),
    'bytes': b'\xff\x00',
    'surrogate': 'not \udcff UTF-8',
    'control': 'NUL \0 and escape \x1b',
    'set': {1},
    'error': OSError(errno.ENOSPC, 'No space left on device'),
    'time': datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC),
    'state': AttachmentState.ATTACHED,
    'large': 2**70,
    'infinity': float('inf'),
    'none': None,
    'nested': {'a': [pathlib.Path('/')]},
    'class': pathlib.Path,
}


class Raising:
    """Raises what it is asked for, as a method of the worker would."""

    target = messaging.Target(version=bus.VERSION)

    @server._exposed
    def fail(self, ctxt: Any, name: str, value: str) -> None:
        raise make(name, value)


def make(name: str, value: str) -> exception.AttachWorkerError:
    keys = re.findall(r'%\((\w+)\)s', CLASSES[name].msg_fmt)
    return CLASSES[name](**dict.fromkeys(keys, VALUES[value]))


@pytest.fixture(scope='module')
def client(broker: rabbitmq.RabbitMQNode) -> Iterator[caller.RawClient]:
    host = f'raising-{uuid.uuid4()}'
    transport = bus.get_transport(cfg.CONF, broker.url)
    worker = messaging.get_rpc_server(
        transport,
        bus.get_target(host),
        [Raising()],
        access_policy=messaging.ExplicitRPCAccessPolicy,
    )
    worker.start()
    made = caller.RawClient(broker.url, host)
    yield made
    made.close()
    worker.stop()
    worker.wait()
    transport.cleanup()


@pytest.mark.parametrize('name', CLASSES)
def test_an_error_reaches_its_caller_as_what_it_is(
    client: caller.RawClient, name: str
) -> None:
    for value in VALUES:
        with pytest.raises(CLASSES[name]) as caught:
            client.call('fail', name=name, value=value)
        sent = make(name, value)
        # With its text, which may have the traceback of the worker behind it
        assert str(caught.value).startswith(str(sent)), value
        assert caught.value.code == sent.code
        assert caught.value.retryable == sent.retryable


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Somebody else writes to a journal: it cannot be written."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('BEGIN IMMEDIATE')
        yield


def test_a_journal_that_cannot_be_written_is_told_to_who_calls(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    receiver = caller.Receiver(broker.url)
    receiver.server.start()
    volume = bed.create_volume()
    request = harness.attach_request(volume)
    cast = harness.attach_request(volume, 'cast', reply_to=receiver.reply_to)
    with harness.Harness(bed, broker.url, state_path=tmp_path) as running:
        # Given a journal that cannot be written
        with locked(tmp_path / 'journal.sqlite'):
            # When something is asked for, then whoever did is told why
            began = time.monotonic()
            with pytest.raises(
                exception.JournalUnavailable, match=r'sqlite.*locked'
            ):
                running.api.attach_volume({}, running.name, request)
            assert time.monotonic() - began < 20
            running.api.cast_attach_volume({}, running.name, cast)
            assert receiver.got.wait(30)
        [refused] = receiver.results
        assert refused.status == 'failed'
        assert 'locked' in refused.error.message
        assert refused.error.retryable
        # And once it can be, the same request is taken
        result = running.api.attach_volume({}, running.name, request)
        assert result.status == 'attached', result.as_dict()
        assert running.detach(volume.name).status == 'detached'
    receiver.stop()
