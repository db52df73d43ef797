# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The file of the journal: who may use it, and what a transaction is."""

import concurrent.futures
import os
import pathlib
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.journal import Call
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.journal import database as databases
from tests.unit.journal import rows

PATIENCE = 10.0
INSERT = 'INSERT INTO calls VALUES (?, ?, ?, ?)'


def refused(directory: pathlib.Path) -> str:
    """What is said of a journal that cannot be opened."""
    with pytest.raises(exception.JournalUnavailable) as caught:
        Database(directory)
    text = str(caught.value)
    assert str(directory) in text
    return text


def names(database: Database) -> list[str]:
    rows = database.rows('SELECT message_id FROM calls ORDER BY message_id')
    return [row['message_id'] for row in rows]


def put(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, (name, 'request', 'queue', 1))


# -- opening


def test_what_is_written_is_there_after_a_restart(
    directory: pathlib.Path,
) -> None:
    first = Database(directory)
    put(first, 'one')
    first.close()
    second = Database(directory)
    assert names(second) == ['one']
    second.close()


def test_nobody_else_can_read_it(directory: pathlib.Path) -> None:
    # Given a directory that everybody may look into
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    # When the journal is written to
    database = Database(directory)
    put(database, 'one')
    # Then none of its files is for others, the log of SQLite included
    found = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in directory.iterdir()
    }
    assert 'journal.sqlite-wal' in found
    assert set(found.values()) == {0o600}, found
    database.close()


def test_a_new_directory_is_ours_alone(directory: pathlib.Path) -> None:
    Database(directory).close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_second_owner_is_refused(
    directory: pathlib.Path, database: Database
) -> None:
    assert 'another worker uses it' in refused(directory)
    put(database, 'one')
    assert names(database) == ['one']


