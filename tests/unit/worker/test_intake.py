# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every request is taken once, and has one result."""

import concurrent.futures
import dataclasses
import logging
import pathlib
import time
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.journal import Sealer
from attachworker.journal import records as journal_records
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from tests.unit.journal import rows
from tests.unit.objects import shapes
from tests.unit.worker import fakes

# -- once


def test_a_request_is_written_down_before_it_runs(
    operations: Operations, records: Records, kind: fakes.FakeKind
) -> None:
    seen: list[Any] = []
    kind.act = lambda operation: seen.append(records.request('request'))
    before = deadlines.now()
    fakes.ended(operations.submit('attach', fakes.attach(deadline_seconds=60)))
    (row,) = seen
    assert (row.operation, row.attachment_id) == ('attach', 'attachment')
    assert row.result is None
    assert row.boot_id == 'boot'
    assert before <= row.accepted <= deadlines.now()
    assert row.deadline == row.accepted + 60
    assert shapes.CANARY not in str(row.body)


def test_the_default_deadline(
    operations: Operations, records: Records
) -> None:
    operation = operations.submit('attach', fakes.attach())
    fakes.ended(operation)
    row = records.request('request')
    assert row.deadline == row.accepted + 300
    assert operation.deadline.at == row.deadline


def test_the_same_request_joins_the_running_one(
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
    finished: list[str],
) -> None:
    # Given a request that runs
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach())
    assert kind.ran.wait(fakes.PATIENCE)
    # When it is sent again, as patient or less, to be answered elsewhere
    other = {**rows.REPLY_TO, 'server': 'other'}
    for reply_to in (rows.REPLY_TO, other, other):
        again = operations.submit(
            'attach', fakes.attach(deadline_seconds=5, reply_to=reply_to)
        )
        # Then that is the same one, and it runs once
        assert again is first
    # And it is answered there, also if the next worker has to do it
    recalled = operations.recall(records.request('request'))
    for operation in (first, recalled):
        told = {each.server for each in operation.reply_to}
        assert told == {rows.REPLY_TO['server'], 'other'}
    gate.open()
    assert fakes.ended(first).status == 'attached'
    assert kind.runs == ['request']
    assert finished == ['request']


def test_the_same_request_has_the_same_result(
    operations: Operations, kind: fakes.FakeKind
) -> None:
    result = fakes.ended(operations.submit('attach', fakes.attach()))
    again = operations.submit('attach', fakes.attach())
    assert isinstance(again, objects.OperationResult)
    assert again.as_dict() == result.as_dict()
    assert kind.runs == ['request']


def test_of_many_at_once_one_runs(
    operations: Operations, kind: fakes.FakeKind
) -> None:
    gate = kind.act = fakes.Gate()
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        found = [
            callers.submit(operations.submit, 'attach', fakes.attach())
            for _ in range(8)
        ]
        taken = {id(one.result(fakes.PATIENCE)) for one in found}
        gate.open()
    assert len(taken) == 1
    fakes.ended(found[0].result())
    assert kind.runs == ['request']


@pytest.mark.parametrize('when', ['running', 'done'])
@pytest.mark.parametrize(
    ('other', 'request_'),
    [
        ('attach', fakes.attach(attachment_id='other')),
        ('attach', fakes.attach(connection_info=shapes.lio(target_lun=9))),
        ('attach', fakes.attach(multipath=True)),
        ('detach', fakes.detach()),
    ],
)
def test_the_same_id_with_other_content_is_refused(
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
    when: str,
    other: str,
    request_: Any,
) -> None:
    # Given a request that runs, or has run
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach())
    if when == 'done':
        gate.open()
        fakes.ended(first)
    before = records.request('request')
    # When its id comes with something else
    with pytest.raises(exception.AttachmentConflict, match='Request request'):
        operations.submit(other, request_)
    # Then the first one is not touched
    gate.open()
    assert fakes.ended(first).status == 'attached'
    after = records.request('request')
    assert dataclasses.replace(after, result=None) == dataclasses.replace(
        before, result=None, sealed=None
    )
    assert kind.runs == ['request']


def test_other_credentials_are_no_other_content(
    operations: Operations, kind: fakes.FakeKind
) -> None:
    fakes.ended(operations.submit('attach', fakes.attach()))
    info = shapes.lio(auth_username='new', auth_password='new')
    again = operations.submit('attach', fakes.attach(connection_info=info))
    assert isinstance(again, objects.OperationResult)


# -- busy


