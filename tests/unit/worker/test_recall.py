# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Requests that an earlier worker accepted."""

import datetime
import pathlib
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.journal import Records
from attachworker.journal import Sealer
from attachworker.journal import without_secrets
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from tests.unit.journal import rows
from tests.unit.objects import shapes
from tests.unit.worker import fakes


def test_a_request_goes_on_after_a_restart(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    gate = kind.act = fakes.Gate()
    given = fakes.detach()
    at = deadlines.now() + 77.0
    row = rows.request(
        operation='detach',
        digest=given.content_digest(),
        body=given.obj_to_primitive(),
        deadline=at,
    )
    records.accept(row)
    # When it is resumed, then it is the one that is joined
    operations.resume(operations.recall(row))
    joined = operations.submit('detach', fakes.detach())
    assert isinstance(joined, Operation)
    # and has the time that it had
    assert joined.deadline.at == at
    gate.open()
    fakes.ended(joined)
    assert kind.runs == ['request']
    assert records.unfinished() == []


@pytest.mark.parametrize(
    ('age', 'least', 'most'),
    # A clock without a battery starts anew: that of this boot, or that of the
    # boot before, which was not set when the request came.
    [
        (30.0, 20, 30),
        (-50 * 365 * 86400.0, 50, 60),
        (50 * 365 * 86400.0, 50, 60),
    ],
)
def test_a_deadline_after_a_reboot_goes_by_the_clock(
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
    age: float,
    least: int,
    most: int,
) -> None:
    """Seconds since another boot say nothing about this one."""
    # Given a request with a minute, taken after a month of uptime, and half
    # a minute ago
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    given = fakes.detach()
    row = rows.request(
        operation='detach',
        digest=given.content_digest(),
        body=given.obj_to_primitive(),
        boot_id='the boot before',
        accepted=deadlines.now() + 30 * 86400.0,
        deadline=deadlines.now() + 30 * 86400.0 + 60,
        created_at=ago.isoformat(),
    )
    records.accept(row)
    # When it is resumed, then it has the other half, and never more than all
    gate = kind.act = fakes.Gate()
    operations.resume(operations.recall(row))
    joined = operations.submit('detach', fakes.detach())
    assert isinstance(joined, Operation)
    assert least < joined.deadline.remaining() <= most
    gate.open()
    fakes.ended(joined)


def test_a_late_detach_has_time_to_be_finished(
    operations: Operations, records: Records
) -> None:
    given = fakes.detach()
    row = rows.request(
        operation='detach',
        body=given.obj_to_primitive(),
        deadline=deadlines.now() - 1,
    )
    records.accept(row)
    assert operations.recall(row).deadline.remaining() > 200


def test_a_late_attach_has_no_time_left(
    operations: Operations, records: Records
) -> None:
    given = fakes.attach()
    row = rows.request(
        body=without_secrets(given), deadline=deadlines.now() - 1
    )
    records.accept(row)
    assert operations.recall(row).deadline.remaining() == 0


def test_the_secrets_of_an_unfinished_request_come_back(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    # Given a request that was accepted and not finished
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach())
    row = records.request('request')
    assert row.sealed is not None
    assert shapes.CANARY.encode() not in row.sealed
    # Then a worker that goes on with it has them
    info = operations.recall(row).request.connection_info
    assert info.auth_password == shapes.CANARY
    # And once it is finished, they are gone for good
    gate.open()
    fakes.ended(first)
    assert records.request('request').sealed is None


def test_without_their_key_they_are_lost(
    tmp_path: pathlib.Path,
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
) -> None:
    gate = kind.act = fakes.Gate()
    operations.submit('attach', fakes.attach())
    row = records.request('request')
    (key,) = (tmp_path / 'run').iterdir()
    key.unlink()
    other = Sealer(tmp_path / 'run', str(tmp_path))
    found = Operations(
        records,
        other,
        Dispatcher(1, 1, 1),
        {'attach': kind},
        'boot',
        300.0,
        lambda operation: None,
    ).recall(row)
    assert isinstance(found.abandoned, exception.SecretsLost)
    gate.open()


def test_what_was_begun_too_often_is_given_up(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    given = fakes.detach()
    row = rows.request(operation='detach', body=given.obj_to_primitive())
    records.accept(row)
    # Given a worker that was started three times with it unfinished
    for _ in range(3):
        assert operations.recall(records.request('request')).abandoned is None
        records.count_attempt('request')
    # Then the fourth time it ends
    operation = operations.recall(records.request('request'))
    assert isinstance(operation.abandoned, exception.WorkerRestarted)
    operations.resume(operation)
    assert fakes.ended(operation).status == 'failed'
    assert kind.runs == []


def test_what_only_waits_is_not_begun_too_often(
    tmp_path: pathlib.Path, records: Records, kind: fakes.FakeKind
) -> None:
    """However often its worker is started again meanwhile."""
    # Given a request behind another one that takes all places
    gate = kind.act = fakes.Gate()
    for name in ('runs', 'waits'):
        given = fakes.attach(name, attachment_id=name)
        records.accept(
            rows.request(
                name,
                attachment_id=name,
                digest=given.content_digest(),
                body=without_secrets(given),
                deadline=deadlines.now() + 77.0,
            )
        )
    # When the worker is started again and again, once too often for the one
    for start in range(4):
        dispatcher = Dispatcher(1, 1, 1)
        operations = Operations(
            records,
            Sealer(tmp_path / 'run', str(tmp_path)),
            dispatcher,
            {'attach': kind},
            'boot',
            300.0,
            lambda operation: None,
        )
        first, second = map(operations.recall, records.unfinished())
        assert (first.abandoned is None) == (start < 3)
        for operation in (first, second):
            operations.resume(operation)
        if start < 3:
            kind.ran.clear()
            dispatcher.start()
            assert kind.ran.wait(fakes.PATIENCE)
            assert not dispatcher.stop(0)
    # Then the other one was never begun, and is done
    assert second.abandoned is None
    gate.open()
    dispatcher.start()
    assert fakes.ended(second).status == 'attached'
    assert dispatcher.stop(fakes.PATIENCE)


@pytest.mark.parametrize(
    'body',
    [
        {},
        {'versioned_object.name': 'Unknown'},
        fakes.detach().obj_to_primitive()
        | {'versioned_object.version': '9.0'},
    ],
    ids=['empty', 'unknown', 'newer'],
)
def test_a_request_that_cannot_be_read_is_told(
    operations: Operations, body: dict[str, Any]
) -> None:
    with pytest.raises(exception.JournalUnavailable, match='request'):
        operations.recall(rows.request(operation='detach', body=body))


def test_a_cancelled_attach_stays_cancelled_after_a_restart(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    # Given an attach that was cancelled, and not undone before the worker died
    given = fakes.attach()
    records.accept(
        rows.request(
            digest=given.content_digest(),
            body=without_secrets(given),
            deadline=deadlines.now() + 77.0,
        )
    )
    assert records.cancel('request')
    # When the next worker finds it
    (row,) = records.unfinished()
    operation = operations.recall(row)
    operations.resume(operation)
    # Then it is undone, not done again
    assert fakes.ended(operation).status == 'failed'
    assert isinstance(operation.abandoned, exception.OperationCancelled)
    assert kind.runs == []