def test_an_owner_in_another_process_is_refused(
    directory: pathlib.Path, database: Database
) -> None:
    code = (
        'import pathlib, sys\n'
        'from attachworker.journal import Database\n'
        'Database(pathlib.Path(sys.argv[1]))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'another worker uses it' in done.stderr


def test_the_next_owner_may_come_after_the_first(
    directory: pathlib.Path,
) -> None:
    Database(directory).close()
    Database(directory).close()


def test_a_newer_version_is_refused_and_left_alone(
    directory: pathlib.Path,
) -> None:
    # Given a journal that a later version has written
    database = Database(directory)
    put(database, 'one')
    newer = databases.SCHEMA_VERSION + 1
    with database.transaction() as connection:
        connection.execute(f'PRAGMA user_version = {newer}')
    database.close()
    before = (directory / 'journal.sqlite').read_bytes()
    # When this version opens it, however often
    for _ in range(2):
        text = refused(directory)
        # Then it says which version it is, and who can read it
        assert f'its version is {newer}' in text
        assert 'start the version that wrote it' in text
    assert (directory / 'journal.sqlite').read_bytes() == before


@pytest.mark.parametrize('content', [b'no journal' * 1000, b'SQLite format 3'])
def test_a_file_that_is_no_journal(
    directory: pathlib.Path, content: bytes
) -> None:
    directory.mkdir()
    (directory / 'journal.sqlite').write_bytes(content)
    assert 'not a database' in refused(directory)
    assert (directory / 'journal.sqlite').read_bytes() == content


@pytest.mark.parametrize('size', [None, 0, 1, 15, 50, 99, 511, 512, 4096])
def test_a_journal_that_was_there_is_not_made_anew(
    directory: pathlib.Path, size: int | None
) -> None:
    """A disk that has lost it forgets nothing that is attached."""
    # Given a journal that has been in use, and lost or cut off since
    Database(directory).close()
    path = directory / 'journal.sqlite'
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    # When it is opened, however often
    for _ in range(2):
        text = refused(directory)
        # Then there is a way out
        assert 'copy' in text
        assert str(directory / 'lock') in text
        for look in (databases.version, databases.Reader):
            with pytest.raises(exception.JournalUnavailable, match='copy'):
                look(directory)
        # And nobody makes another one in its place
        assert path.exists() == (size is not None)
        assert size is None or path.stat().st_size == size
    # And whoever has no copy takes it
    for left in directory.glob('journal.sqlite*'):
        left.unlink()
    (directory / 'lock').unlink()
    Database(directory).close()


def test_one_byte_that_an_earlier_version_has_left_is_no_new_journal(
    directory: pathlib.Path,
) -> None:
    # Given what is left of a journal of before there was a mark of it
    directory.mkdir()
    (directory / 'journal.sqlite').write_bytes(b'S')
    assert 'copy' in refused(directory)


def test_a_first_start_that_was_cut_short_is_one_still(
    directory: pathlib.Path,
) -> None:
    # Given a worker that was killed before it had made its journal
    directory.mkdir()
    (directory / 'lock').touch()
    made = sqlite3.connect(directory / 'journal.sqlite')
    made.execute('PRAGMA journal_mode = WAL')
    made.close()
    # Then the next one makes it
    Database(directory).close()
    assert databases.version(directory) == databases.SCHEMA_VERSION


def test_a_journal_in_whose_place_is_a_directory(
    directory: pathlib.Path,
) -> None:
    (directory / 'journal.sqlite').mkdir(parents=True)
    assert 'unable to open' in refused(directory)


def test_a_directory_in_whose_place_is_a_file(
    directory: pathlib.Path,
) -> None:
    directory.write_text('')
    refused(directory)


def test_whoever_was_refused_keeps_nothing(directory: pathlib.Path) -> None:
    # Given a journal that could not be opened
    directory.mkdir()
    broken = directory / 'journal.sqlite'
    broken.write_bytes(b'no journal' * 1000)
    refused(directory)
    open_files = len(os.listdir('/proc/self/fd'))
    refused(directory)
    assert len(os.listdir('/proc/self/fd')) == open_files
    # When the operator has put it right, then it can be, without a restart
    broken.unlink()
    Database(directory).close()


# -- transactions


def test_a_transaction_that_fails_has_changed_nothing(
    database: Database,
) -> None:
    put(database, 'one')

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute(INSERT, ('portal', 'two', 'boot', 1))
            raise LookupError('cause')

    with pytest.raises(LookupError, match='cause'):
        fail()
    assert names(database) == ['one']
    # And the next one works
    put(database, 'three')
    assert names(database) == ['one', 'three']


def test_a_statement_that_fails_is_told_as_such(database: Database) -> None:
    put(database, 'one')
    with pytest.raises(exception.JournalUnavailable) as caught:
        put(database, 'one')
    assert 'UNIQUE' in str(caught.value)
    assert str(database.path) in str(caught.value)
    put(database, 'two')


def test_a_full_disk(database: Database) -> None:
    # Given a journal that cannot grow
    put(database, 'one')
    with database.transaction() as connection:
        (pages,) = connection.execute('PRAGMA page_count').fetchone()
        connection.execute(f'PRAGMA max_page_count = {pages}')
    # When too much is written
    with pytest.raises(exception.JournalUnavailable) as caught:
        put(database, 'x' * 100_000)
    # Then the true cause is told
    assert 'full' in str(caught.value)
    # And what was there is there, and there is a way on
    assert names(database) == ['one']
    with database.transaction() as connection:
        connection.execute('PRAGMA max_page_count = 100000')
    put(database, 'two')
    assert names(database) == ['one', 'two']


def test_a_lock_of_somebody_else_holds_up_no_question(
    database: Database,
) -> None:
    # Given somebody who has begun to write, and many who want to
    put(database, 'one')
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        began = time.monotonic()
        wanted = [threads.submit(put, database, str(n)) for n in range(8)]
        # Then who only reads does not wait for all of these
        assert names(database) == ['one']
        # And these are told soon
        for one in wanted:
            with pytest.raises(
                exception.JournalUnavailable, match='locked'
            ) as caught:
                one.result()
            assert caught.value.passing
        assert time.monotonic() - began < 15
    other.close()
    put(database, 'two')
    assert names(database) == ['one', 'two']


def test_a_commit_that_fails(database: Database) -> None:
    """What was not committed is gone, and the next one is not hindered."""
    with database.transaction() as connection:
        connection.execute('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
        connection.execute(
            'CREATE TABLE child (id INTEGER REFERENCES parent'
            ' DEFERRABLE INITIALLY DEFERRED)'
        )
    database.rows('PRAGMA foreign_keys = ON')

    def commit() -> None:
        with database.transaction() as connection:
            connection.execute(INSERT, ('portal', 'one', 'boot', 1))
            connection.execute('INSERT INTO child VALUES (1)')

    with pytest.raises(exception.JournalUnavailable, match='FOREIGN KEY'):
        commit()
    assert names(database) == []
    put(database, 'two')
    assert names(database) == ['two']


def test_nobody_sees_half_of_a_transaction(
    directory: pathlib.Path, database: Database
) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, ('portal', 'one', 'boot', 1))
        other = sqlite3.connect(directory / 'journal.sqlite')
        assert other.execute('SELECT * FROM calls').fetchall() == []
    assert len(other.execute('SELECT * FROM calls').fetchall()) == 1
    other.close()


def test_threads_write_one_after_another(database: Database) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        wanted = [f'{number:03}' for number in range(100)]
        list(threads.map(lambda name: put(database, name), wanted))
    assert names(database) == wanted


def test_each_change_waits_for_the_disk(database: Database) -> None:
    (row,) = database.rows('PRAGMA synchronous')
    assert tuple(row) == (2,)  # FULL
    (row,) = database.rows('PRAGMA journal_mode')
    assert tuple(row) == ('wal',)


def test_only_what_does_not_last_does_not_wait_for_the_disk(
    database: Database,
) -> None:
    def how(lasting: bool) -> int:
        with database.transaction(lasting) as connection:
            ((found,),) = connection.execute('PRAGMA synchronous')
            return int(found)

    assert [how(False), how(True), how(False)] == [1, 2, 1]
    # What comes next does, if it does not say anything
    put(database, 'one')
    (row,) = database.rows('PRAGMA synchronous')
    assert tuple(row) == (2,)


@pytest.mark.parametrize('lasting', [True, False])
def test_what_does_not_last_outlives_the_worker(
    directory: pathlib.Path, lasting: bool
) -> None:
    # Given a worker that ends right after a change, and closes nothing
    program = (
        'import os, pathlib, sys\n'
        'from attachworker.journal import Database\n'
        'database = Database(pathlib.Path(sys.argv[1]))\n'
        f'database.write({INSERT!r}, "one", "request", "queue", 1,'
        f' lasting={lasting})\n'
        'os._exit(0)\n'
    )
    subprocess.run([sys.executable, '-c', program, directory], check=True)
    # Then the next one knows of it
    database = Database(directory)
    assert names(database) == ['one']
    database.close()


def test_a_closed_journal(directory: pathlib.Path) -> None:
    database = Database(directory)
    database.close()
    with pytest.raises(exception.JournalUnavailable):
        database.rows('SELECT * FROM calls')
    with pytest.raises(exception.JournalUnavailable):
        put(database, 'one')


def test_a_journal_of_the_version_before_is_read(
    directory: pathlib.Path,
) -> None:
    # Given a journal that version 1 has written
    directory.mkdir()
    old = sqlite3.connect(directory / 'journal.sqlite')
    old.executescript(
        pathlib.Path(__file__).with_name('version_1.sql').read_text()
    )
    old.close()
    # When this version opens it
    database = Database(directory)
    records = Records(database)
    # Then all is there
    (unfinished,) = records.unfinished()
    assert unfinished.request_id == 'unfinished'
    assert unfinished.receivers == (rows.REPLY_TO,)
    finished = records.request('finished')
    assert finished is not None
    assert finished.result == {'is': 'the result'}
    (attachment,) = records.attachments()
    assert (attachment.state, attachment.again) == ('attached', None)
    holdings = Holdings(database, 'attachment', 'boot')
    (target,) = holdings.paths(objects.Target)
    assert holdings.made_device(target)
    # And what is new works
    records.put_call(Call('message', 'queue', 5), 'unfinished')
    assert records.calls() == [(Call('message', 'queue', 5), 'unfinished')]
    database.close()
