# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The file of the journal: SQLite, one writer, every change on the disk."""

from collections.abc import Iterator
import contextlib
import datetime
import fcntl
import functools
import os
import pathlib
import sqlite3
import threading

from attachworker import exception
from attachworker.objects import normalise_wwn

SCHEMA_VERSION = 11
_NAME = 'journal.sqlite'
#: Belongs to the worker that runs; has a text once there has been a journal.
_LOCK = 'lock'
_MADE = (
    b'There is a journal here. As long as this is said, no other is made.\n'
)
#: Seconds that a write waits for somebody else's, and all others with it.
_PATIENCE = 0.5
#: Bytes that SQLite writes at least; it takes what is shorter for nothing.
_SMALLEST = 512

#: What the first version has made.
SCHEMA = """
CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    attachment_id TEXT NOT NULL,
    digest TEXT NOT NULL,       -- of the content, without credentials
    body TEXT NOT NULL,         -- JSON, without secrets
    sealed BLOB,                -- secrets, while unfinished
    reply_to TEXT,              -- JSON; NULL if nobody waits for a cast
    boot_id TEXT NOT NULL,
    accepted REAL NOT NULL,     -- seconds since boot
    deadline REAL NOT NULL,     -- seconds since boot
    attempts INTEGER NOT NULL DEFAULT 0,
    result TEXT,                -- JSON; NULL while unfinished
    delivered INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    finished_at TEXT
) STRICT;
CREATE INDEX requests_unfinished ON requests (result) WHERE result IS NULL;
CREATE TABLE attachments (
    attachment_id TEXT PRIMARY KEY,
    volume_id TEXT,
    connection_key TEXT NOT NULL,
    connection TEXT NOT NULL,   -- JSON, without secrets
    wwn TEXT,                   -- required from then on
    state TEXT NOT NULL,
    device TEXT,                -- JSON
    last_request TEXT NOT NULL,
    boot_id TEXT NOT NULL,      -- its devices live until the next boot
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE TABLE claims (
    attachment_id TEXT NOT NULL,
    portal TEXT NOT NULL,
    name TEXT NOT NULL,
    lun TEXT NOT NULL,
    made_device INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (portal, name, lun, attachment_id)
) STRICT;
CREATE TABLE sessions (
    portal TEXT NOT NULL,
    name TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    after INTEGER NOT NULL,     -- the last number before our login
    number INTEGER,             -- NULL until the login has succeeded
    PRIMARY KEY (portal, name)
) STRICT;
"""

#: What makes a journal of this version one of the next.
UPGRADES = {
    1: """
CREATE TABLE calls (
    message_id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    reply_queue TEXT NOT NULL,
    client_timeout INTEGER      -- seconds; NULL: without call monitoring
) STRICT;
""",
    2: """
ALTER TABLE requests ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
""",
    # JSON: an attach that makes the attachment again; NULL: needs a secret
    3: """
ALTER TABLE attachments ADD COLUMN again TEXT;
""",
    # The state says what was read from combinations of fields before.
    4: """
UPDATE attachments SET state = 'missing'
    WHERE state = 'attached' AND boot_id = '';
UPDATE attachments SET state = 'reattaching'
    WHERE state = 'attaching' AND wwn IS NOT NULL;
UPDATE attachments SET again = NULL WHERE state IN ('detaching', 'failed');
UPDATE attachments SET state = CASE WHEN wwn IS NOT NULL
    THEN 'reattach_failed' ELSE 'attach_failed' END
    WHERE state IN ('detaching', 'failed') AND device IS NULL;
UPDATE attachments SET state = 'detach_failed' WHERE state = 'failed';
""",
    # Paths and links by key, as objects.Target has them, and the volume.
    5: """
CREATE TABLE holdings (
    attachment_id TEXT NOT NULL,
    path TEXT NOT NULL,
    link TEXT NOT NULL,         -- empty: the path has none of its own
    volume_name TEXT NOT NULL,
    made INTEGER NOT NULL DEFAULT 0,    -- whether we made its device
    PRIMARY KEY (path, attachment_id)
) STRICT;
CREATE INDEX holdings_attachment ON holdings (attachment_id);
CREATE INDEX holdings_link ON holdings (link);
CREATE INDEX holdings_volume_name ON holdings (volume_name);
INSERT INTO holdings SELECT attachment_id,
    CASE WHEN portal = '' THEN name
        ELSE portal || ',' || lower(name) || ',' || lun END,
    CASE WHEN portal = '' OR name = 'ceph' THEN ''
        ELSE portal || ',' || lower(name) END,
    CASE WHEN portal = '' THEN name WHEN name = 'ceph' THEN lun
        ELSE lower(name) || ',' || lun END,
    made_device FROM claims;
DROP TABLE claims;
CREATE TABLE links (
    link TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    after INTEGER NOT NULL,     -- the last number before our login
    number INTEGER              -- NULL until the login has succeeded
) STRICT;
CREATE INDEX links_link ON links (link);
INSERT INTO links SELECT portal || ',' || lower(name), boot_id, after, number
    FROM sessions;
DROP TABLE sessions;
ALTER TABLE attachments ADD COLUMN volume TEXT; -- identity in normal form
UPDATE attachments SET volume = normal_form(wwn);
CREATE INDEX attachments_volume ON attachments (volume);
""",
    # Whoever is owed the result of a cast, until the receipt.
    6: """
CREATE TABLE receivers (
    request_id TEXT NOT NULL,
    reply_to TEXT NOT NULL,     -- JSON with sorted keys
    PRIMARY KEY (request_id, reply_to)
) STRICT;
INSERT INTO receivers SELECT request_id, reply_to FROM requests
    WHERE reply_to IS NOT NULL AND NOT delivered;
ALTER TABLE requests DROP COLUMN reply_to;
ALTER TABLE requests DROP COLUMN delivered;
""",
    # Lines of multipath's list of WWIDs, of volumes that are attached.
    7: """
CREATE TABLE lines (
    wwid TEXT PRIMARY KEY,
    volume TEXT NOT NULL,       -- identity in normal form
    found INTEGER NOT NULL      -- whether it was there before us
) STRICT;
CREATE INDEX lines_volume ON lines (volume);
INSERT OR IGNORE INTO lines SELECT wwn, volume, 0 FROM attachments
    WHERE wwn IS NOT NULL AND volume IS NOT NULL;
""",
    # How long results are kept does not go by the wall clock, which may be
    # decades off until a network sets it.
    8: """
CREATE TABLE clock (
    boot_id TEXT NOT NULL,      -- in which it was looked at last
    at REAL NOT NULL,           -- seconds since that boot
    seconds REAL NOT NULL       -- that have been counted in all boots
) STRICT;
INSERT INTO clock VALUES ('', 0.0, 0.0);
ALTER TABLE requests ADD COLUMN counted REAL NOT NULL DEFAULT 0.0;
""",
    # JSON: what multipath's list of WWIDs held as the attach that makes the
    # attachment began; NULL once it is made.
    9: """
ALTER TABLE attachments ADD COLUMN listed TEXT;
""",
    # Whether a rotation was about to add its key to the volume.
    10: """
ALTER TABLE requests ADD COLUMN adds_key INTEGER NOT NULL DEFAULT 0;
""",
}

