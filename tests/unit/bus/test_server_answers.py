# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the worker answers, to calls and to casts."""

from collections.abc import Iterator
import concurrent.futures
import itertools
import pathlib
import time
import types
from typing import Any

import oslo_messaging as messaging
from oslo_messaging.rpc import dispatcher as rpc_dispatcher
import pytest

from attachworker import exception
from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus import server
from attachworker.journal import Call
from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.journal import Sealer
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from tests.unit.journal import rows
from tests.unit.objects import shapes
from tests.unit.worker import fakes

PATIENCE = 10.0
WAITING = 2


class Worker:
    """An endpoint behind a dispatcher, with operations that a test steers."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.database = Database(directory)
        self.records = Records(self.database)
        self.kind = fakes.FakeKind(self.records)
        self._jobs = Dispatcher(8, 8, 8)
        self._jobs.start()
        self.operations = Operations(
            self.records,
            Sealer(directory / 'run', str(directory)),
            self._jobs,
            dict.fromkeys(objects.REQUESTS, self.kind),
            'boot',
            300.0,
            lambda operation: None,
        )
        #: Request, where to, the result.
        self.delivered: list[tuple[str, Any, objects.OperationResult]] = []
        api = server.Endpoint(
            self.records,
            lambda multipath, enforce: {'multipath': multipath},
            lambda info: [f'/dev/{target.lun}' for target in info.targets],
            lambda: {'ready': True},
            self.operations.cancel,
            lambda: objects.AuditReport(),
        )
        self._dispatcher = server.RPCDispatcher(
            [api],
            serializer.WorkerSerializer(),
            messaging.ExplicitRPCAccessPolicy,
        )
        self.acceptance = server.RequestAcceptance(
            self.operations,
            self.records,
            self._dispatcher.is_served,
            lambda request_id, reply_to, result, **more: self.delivered.append(
                (request_id, reply_to, result)
            ),
            WAITING,
        )
        self._sent = itertools.count()

    def close(self) -> None:
        assert self._jobs.stop(PATIENCE)
        self.database.close()

    def send(
        self, method: str, call: bool = True, version: str = '1.0', **args: Any
    ) -> Any:
        """Hand a message over as listener and server do."""
        message = server.Message(method, **args)
        message['version'] = version
        sender = Call(f'id {next(self._sent)}', 'queue') if call else None
        message.outcome = self.acceptance.accept(message, sender)
        if sender is None and isinstance(message.outcome, Operation):
            return None  # there is nobody to wait for it
        incoming = types.SimpleNamespace(
            client_timeout=None,
            ctxt={server._OUTCOME: message.outcome},
            message=message,
        )
        try:
            answer = self._dispatcher.dispatch(incoming)
            return answer if sender else None
        finally:
            if sender:
                self.acceptance.answered(sender)

    def attach(self, request: Any, call: bool = True) -> Any:
        """The result as an object; None if there is none."""
        found = self.send(
            'attach_volume', call, request=request.obj_to_primitive()
        )
        if found is None:
            return None
        return serializer.from_wire(found, objects.OperationResult, 'result')


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[Worker]:
    made = Worker(tmp_path / 'state')
    yield made
    made.close()


def reply_to(**changes: Any) -> dict[str, Any]:
    """Where to, some of its parts changed."""
    primitive = objects.ReplyTo(**rows.REPLY_TO).obj_to_primitive()
    primitive['versioned_object.data'].update(changes)
    return dict(primitive)


def broken(**changes: Any) -> dict[str, Any]:
    """A request that cannot be used, some of its parts changed."""
    primitive = fakes.attach(reply_to=rows.REPLY_TO).obj_to_primitive()
    data = primitive['versioned_object.data']
    data['min_paths'] = shapes.CANARY
    data.update(changes)
    return primitive


# -- calls


def test_a_call_waits_for_its_result(worker: Worker) -> None:
    result = worker.attach(fakes.attach())
    assert (result.request_id, result.status) == ('request', 'attached')
    assert worker.records.unfinished() == []
    assert worker.delivered == []


def test_a_call_that_joins_gets_the_same_result(worker: Worker) -> None:
    gate = worker.kind.act = fakes.Gate()
    with concurrent.futures.ThreadPoolExecutor() as callers:
        found = [
            callers.submit(worker.attach, fakes.attach()) for _ in range(2)
        ]
        assert worker.kind.ran.wait(PATIENCE)
        gate.open()
        first, second = [one.result(PATIENCE).as_dict() for one in found]
    assert first == second
    assert worker.kind.runs == ['request']


def test_waiting_calls_never_starve_the_others(worker: Worker) -> None:
    # Given calls in all places
    gate = worker.kind.act = fakes.Gate()
    with concurrent.futures.ThreadPoolExecutor() as callers:
        waiting = []
        for number in range(WAITING):
            request = fakes.attach(str(number), attachment_id=str(number))
            worker.kind.ran.clear()
            waiting.append(callers.submit(worker.attach, request))
            assert worker.kind.ran.wait(PATIENCE)
        # When one more comes, then it is told at once, and nothing is kept
        late = fakes.attach('late', attachment_id='late')
        refused = callers.submit(worker.attach, late).result(PATIENCE)
        assert (refused.status, refused.error.code) == ('failed', 'busy')
        assert refused.error.retryable
        assert worker.records.request('late') is None
        # And what needs no place goes on
        assert worker.send('ping') == {'ready': True}
        assert worker.send('list_attachments') == []
        assert worker.send('get_result', request_id='0') is None
        assert worker.attach(late, call=False) is None
        gate.open()
        for one in waiting:
            assert one.result(PATIENCE).status == 'attached'
    # And there is room again
    assert worker.attach(fakes.attach('again')).status == 'attached'


def test_who_sends_again_what_is_accepted_is_not_refused(
    worker: Worker,
) -> None:
    # Given calls in all places
    gate = worker.kind.act = fakes.Gate()
    with concurrent.futures.ThreadPoolExecutor(max_workers=99) as callers:
        waiting = []
        for number in range(WAITING):
            request = fakes.attach(str(number), attachment_id=str(number))
            worker.kind.ran.clear()
            waiting.append(callers.submit(worker.attach, request))
            assert worker.kind.ran.wait(PATIENCE)
        # When the callers have lost their patience, and call once more
        for number in range(WAITING):
            request = fakes.attach(str(number), attachment_id=str(number))
            waiting.append(callers.submit(worker.attach, request))
        limit = time.monotonic() + PATIENCE
        while len(worker.records.calls()) < 2 * WAITING:
            assert time.monotonic() < limit
            time.sleep(0.01)
        # And somebody calls without end, then there is an end
        flood = [callers.submit(worker.attach, request) for _ in range(40)]
        done = concurrent.futures.as_completed(flood, PATIENCE)
        assert next(done).result().error.code == 'busy'
        gate.open()
        # And whoever waits has the result
        for one in waiting:
            assert one.result(PATIENCE).status == 'attached'
        assert 'attached' in {one.result(PATIENCE).status for one in flood}
    assert worker.kind.runs == ['0', '1']
    assert worker.records.calls() == []


@pytest.mark.parametrize('finished', [False, True])
def test_a_call_is_written_down_before_it_is_acknowledged(
    worker: Worker, finished: bool
) -> None:
    """Killed right after that, its worker leaves it to the next one."""
    # Given a request that runs, or has its result
    gate = worker.kind.act = fakes.Gate()
    request = fakes.attach()
    assert worker.attach(request, call=False) is None
    if finished:
        gate.open()
        fakes.ended(worker.operations.find('request'))
    # When somebody calls for it, and that is about to be acknowledged
    call = Call('message', 'queue')
    message = server.Message(
        'attach_volume', request=request.obj_to_primitive()
    )
    worker.acceptance.accept(message, call)
    # Then the next worker would answer
    assert worker.records.calls() == [(call, 'request')]
    [(left, _, outcome)] = worker.acceptance.unanswered()
    assert left == call
    assert isinstance(outcome, objects.OperationResult) == finished
    # And once it has been answered, nobody will
    gate.open()
    worker.acceptance.answered(call)
    assert worker.records.calls() == []


@pytest.mark.parametrize('finished', [False, True])
def test_a_receiver_is_written_down_before_its_cast_is_acknowledged(
    worker: Worker, finished: bool
) -> None:
    # Given a request that runs, or has a result that its receiver has
    gate = worker.kind.act = fakes.Gate()
    request = fakes.attach(reply_to=rows.REPLY_TO)
    assert worker.attach(request, call=False) is None
    if finished:
        gate.open()
        fakes.ended(worker.operations.find('request'))
        worker.records.settle('request', rows.REPLY_TO)
    # When it comes again, to be answered elsewhere or there once more
    other = {**rows.REPLY_TO, 'server': 'other'}
    for reply_to in (other, rows.REPLY_TO):
        again = fakes.attach(reply_to=reply_to)
        message = server.Message(
            'attach_volume', request=again.obj_to_primitive()
        )
        worker.acceptance.accept(message, None)
    # Then the next worker would tell both, and each until its own receipt
    gate.open()
    operation = worker.operations.find('request')
    if not finished:
        fakes.ended(operation)
    [left] = worker.records.undelivered()
    assert sorted(one['server'] for one in left.receivers) == ['other', 's']
    worker.records.settle('request', rows.REPLY_TO)
    [left] = worker.records.undelivered()
    assert left.receivers == (other,)


def test_places_come_back_after_failures(worker: Worker) -> None:
    for _ in range(WAITING + 1):
        with pytest.raises(rpc_dispatcher.ExpectedException):
            worker.send('attach_volume', request=broken())
    worker.attach(fakes.attach())
    for _ in range(WAITING + 1):
        other = fakes.attach(attachment_id='other')
        assert worker.attach(other).error.code == 'attachment_conflict'
    assert worker.attach(fakes.attach('next')).status == 'attached'


def test_a_journal_that_breaks_is_an_error_of_the_call(worker: Worker) -> None:
    with worker.database.transaction() as connection:
        connection.execute('ALTER TABLE requests RENAME TO hidden')
    with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
        worker.attach(fakes.attach())
    assert caught.value.exc_info[0] is exception.JournalUnavailable
    with worker.database.transaction() as connection:
        connection.execute('ALTER TABLE hidden RENAME TO requests')


# -- casts


def test_a_cast_does_not_wait(worker: Worker) -> None:
    gate = worker.kind.act = fakes.Gate()
    assert worker.attach(fakes.attach(), call=False) is None
    assert worker.kind.ran.wait(PATIENCE)
    assert len(worker.records.unfinished()) == 1
    gate.open()


def test_a_cast_that_is_refused_is_told_where_it_says(worker: Worker) -> None:
    worker.attach(fakes.attach())
    other = fakes.attach(attachment_id='other', reply_to=rows.REPLY_TO)
    worker.attach(other, call=False)
    ((request_id, receiver, result),) = worker.delivered
    assert request_id == 'request'
    assert receiver.as_dict() == rows.REPLY_TO
    assert result.error.code == 'attachment_conflict'


def test_a_cast_that_is_sent_again_is_owed_its_result_there_too(
    worker: Worker,
) -> None:
    # Given a cast whose result was confirmed
    worker.attach(fakes.attach(reply_to=rows.REPLY_TO), call=False)
    operation = worker.operations.find('request')
    if not isinstance(operation, objects.OperationResult):
        operation.wait()
    assert worker.records.owed() == 1
    worker.records.settle('request', rows.REPLY_TO)
    # When the caller was started again, and sends it again
    other = {**rows.REPLY_TO, 'server': 'other'}
    worker.attach(fakes.attach(reply_to=other), call=False)
    # Then it is told, and the next worker would tell it
    _, receiver, result = worker.delivered[-1]
    assert receiver.as_dict() == other
    assert result.status == 'attached'
    (owed,) = worker.records.undelivered()
    assert owed.receivers == (other,)


# -- what cannot be decoded


def test_a_call_that_cannot_be_used_raises(worker: Worker) -> None:
    with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
        worker.send('attach_volume', request=broken())
    kind, error, _ = caught.value.exc_info
    assert kind is exception.InvalidConnectionInfo
    assert shapes.CANARY not in str(error)
    assert worker.delivered == []
    assert worker.records.unfinished() == []


def test_a_cast_that_cannot_be_used_is_told_where_it_says(
    worker: Worker,
) -> None:
    with pytest.raises(rpc_dispatcher.ExpectedException):
        worker.send('attach_volume', call=False, request=broken())
    ((request_id, receiver, result),) = worker.delivered
    assert request_id == 'request'
    assert receiver.as_dict() == rows.REPLY_TO
    assert result.status == 'failed'
    assert result.operation == 'attach'
    assert result.error.code == 'invalid_connection_info'
    assert shapes.CANARY not in str(result.as_dict())
    assert worker.records.unfinished() == []


@pytest.mark.parametrize(
    'request_',
    [
        broken(reply_to=None),
        broken(reply_to='somewhere'),
        broken(reply_to=[]),
        broken(reply_to={}),
        broken(reply_to=reply_to(topic=None)),
        broken(reply_to=reply_to(topic=1, server=[])),
        broken(reply_to=reply_to(exchange='a' * 256)),
        broken(reply_to=reply_to(exchange='\0', topic='\ud800')),
        broken(reply_to=fakes.detach().obj_to_primitive()),
        broken(request_id=None),
        broken(request_id=5),
        broken(request_id='a\nb'),
        broken(request_id=''),
        {},
        None,
        'text',
        [],
        5,
        {'versioned_object.name': 'AttachRequest'},
    ],
    ids=lambda one: str(one)[:20],
)
def test_a_cast_that_does_not_say_where_is_dropped(
    worker: Worker, request_: Any
) -> None:
    with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
        worker.send('attach_volume', call=False, request=request_)
    assert caught.value.exc_info[0] is exception.InvalidConnectionInfo
    assert worker.delivered == []
    assert worker.records.unfinished() == []


def test_a_request_of_another_kind_is_none_of_this(worker: Worker) -> None:
    with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
        worker.send('attach_volume', request=fakes.detach().obj_to_primitive())
    assert 'AttachRequest' in str(caught.value.exc_info[1])


# -- questions


def test_questions_about_what_is_not_known(worker: Worker) -> None:
    for method, argument, error in (
        ('get_result', 'request_id', exception.RequestNotFound),
        ('get_attachment', 'attachment_id', exception.AttachmentNotFound),
    ):
        with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
            worker.send(method, **{argument: 'unknown'})
        assert caught.value.exc_info[0] is error
        assert 'unknown' in str(caught.value.exc_info[1])


# -- the dispatcher


@pytest.mark.parametrize(
    ('method', 'version', 'error'),
    [
        ('no_such_method', '1.0', messaging.NoSuchMethod),
        ('_outcome', '1.0', messaging.NoSuchMethod),
        ('__init__', '1.0', messaging.NoSuchMethod),
        ('target', '1.0', messaging.NoSuchMethod),
        ('ping', '1.99', messaging.UnsupportedVersion),
        ('ping', '2.0', messaging.UnsupportedVersion),
    ],
)
def test_what_is_not_served_is_refused(
    worker: Worker, method: str, version: str, error: type[Exception]
) -> None:
    with pytest.raises(rpc_dispatcher.ExpectedException) as caught:
        worker.send(method, version=version)
    assert caught.value.exc_info[0] is error


@pytest.mark.parametrize(('kind', 'method'), objects.METHODS.items())
def test_each_kind_of_request_has_its_method(
    worker: Worker, kind: str, method: str
) -> None:
    # Given a request of one kind
    asked = {
        'attach': fakes.attach('one'),
        'detach': objects.DetachRequest(request_id='one', attachment_id='a'),
        'extend': objects.ExtendRequest(request_id='one', attachment_id='a'),
        'rotate': objects.RotateKeyRequest(
            request_id='one', attachment_id='a', old_key='k', new_key='l'
        ),
    }[kind]
    # When it is sent to the method of another one, then it is refused
    for other in objects.METHODS.values():
        if other != method:
            with pytest.raises(rpc_dispatcher.ExpectedException):
                worker.send(
                    other, version='1.1', request=asked.obj_to_primitive()
                )
    # And nothing is known by the bare name of a kind
    assert worker.acceptance.accept(server.Message(kind), None) is None
    # When it is sent to its own, then it is what the journal has
    worker.send(method, False, '1.1', request=asked.obj_to_primitive())
    record = worker.records.request('one')
    assert record is not None
    assert record.operation == kind
