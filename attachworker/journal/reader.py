# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The journal read by somebody else than its worker."""

from collections.abc import Iterator
import contextlib
import pathlib
import sqlite3

from attachworker import exception
from attachworker.journal import database

SCHEMA_VERSION = database.SCHEMA_VERSION


def version(directory: pathlib.Path) -> int | None:
    """The version of the journal in a directory; None if there is none.

    :raises JournalUnavailable: it cannot be read
    """
    path = directory / 'journal.sqlite'
    if not path.exists():
        return None
    try:
        with contextlib.closing(_connect(path)) as connection:
            ((found,),) = connection.execute('PRAGMA user_version')
            return int(found)
    except (sqlite3.Error, OSError) as error:
        raise exception.JournalUnavailable(
            path=path, reason=str(error)
        ) from error


def _connect(path: pathlib.Path) -> sqlite3.Connection:
    # SQLite would make the two files that go with a journal in use, and a
    # worker that is another user could not open these. Without them nobody
    # uses it, and it holds all that there is.
    log = path.with_name(f'{path.name}-wal')
    how = 'mode=ro' if log.exists() else 'mode=ro&immutable=1'
    return sqlite3.connect(f'{path.absolute().as_uri()}?{how}', uri=True)


class Reader:
    """Reads the file, with a worker at it or without; leaves no trace.

    :param directory: of the journal
    :raises JournalUnavailable: there is none, or none that can be read
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / 'journal.sqlite'
        with self._errors(), contextlib.ExitStack() as on_error:
            self._connection = _connect(self.path)
            on_error.callback(self._connection.close)
            self._connection.row_factory = sqlite3.Row
            (row,) = self.rows('PRAGMA user_version')
            if row[0] != database.SCHEMA_VERSION:
                raise exception.JournalUnavailable(
                    path=self.path,
                    reason=f'its version is {row[0]}, this program knows '
                    f'{database.SCHEMA_VERSION}; use that of the worker',
                )
            on_error.pop_all()

    def close(self) -> None:
        self._connection.close()

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query.

        :raises JournalUnavailable: they could not be read
        """
        with self._errors():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise exception.JournalUnavailable(
                path=self.path, reason=str(error)
            ) from error