def test_busy_is_not_stored(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    # Given a full queue
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach('1'))
    assert kind.ran.wait(fakes.PATIENCE)
    second = operations.submit('attach', fakes.attach('2'))
    # When one more comes, then it is refused, and nothing is kept of it
    with pytest.raises(exception.WorkerBusy):
        operations.submit('attach', fakes.attach('3'))
    assert records.request('3') is None
    # But the ones that are known can be joined still
    assert operations.submit('attach', fakes.attach('2')) is second
    # And once there is room, the same request is taken
    gate.open()
    fakes.ended(first)
    fakes.ended(second)
    third = operations.submit('attach', fakes.attach('3'))
    assert fakes.ended(third).status == 'attached'


def test_a_cast_is_refused_whose_receiver_confirms_nothing(
    operations: Operations,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a receiver that has not confirmed what it may have at most
    monkeypatch.setattr(journal_records, 'MOST_OWED_TO_ONE', 1)
    first = fakes.attach('1', reply_to=rows.REPLY_TO)
    fakes.ended(operations.submit('attach', first))
    # When it is to get one more, then that is refused
    with pytest.raises(exception.WorkerBusy, match='let it confirm'):
        operations.submit('attach', fakes.attach('2', reply_to=rows.REPLY_TO))
    assert records.request('2') is None
    # But the same again is answered, and so is who waits elsewhere
    assert operations.submit('attach', first).status == 'attached'
    fakes.ended(operations.submit('attach', fakes.attach('3')))


def test_who_asks_again_from_elsewhere_is_told_what_came_of_it(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a request that is known, and no room for one more result
    def wanted_at(server: str) -> objects.AttachRequest:
        to = rows.REPLY_TO | {'server': server}
        return fakes.attach('1', reply_to=to)

    fakes.ended(operations.submit('attach', wanted_at('first')))
    monkeypatch.setattr(journal_records, 'MOST_OWED', 1)
    # When it comes with another receiver, then nobody says "busy"
    result = operations.submit('attach', wanted_at('second'))
    assert result.status == 'attached'
    # But there is an end to the receivers of one request
    monkeypatch.setattr(journal_records, 'MOST_RECEIVERS', 2)
    operations.submit('attach', wanted_at('second'))
    with pytest.raises(exception.WorkerBusy, match='let it confirm'):
        operations.submit('attach', wanted_at('third'))


def test_a_detach_behind_its_attach_is_known_by_its_volume(
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
    dispatcher: Dispatcher,
) -> None:
    # Given an attach that has not written down its attachment
    gate = kind.act = fakes.Gate()
    kind.find_info = lambda: fakes.attach().connection_info
    attach = operations.submit('attach', fakes.attach('1'))
    assert kind.ran.wait(fakes.PATIENCE)
    # When its detach is accepted
    kind.find_info = lambda: None
    detach = operations.submit('detach', fakes.detach('2'))
    # Then that waits for its volume, at the expense of its storage
    assert attach.backend
    assert (detach.backend, detach.keys) == (attach.backend, attach.keys)
    # And so it does after a restart
    assert dispatcher.remove(detach)
    resumed = operations.recall(records.request('2'))
    assert resumed.backend == ''
    operations.resume(resumed)
    assert (resumed.backend, resumed.keys) == (attach.backend, attach.keys)
    gate.open()
    for operation in (attach, resumed):
        assert fakes.ended(operation).status == 'attached'


# -- a journal that breaks


def test_nothing_is_taken_that_cannot_be_written_down(
    operations: Operations, kind: fakes.FakeKind, database: Database
) -> None:
    with database.transaction() as connection:
        connection.execute('ALTER TABLE requests RENAME TO hidden')
    with pytest.raises(exception.JournalUnavailable):
        operations.submit('attach', fakes.attach())
    assert kind.runs == []
    # And when the journal is back, then it is taken
    with database.transaction() as connection:
        connection.execute('ALTER TABLE hidden RENAME TO requests')
    fakes.ended(operations.submit('attach', fakes.attach()))
    assert kind.runs == ['request']


def test_who_waits_is_told_that_the_journal_broke(
    operations: Operations,
    kind: fakes.FakeKind,
    database: Database,
    records: Records,
    finished: list[str],
) -> None:
    # Given an operation during which the journal breaks
    gate = fakes.Gate()

    def act(operation: Any) -> None:
        gate(operation)
        with database.transaction() as connection:
            connection.execute('ALTER TABLE requests RENAME TO hidden')

    kind.act = act
    operation = operations.submit('attach', fakes.attach())
    assert kind.ran.wait(fakes.PATIENCE)
    gate.open()
    # Then all who wait are told, and nobody is told of a result
    for _ in range(2):
        with pytest.raises(exception.JournalUnavailable):
            fakes.ended(operation)
    assert finished == []
    # And once the journal is back, the result is written, without a restart
    with database.transaction() as connection:
        connection.execute('ALTER TABLE hidden RENAME TO requests')
    limit = time.monotonic() + fakes.PATIENCE
    while not finished:
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert records.unfinished() == []
    # And who asks again has it
    assert fakes.ended(operation).status == 'attached'
    again = operations.submit('attach', fakes.attach())
    assert again.status == 'attached'


def test_a_full_disk_holds_up_no_other_deadline(
    operations: Operations,
    kind: fakes.FakeKind,
    database: Database,
    dispatcher: Dispatcher,
    records: Records,
) -> None:
    # Given two requests that wait, when the journal breaks
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach('1'))
    assert kind.ran.wait(fakes.PATIENCE)
    late = []
    for name in '23':
        operation = operations.submit(
            'attach', fakes.attach(name, deadline_seconds=1)
        )
        assert dispatcher.remove(operation)
        late.append(operation)
    with database.transaction() as connection:
        connection.execute('ALTER TABLE requests RENAME TO hidden')
    # When their time is over, then both callers are told that there is no
    # result now
    for operation in late:
        dispatcher.add(operation)
    for operation in late:
        with pytest.raises(exception.JournalUnavailable):
            fakes.ended(operation)
    # And both have their result once there can be one, without a restart
    with database.transaction() as connection:
        connection.execute('ALTER TABLE hidden RENAME TO requests')
    limit = time.monotonic() + fakes.PATIENCE
    while any(one.result is None for one in late):
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert {one.result.error.code for one in late} == {'deadline_exceeded'}
    gate.open()
    assert fakes.ended(first).status == 'attached'
    assert records.unfinished() == []
    assert kind.runs == ['1']


def test_a_request_that_cannot_be_queued_is_not_accepted(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    """Otherwise nobody would run it, nor could it be sent again."""
    # Given an operation that breaks down before it is queued
    kept = kind.find_info

    def info() -> None:
        raise exception.JournalUnavailable(path='journal', reason='broken')

    kind.find_info = info
    with pytest.raises(exception.JournalUnavailable):
        operations.submit('detach', fakes.detach())
    # When it is sent again later, then it is taken
    kind.find_info = kept
    again = operations.submit('detach', fakes.detach())
    fakes.ended(again)
    assert kind.runs == ['request']
    assert records.unfinished() == []


# -- what the log says


def test_a_failure_is_logged_as_a_warning_and_a_success_is_not(
    operations: Operations,
    kind: fakes.FakeKind,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    fakes.ended(operations.submit('attach', fakes.attach('good')))

    def fail(operation: Operation) -> None:
        error = exception.WwnNotFound(device='sda')
        operation.conclude(operation.failed(error, 'FindWwn'))

    kind.act = fail
    fakes.ended(operations.submit('attach', fakes.attach('bad')))
    told = {
        record.levelname: record.getMessage()
        for record in caplog.records
        if ' in ' in record.getMessage()
    }
    assert 'attached' in told['INFO']
    # with all that an operator looks for
    for word in ('attachment', 'bad', 'wwn_not_found', 'FindWwn'):
        assert word in told['WARNING']


# -- bugs


def test_a_bug_ends_in_a_result(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    def act(operation: Any) -> None:
        raise RuntimeError('a secret')

    kind.act = act
    result = fakes.ended(operations.submit('attach', fakes.attach()))
    assert result.status == 'failed'
    assert result.error.code == 'internal'
    assert 'secret' not in str(result.as_dict())
    assert records.unfinished() == []


def test_a_bug_after_the_result_changes_nothing(
    operations: Operations, kind: fakes.FakeKind
) -> None:
    def act(operation: Any) -> None:
        operation.succeed()
        raise RuntimeError('too late')

    kind.act = act
    result = fakes.ended(operations.submit('attach', fakes.attach()))
    assert result.status == 'attached'
    assert kind.failed == []


def test_who_waits_has_the_result_even_if_telling_others_breaks(
    tmp_path: pathlib.Path,
    records: Records,
    dispatcher: Any,
    kind: fakes.FakeKind,
) -> None:
    # Given nobody who could be told
    def on_finish(operation: Operation) -> None:
        raise RuntimeError('the bus is gone')

    operations = Operations(
        records,
        Sealer(tmp_path, 'state'),
        dispatcher,
        {'attach': kind},
        'boot',
        300.0,
        on_finish,
    )
    # Then who waits has the result nevertheless
    result = fakes.ended(operations.submit('attach', fakes.attach()))
    assert result.status == 'attached'