#: What does not pass: statements that the journal will never take.
_OUR_MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)


#: Of timestamps: they sort as text.
_TIME = '%Y-%m-%dT%H:%M:%S.%fZ'


def timestamp(seconds: float = 0.0) -> str:
    """The time in so many seconds, in UTC in ISO 8601, which sorts as text."""
    moment = datetime.datetime.now(datetime.UTC)
    moment += datetime.timedelta(seconds=seconds)
    return moment.strftime(_TIME)


def seconds_since(text: str) -> float:
    """Seconds since a timestamp; 0 if it makes no sense or is to come."""
    try:
        moment = datetime.datetime.strptime(text, _TIME)
    except ValueError:
        return 0.0
    moment = moment.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    return max(0.0, (now - moment).total_seconds())


def version(directory: pathlib.Path) -> int | None:
    """The version of the journal in a directory; None if there is none.

    :raises JournalUnavailable: it cannot be read
    """
    path = directory / _NAME
    with _errors(path):
        if not path.exists():
            _refuse_lost(path, 0)
            return None
        with contextlib.closing(_read_only(path)) as connection:
            return _version(connection, path)


def insert(
    connection: sqlite3.Connection,
    into: str,
    then: str = '',
    /,
    **columns: object,
) -> None:
    """Add a row.

    :param into: the statement up to the table: INSERT INTO requests
    :param then: what follows the values
    """
    connection.execute(
        f'{into} ({", ".join(columns)})'
        f' VALUES ({", ".join("?" * len(columns))}) {then}',
        tuple(columns.values()),
    )


class Reader:
    """Reads the file, with a worker at it or without; leaves no trace.

    :param directory: of the journal
    :raises JournalUnavailable: there is none, or none that can be read
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / _NAME
        self._lock = threading.RLock()
        with _errors(self.path), contextlib.ExitStack() as opened:
            if not self.path.exists():
                _refuse_lost(self.path, 0)
            self._connection = self._open(opened)
            self._opened = opened.pop_all()

    def _open(self, opened: contextlib.ExitStack) -> sqlite3.Connection:
        connection = _read_only(self.path)
        opened.callback(connection.close)
        _set_up(connection)
        found = _version(connection, self.path)
        if found != SCHEMA_VERSION:
            raise exception.JournalUnavailable(
                path=self.path,
                reason=f'its version is {found}, this program knows '
                f'{SCHEMA_VERSION}; use that of the worker',
            )
        return connection

    def close(self) -> None:
        with self._lock:
            self._opened.close()

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query.

        :raises JournalUnavailable: they could not be read
        """
        with self._lock, _errors(self.path):
            return self._connection.execute(query, values).fetchall()


