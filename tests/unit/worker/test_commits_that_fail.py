# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A commit that fails at the end of a request costs nobody the result."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import resource
import sqlite3
import threading
import time

import pytest

from attachworker import exception
from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.worker.intake import Operations
from tests.unit.worker import fakes

Break = Callable[[Database], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def full(database: Database) -> Iterator[None]:
    """There is no room for one more page."""
    with database.transaction() as connection:
        ((pages,),) = connection.execute('PRAGMA page_count')
        connection.execute(f'PRAGMA max_page_count = {pages}')
    yield
    with database.transaction() as connection:
        connection.execute('PRAGMA max_page_count = 1000000')


@contextlib.contextmanager
def locked(database: Database) -> Iterator[None]:
    """Somebody else has begun to write, an operator with a shell say."""
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    yield
    other.close()


@contextlib.contextmanager
def failing(database: Database) -> Iterator[None]:
    """What is written to its log cannot be: to SQLite that is EIO."""
    size = database.path.with_name(f'{database.path.name}-wal').stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    'mistake',
    [
        LookupError('what was done'),
        exception.RecordUnreadable(what='attachment', reason='LookupError'),
    ],
)
def test_a_mistake_in_what_it_means_costs_nobody_the_result(
    operations: Operations,
    kind: fakes.FakeKind,
    records: Records,
    finished: list[str],
    mistake: Exception,
) -> None:
    # Given a request that breaks down, and so does what is to be noted of it
    def act(operation: fakes.FakeOperation) -> None:
        raise RuntimeError('a step')

    def fail(error: exception.AttachWorkerError) -> None:
        raise mistake

    kind.act, kind.fail = act, fail
    # Then it has its result, without a restart
    result = fakes.ended(operations.submit('attach', fakes.attach()))
    assert (result.status, result.error.code) == ('failed', 'internal')
    assert finished == ['request']
    assert records.unfinished() == []


@pytest.mark.parametrize(
    ('break_it', 'reason'),
    [(full, 'full'), (locked, 'locked'), (failing, 'I/O error')],
)
def test_the_result_is_written_as_soon_as_it_can_be(
    operations: Operations,
    kind: fakes.FakeKind,
    database: Database,
    records: Records,
    finished: list[str],
    break_it: Break,
    reason: str,
) -> None:
    # Given a request that runs
    goes_on = threading.Event()

    def act(operation: fakes.FakeOperation) -> None:
        assert goes_on.wait(fakes.PATIENCE)
        result = operation.result_of('attached', warnings=['x' * 100_000])
        operation.conclude(result)

    kind.act = act
    operation = operations.submit('attach', fakes.attach())
    assert kind.ran.wait(fakes.PATIENCE)
    # When its result cannot be written, then who waits is told why
    with break_it(database):
        goes_on.set()
        with pytest.raises(exception.JournalUnavailable, match=reason):
            fakes.ended(operation)
        assert finished == []
    # And it is written once it can be, without a restart
    limit = time.monotonic() + fakes.PATIENCE
    while not finished:
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert records.unfinished() == []
    again = operations.submit('attach', fakes.attach())
    assert again.status == 'attached'
