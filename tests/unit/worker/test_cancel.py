# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests that are cancelled before they have their result."""

from attachworker import exception
from attachworker.journal import Records
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.intake import Operations
from tests.unit.worker import fakes


def test_a_queued_attach_never_starts(
    operations: Operations, kind: fakes.FakeKind, finished: list[str]
) -> None:
    # Given one attach that runs and one that waits
    gate = kind.act = fakes.Gate()
    first = operations.submit('attach', fakes.attach('first'))
    second = operations.submit('attach', fakes.attach('second'))
    # When the one that waits is cancelled
    assert operations.cancel('second') is True
    # Then it has its result at once, and does not run
    assert second.wait().error.code == 'cancelled'
    assert finished == ['second']
    # And its place is free
    third = operations.submit('attach', fakes.attach('third'))
    gate.open()
    for operation in (first, third):
        assert operation.wait().status == 'attached'
    assert kind.runs == ['first', 'third']
    # And there is nothing to cancel any more
    assert operations.cancel('second') is False


def test_a_running_attach_is_told(
    operations: Operations, kind: fakes.FakeKind, records: Records
) -> None:
    gate = fakes.Gate()
    seen: list[bool] = []

    def act(operation: object) -> None:
        operation.when_cancelled(gate.open)
        gate(operation)
        seen.append(operation.deadline.cancelled)
        raise exception.OperationCancelled(step='this one')

    kind.act = act
    operation = operations.submit('attach', fakes.attach())
    assert kind.ran.wait(fakes.PATIENCE)
    assert operations.cancel('request') is True
    assert operation.wait().error.code == 'cancelled'
    assert seen == [True]
    assert records.request('request').cancelled is True


def test_what_an_earlier_worker_began_waits_for_its_turn(
    operations: Operations,
    dispatcher: Dispatcher,
    kind: fakes.FakeKind,
    records: Records,
) -> None:
    # Given an unfinished attach of an earlier worker, behind another one
    gate = kind.act = fakes.Gate()
    operations.submit('attach', fakes.attach('first'))
    operations.submit('attach', fakes.attach('second'))
    assert dispatcher.remove(operations.find('second'))
    resumed = operations.recall(records.request('second'))
    operations.resume(resumed)
    # When it is cancelled
    assert operations.cancel('second') is True
    # Then it is undone where nobody else works on its attachment
    assert resumed.result is None
    gate.open()
    assert resumed.wait().error.code == 'cancelled'
    assert kind.runs == ['first']


def test_only_an_attach_can_be_cancelled(
    operations: Operations, kind: fakes.FakeKind
) -> None:
    gate = kind.act = fakes.Gate()
    operation = operations.submit('detach', fakes.detach())
    assert operations.cancel('request') is False
    assert operations.cancel('unknown') is False
    gate.open()
    assert operation.wait().status == 'attached'