class Database(Reader):
    """A connection that all threads share, one transaction at a time.

    :param directory: made if missing; belongs to one worker at a time
    :raises JournalUnavailable: it cannot be used; says why
    """

    def _open(self, opened: contextlib.ExitStack) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._own(self.path.with_name(_LOCK))
        opened.callback(os.close, lock)
        connection = sqlite3.connect(
            self.path,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        opened.callback(connection.close)
        _set_up(connection)
        version = _version(connection, self.path)
        connection.execute('PRAGMA journal_mode = WAL')
        connection.execute('PRAGMA synchronous = FULL')
        connection.execute('PRAGMA secure_delete = ON')
        os.chmod(self.path, 0o600)
        self._prepare(connection, version)
        if not os.fstat(lock).st_size:
            os.write(lock, _MADE)
            os.fsync(lock)
        return connection

    @contextlib.contextmanager
    def transaction(
        self, lasting: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """All changes of a with block are written after it, or none.

        :param lasting: whether they are on the disk, too, and outlive a loss
            of power. Otherwise they outlive the worker, and get to the disk
            with the next ones that last, in their order.
        :raises JournalUnavailable: they could not be written
        """
        with self._lock, _errors(self.path):
            if self._connection.in_transaction:  # a ROLLBACK has failed
                self._connection.execute('ROLLBACK')
            # With NORMAL the log is not synchronized when a change ends.
            how = 'FULL' if lasting else 'NORMAL'
            self._connection.execute(f'PRAGMA synchronous = {how}')
            self._connection.execute('BEGIN IMMEDIATE')
            try:
                yield self._connection
                self._connection.execute('COMMIT')
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have ended it
                    self._connection.execute('ROLLBACK')
                raise

    def write(
        self, statement: str, *values: object, lasting: bool = True
    ) -> int:
        """A transaction of one statement; returns how many rows it changed.

        :param lasting: see :meth:`transaction`
        :raises JournalUnavailable: it could not be written
        """
        with self.transaction(lasting) as connection:
            return connection.execute(statement, values).rowcount

    def _prepare(self, connection: sqlite3.Connection, version: int) -> None:
        connection.create_function(
            'normal_form',
            1,
            lambda wwn: wwn and normalise_wwn(wwn),
            deterministic=True,
        )
        if version > SCHEMA_VERSION:
            raise exception.JournalUnavailable(
                path=self.path,
                reason=f'its version is {version}, this worker knows '
                f'{SCHEMA_VERSION}; start the version that wrote it',
            )
        scripts = [SCHEMA] if version == 0 else []
        scripts += [
            UPGRADES[old] for old in range(version or 1, SCHEMA_VERSION)
        ]
        if scripts:
            connection.executescript(
                f'BEGIN; {"".join(scripts)}'
                f'PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;'
            )

    def _own(self, path: pathlib.Path) -> int:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise exception.JournalUnavailable(
                path=self.path, reason='another worker uses it'
            ) from error
        return descriptor


def _read_only(path: pathlib.Path) -> sqlite3.Connection:
    # SQLite would make the two files that go with a journal in use, and a
    # worker that is another user could not open these. Without them nobody
    # uses it, and it holds all that there is.
    log = path.with_name(f'{path.name}-wal')
    how = 'mode=ro' if log.exists() else 'mode=ro&immutable=1'
    return sqlite3.connect(f'{path.absolute().as_uri()}?{how}', uri=True)


def _version(connection: sqlite3.Connection, path: pathlib.Path) -> int:
    """The version of a journal; 0: it is to be made yet.

    :raises JournalUnavailable: it has been there, and is not any more
    """
    ((found,),) = connection.execute('PRAGMA user_version')
    _refuse_lost(path, int(found))
    return int(found)


def _refuse_lost(path: pathlib.Path, version: int) -> None:
    """:raises JournalUnavailable: see :func:`_version`"""
    lock = path.with_name(_LOCK)
    made = lock.exists() and lock.stat().st_size > 0
    size = path.stat().st_size if path.exists() else 0
    if version == 0 and (made or 0 < size < _SMALLEST):
        raise exception.JournalUnavailable(
            path=path,
            reason='it has been here, and there are '
            f'{size} bytes left; {_way_out(path)}',
        )


def _way_out(path: pathlib.Path) -> str:
    return (
        'put a copy of it in its place. If there is none, remove '
        f'{path}* and {path.with_name(_LOCK)}: all that is attached is then '
        'foreign to the worker, and "attachctl audit" lists it'
    )


def _set_up(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    # One text that is none would keep all rows of a query from being read.
    connection.text_factory = functools.partial(
        str, encoding='utf-8', errors='replace'
    )


@contextlib.contextmanager
def _errors(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = str(error)
        if type(error) is sqlite3.DatabaseError:  # what is there is none
            reason += f'; {_way_out(path)}'
        raised = exception.JournalUnavailable(path=path, reason=reason)
        raised.passing = not isinstance(error, _OUR_MISTAKES)
        raise raised from error
