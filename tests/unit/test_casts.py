# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a cast becomes: sent again, answered once, given up."""

from collections.abc import Iterator
import concurrent.futures
import threading
import time
from typing import Any
import uuid

import oslo_messaging as messaging
import pytest

from attachworker import casts
from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from tests import harness

PATIENCE = 10.0


class Host:
    """In place of a worker: notes what it is sent, and answers on demand."""

    target = messaging.Target(version='1.0')

    def __init__(self) -> None:
        self.name = f'host-{uuid.uuid4()}'
        self.transport = bus.get_transport(harness.configuration())
        self.requests: list[objects.DetachRequest] = []
        self.came = threading.Semaphore(0)
        self.server = messaging.get_rpc_server(
            self.transport,
            bus.get_target(self.name),
            [self],
            serializer=serializer.ObjectSerializer(),
        )
        self.server.start()

    def detach_volume(self, ctxt: Any, request: Any) -> None:
        self.requests.append(request)
        self.came.release()

    def wait(self) -> objects.DetachRequest:
        assert self.came.acquire(timeout=PATIENCE)
        return self.requests[-1]

    def answer(
        self,
        request: objects.DetachRequest,
        status: str = 'detached',
        error: exception.AttachWorkerError | None = None,
    ) -> None:
        """As the worker does: it returns when the caller has the result."""
        to = request.reply_to
        messaging.get_rpc_client(
            self.transport,
            messaging.Target(
                exchange=to.exchange, topic=to.topic, server=to.server
            ),
            timeout=PATIENCE,
            serializer=serializer.ObjectSerializer(),
        ).call(
            {},
            'operation_finished',
            result=objects.OperationResult(
                request_id=request.request_id,
                operation='detach',
                status=status,
                error=error and objects.OperationError.from_exception(error),
            ),
        )

    def close(self) -> None:
        self.server.stop()
        self.server.wait()
        self.transport.cleanup()


@pytest.fixture(scope='module')
def shared_host() -> Iterator[Host]:
    """Ending a server takes seconds."""
    made = Host()
    yield made
    made.close()


@pytest.fixture
def host(shared_host: Host) -> Host:
    shared_host.requests.clear()
    shared_host.came = threading.Semaphore(0)
    return shared_host


@pytest.fixture
def mine(host: Host) -> Iterator[casts.Casts]:
    with casts.Casts(
        host.transport, host.name, f'me-{uuid.uuid4()}', pause=0.05
    ) as made:
        yield made


def request(**values: Any) -> objects.DetachRequest:
    return objects.DetachRequest(
        request_id='r-1', attachment_id='a-1', **values
    )


def test_a_request_is_sent_again_until_its_result_is_there(
    host: Host, mine: casts.Casts
) -> None:
    future = mine.send(request())
    host.wait()
    again = host.wait()
    assert {each.request_id for each in host.requests} == {'r-1'}
    host.answer(again)
    assert future.result(PATIENCE).status == 'detached'


def test_a_result_that_comes_twice_counts_once(
    host: Host, mine: casts.Casts
) -> None:
    future = mine.send(request())
    sent = host.wait()
    host.answer(sent)
    host.answer(sent, 'failed', exception.DeviceInUse(device='sda', users='x'))
    assert future.result(PATIENCE).status == 'detached'


def test_a_result_of_another_request_is_dropped(
    host: Host, mine: casts.Casts
) -> None:
    future = mine.send(request())
    sent = host.wait()
    other = objects.DetachRequest(
        request_id='r-2', attachment_id='a-1', reply_to=sent.reply_to
    )
    host.answer(other, 'failed', exception.DeviceInUse(device='a', users='x'))
    host.answer(sent)
    assert future.result(PATIENCE).request_id == 'r-1'


def test_busy_is_no_result(host: Host, mine: casts.Casts) -> None:
    future = mine.send(request())
    host.answer(host.wait(), 'failed', exception.WorkerBusy())
    host.answer(host.wait())
    assert future.result(PATIENCE).status == 'detached'


def test_a_request_that_is_under_way_has_one_future(
    host: Host, mine: casts.Casts
) -> None:
    future = mine.send(request())
    assert mine.send(request()) is future
    host.answer(host.wait())
    assert future.result(PATIENCE).status == 'detached'
    # Once it has its result, it is asked for anew.
    assert mine.send(request()) is not future


def test_the_deadline_ends_it(
    host: Host, mine: casts.Casts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpcapi, 'ANSWER_GRACE', 0)
    began = time.monotonic()
    future = mine.send(request(deadline_seconds=1))
    with pytest.raises(messaging.MessagingTimeout):
        future.result(PATIENCE)
    assert time.monotonic() - began >= 1
    assert len(host.requests) > 1


def test_a_request_that_makes_no_sense_is_not_sent(
    host: Host, mine: casts.Casts
) -> None:
    with pytest.raises(exception.InvalidConnectionInfo):
        mine.send(objects.DetachRequest(request_id='r-1'))
    assert host.requests == []


@pytest.mark.parametrize('again', [True, False])
def test_errors_of_the_bus(
    mine: casts.Casts, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    errors: list[Exception] = [
        exception.BusUnavailable(broker='b:5672', reason='gone')
    ]
    if not again:
        errors = [exception.HostNotFound(host='one')]
    tried = threading.Semaphore(0)

    def cast(*arguments: Any) -> None:
        tried.release()
        if errors:
            raise errors.pop()

    monkeypatch.setitem(mine._methods, objects.DetachRequest, cast)
    future = mine.send(request())
    assert tried.acquire(timeout=PATIENCE)
    if again:
        assert tried.acquire(timeout=PATIENCE)
        assert not future.done()
    else:
        with pytest.raises(exception.HostNotFound):
            future.result(PATIENCE)


def test_a_worker_that_nobody_finds_may_have_the_request(
    host: Host, mine: casts.Casts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a request that has been sent
    send = mine._methods[objects.DetachRequest]
    missed = threading.Event()

    def cast(*arguments: Any) -> None:
        if host.requests and not missed.is_set():
            missed.set()
            raise exception.HostNotFound(host='one')
        send(*arguments)

    monkeypatch.setitem(mine._methods, objects.DetachRequest, cast)
    future = mine.send(request())
    host.wait()
    # When the broker has nothing that leads to the worker for a while
    assert missed.wait(PATIENCE)
    # Then the request is sent again, for its result
    host.answer(host.wait())
    assert future.result(PATIENCE).status == 'detached'


def test_close_gives_up(host: Host) -> None:
    mine = casts.Casts(host.transport, host.name, f'me-{uuid.uuid4()}')
    future = mine.send(request())
    host.wait()
    mine.close()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE)
