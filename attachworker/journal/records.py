# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Rows of the journal: requests with their results, and attachments."""

import contextlib
import dataclasses
import functools
import json
import sqlite3
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.journal import attachments
from attachworker.journal import database
from attachworker.journal import reading
from attachworker.journal.attachments import AttachmentRecord
from attachworker.journal.attachments import AttachmentState

#: Results that are owed at most, to one receiver and in all. What has been
#: accepted by then is owed beyond that, to so many receivers at most.
MOST_OWED_TO_ONE = 1000
MOST_OWED = 10_000
MOST_RECEIVERS = 10
#: What a result has of whose operation no step was begun.
_NOTHING_DONE = '"timings": {}'


@dataclasses.dataclass(frozen=True)
class RequestRecord:
    """A request that was accepted.

    :ivar digest: of its content; the same request has the same
    :ivar body: the request as a primitive, without secrets
    :ivar accepted: seconds since the boot named by ``boot_id``
    :ivar deadline: likewise
    :ivar result: the final result as a primitive; None while unfinished
    :ivar sealed: the secrets; None if there are none, or it is finished
    :ivar attempts: how often a worker has been started with it unfinished
    :ivar created_at: when it was accepted, in UTC, in ISO 8601
    :ivar cancelled: whether its only possible result is that it was
    :ivar adds_key: whether the new key of a rotation opens the volume because
        of it, perhaps
    :ivar receivers: where the result of a cast is wanted, and has not been
        confirmed
    """

    request_id: str
    operation: str
    attachment_id: str
    digest: str
    body: dict[str, Any]
    boot_id: str
    accepted: float
    deadline: float
    result: dict[str, Any] | None = None
    sealed: bytes | None = None
    attempts: int = 0
    created_at: str = ''
    cancelled: bool = False
    adds_key: bool = False
    receivers: tuple[dict[str, Any], ...] = ()

    def result_object(self) -> objects.OperationResult | None:
        """The final result; None while unfinished.

        :raises RecordUnreadable: the journal has none that makes sense
        """
        if self.result is None:
            return None
        return reading.as_object(
            self.result, objects.OperationResult, f'request {self.request_id}'
        )


@dataclasses.dataclass(frozen=True)
class Call:
    """Somebody who waits on the bus for the result of a request.

    :ivar client_timeout: seconds within which a sign of life is expected;
        None if the caller does without
    """

    message_id: str
    reply_queue: str
    client_timeout: int | None = None


@dataclasses.dataclass(frozen=True)
class Contents:
    """All that is ours on this host: at one time, or at one of two.

    :ivar rows: of attachments by their id, oldest first
    :ivar busy: attachments that somebody is working on
    :ivar paths: an attachment, a path that it holds, and its link, by key
    :ivar links: a link by key, its boot, the last number before our login,
        and our number if it is known
    """

    rows: dict[str, sqlite3.Row]
    busy: frozenset[str]
    paths: frozenset[tuple[str, str, str]]
    links: frozenset[tuple[str, str, int, int | None]]

    @property
    def path_keys(self) -> list[str]:
        return [path for _, path, _ in self.paths]

    @functools.cached_property
    def attachments(self) -> list[AttachmentRecord]:
        """Those whose state makes sense, oldest first."""
        return attachments.from_rows(self.rows.values())

    @functools.cached_property
    def unreadable(self) -> dict[str, exception.RecordUnreadable]:
        """By attachment, why nobody can make sense of its record."""
        return attachments.unreadable(self.rows.values())

    def __or__(self, later: 'Contents') -> 'Contents':
        """Both; an attachment that has changed in between is busy."""
        changed = [
            name
            for name in self.rows.keys() | later.rows.keys()
            if self.rows.get(name) != later.rows.get(name)
        ]
        return Contents(
            later.rows,
            self.busy.union(later.busy, changed),
            self.paths | later.paths,
            self.links | later.links,
        )


_REQUESTS = (
    'SELECT *, (SELECT json_group_array(reply_to) FROM receivers WHERE'
    ' receivers.request_id = requests.request_id) AS receivers FROM requests'
)

_OWE = 'INSERT OR IGNORE INTO receivers (request_id, reply_to) VALUES (?, ?)'

#: See Records.forget_results.
_FORGETTABLE = (
    'result IS NOT NULL AND request_id NOT IN'
    ' (SELECT request_id FROM receivers) AND attachment_id NOT IN'
    ' (SELECT attachment_id FROM requests WHERE result IS NULL)'
)

_SHOWN = (
    'SELECT attachments.*, result FROM attachments LEFT JOIN requests'
    ' ON request_id = last_request'
)


class Records:
    """Reads and writes requests and attachments.

    :param journal: with a mere Reader nothing can be written
    """

    def __init__(self, journal: database.Reader) -> None:
        # A reader has no transactions: the mistake would be ours.
        self._journal: Any = journal
        self.path = journal.path

    # -- requests

    def request(self, request_id: str) -> RequestRecord | None:
        found = self._requests('request_id = ?', request_id)
        return found[0] if found else None

    def result(self, request_id: str) -> objects.OperationResult | None:
        """The final result; None while the request is under way.

        :raises RequestNotFound: there is no such request, or its result is
            older than results are kept
        """
        record = self.request(request_id)
        if record is None:
            raise exception.RequestNotFound(request_id=request_id)
        return record.result_object()

    def unfinished(self) -> list[RequestRecord]:
        """Requests without a result, oldest first."""
        return self._requests('result IS NULL')

    def ended_after(self, record: RequestRecord) -> list[RequestRecord]:
        """Later requests of the same attachment that have a result."""
        return self._requests(
            'result IS NOT NULL AND attachment_id = ? AND rowid >'
            ' (SELECT rowid FROM requests WHERE request_id = ?)',
            record.attachment_id,
            record.request_id,
        )

    def recovered(self) -> list[RequestRecord]:
        """Requests with a result that a worker started again gave them."""
        return self._requests('result IS NOT NULL AND attempts > 0')

    def size(self) -> int:
        """Bytes that the journal has on the disk, its log included.

        :raises OSError: it is not there
        """
        names = self.path.parent.glob(f'{self.path.name}*')
        return sum(name.stat().st_size for name in names)

    def undelivered(self) -> list[RequestRecord]:
        """Results that somebody waits for and has not confirmed."""
        return self._requests(
            'result IS NOT NULL AND request_id IN'
            ' (SELECT request_id FROM receivers)'
        )

    def _requests(self, which: str, *values: object) -> list[RequestRecord]:
        rows = self._journal.rows(
            f'{_REQUESTS} WHERE {which} ORDER BY rowid', *values
        )
        return [_request(row) for row in rows]

    def owed(self) -> int:
        """How many results are to be confirmed, each by one receiver."""
        ((count,),) = self._journal.rows(
            'SELECT count(*) FROM receivers JOIN requests USING (request_id)'
            ' WHERE result IS NOT NULL'
        )
        return int(count)

    def longest_unfinished(self) -> float:
        """How long ago the oldest request without a result was accepted.

        :returns: seconds, as the clock of the host has them; 0 if there is
            none, or the clock was set back since
        """
        ((oldest,),) = self._journal.rows(
            'SELECT min(created_at) FROM requests WHERE result IS NULL'
        )
        return database.seconds_since(oldest) if oldest else 0.0

    def accept(self, record: RequestRecord, call: Call | None = None) -> None:
        """From here on the request gets exactly one final result.

        :param call: who waits for it, if somebody does
        """
        with self._journal.transaction() as connection:
            if call is not None:
                _put_call(connection, call, record.request_id)
            for receiver in record.receivers:
                connection.execute(
                    _OWE, (record.request_id, _sorted(receiver))
                )
            columns = vars(record) | {
                'body': json.dumps(record.body),
                'created_at': record.created_at or database.timestamp(),
            }
            del columns['receivers']
            database.insert(connection, 'INSERT INTO requests', **columns)

    def has_unheld_links(self) -> bool:
        """Whether there may be a link of ours that no attachment holds."""
        return bool(
            self._journal.rows(
                'SELECT 1 FROM links WHERE NOT EXISTS (SELECT 1 FROM holdings'
                ' WHERE holdings.link = links.link) LIMIT 1'
            )
        )

    def finish(
        self,
        request_id: str,
        result: dict[str, Any],
        attachment: AttachmentRecord | None,
        gone: str | None,
        cancelled: bool = False,
    ) -> bool:
        """Write the final result and what it means for the attachment.

        :param attachment: its new state, or None
        :param gone: the attachment that no longer exists, or None
        :param cancelled: whether the result is that it was cancelled; a
            request that was can have no other one
        :returns: False if the request had another final result already, or
            cannot have this one
        """
        with self._journal.transaction() as connection:
            changed = connection.execute(
                'UPDATE requests SET result = ?, finished_at = ?,'
                ' counted = coalesce((SELECT seconds FROM clock), 0.0),'
                ' sealed = NULL WHERE request_id = ? AND result IS NULL'
                ' AND (cancelled != 0) = ?',
                (
                    json.dumps(result),
                    database.timestamp(),
                    request_id,
                    cancelled,
                ),
            ).rowcount
            if not changed:
                return self._is_result(connection, request_id, result)
            if attachment is not None:
                attachments.put(connection, attachment)
            if gone is not None:
                attachments.delete(connection, gone)
            connection.execute(
                'UPDATE attachments SET last_request = request_id'
                ' FROM requests WHERE request_id = ? AND'
                ' attachments.attachment_id = requests.attachment_id',
                (request_id,),
            )
            return True

    @staticmethod
    def _is_result(
        connection: sqlite3.Connection, request_id: str, result: dict[str, Any]
    ) -> bool:
        """Whether it was written before by one who did not learn of it."""
        row = connection.execute(
            'SELECT result FROM requests WHERE request_id = ?', (request_id,)
        ).fetchone()
        return row is not None and row['result'] == json.dumps(result)

    def cancel(self, request_id: str) -> bool:
        """Have an attach end as cancelled, whatever becomes of it.

        :returns: False if it is none, or has its final result
        """
        return bool(
            self._journal.write(
                'UPDATE requests SET cancelled = 1 WHERE request_id = ?'
                " AND operation = 'attach' AND result IS NULL",
                request_id,
            )
        )

    def owe(self, request_id: str, reply_to: dict[str, Any]) -> None:
        """The result of a request is wanted there, too."""
        self._journal.write(_OWE, request_id, _sorted(reply_to))

    def may_owe(
        self, request_id: str, reply_to: dict[str, Any], accepted: bool
    ) -> bool:
        """Whether there is room for one more result that is to be confirmed.

        For each that is owed already there is.

        :param accepted: whether the request is
        """
        ((owed, there, receivers, known),) = self._journal.rows(
            'SELECT count(*), coalesce(sum(reply_to = ?1), 0),'
            ' coalesce(sum(request_id = ?2), 0), coalesce(sum('
            'reply_to = ?1 AND request_id = ?2), 0) FROM receivers',
            _sorted(reply_to),
            request_id,
        )
        if accepted:
            return bool(known or receivers < MOST_RECEIVERS)
        return bool(there < MOST_OWED_TO_ONE and owed < MOST_OWED)

    def settle(self, request_id: str, reply_to: dict[str, Any]) -> None:
        """A receiver has the result, or will not have it."""
        self._journal.write(
            'DELETE FROM receivers WHERE request_id = ? AND reply_to = ?',
            request_id,
            _sorted(reply_to),
        )

    def count_attempt(self, request_id: str) -> None:
        """A worker goes on with a request that an earlier one began."""
        self._journal.write(
            'UPDATE requests SET attempts = attempts + 1 WHERE request_id = ?',
            request_id,
        )

    def intend_key(self, request_id: str) -> None:
        """A rotation is about to add its new key to the volume.

        That outlives a loss of power, as the key does.
        """
        self._journal.write(
            'UPDATE requests SET adds_key = 1 WHERE request_id = ?',
            request_id,
        )

    # -- calls

    def calls(self) -> list[tuple[Call, str]]:
        """Calls that nobody has answered yet, each with its request_id."""
        rows = self._journal.rows(
            'SELECT message_id, reply_queue, client_timeout, request_id'
            ' FROM calls ORDER BY rowid'
        )
        return [(Call(*call), request_id) for *call, request_id in rows]

    def put_call(self, call: Call, request_id: str) -> None:
        """One more waits for the result of a request."""
        with self._journal.transaction() as connection:
            _put_call(connection, call, request_id)

    def forget_call(self, call: Call) -> None:
        """It was answered; after a loss of power that may be done again."""
        self._journal.write(
            'DELETE FROM calls WHERE message_id = ?',
            call.message_id,
            lasting=False,
        )

    def forget_results(
        self, retention: float, boot_id: str, now: float, most: int = 1 << 62
    ) -> int:
        """Delete results older than this many seconds; returns how many.

        Where there are more than so many, the oldest go, first of all those
        of requests for which nothing had to be done: whoever sends one of
        these again gets the same answer.

        Those that somebody is owed stay, and those of attachments that have
        an unfinished request, see :meth:`ended_after`. Seconds are counted
        here, from one call to the next of the same boot, because the clock of
        a host may be set by decades meanwhile. No result goes early for that,
        and some stay for longer by the time between calls, or that the host
        was off.

        :param boot_id: of the running kernel
        :param now: seconds since its start
        :param most: results
        """
        with self._journal.transaction() as connection:
            deleted = connection.execute(
                f'DELETE FROM requests WHERE {_FORGETTABLE} AND'
                ' counted < (SELECT seconds FROM clock) - ?',
                (retention,),
            ).rowcount
            connection.execute(
                'UPDATE clock SET boot_id = :boot_id, at = :now, seconds ='
                ' seconds + iif(boot_id = :boot_id, max(0, :now - at), 0)',
                {'boot_id': boot_id, 'now': now},
            )
            deleted += connection.execute(
                'DELETE FROM requests WHERE rowid IN (SELECT rowid FROM'
                f' requests WHERE {_FORGETTABLE} ORDER BY'
                ' instr(result, ?) = 0, rowid LIMIT max(0, (SELECT'
                ' count(*) FROM requests WHERE result IS NOT NULL) - ?))',
                (_NOTHING_DONE, most),
            ).rowcount
        return int(deleted)

    # -- attachments

    def attachment(self, attachment_id: str) -> AttachmentRecord | None:
        """:raises RecordUnreadable: it makes no sense"""
        rows = self._journal.rows(
            'SELECT * FROM attachments WHERE attachment_id = ?', attachment_id
        )
        return attachments.from_row(rows[0]) if rows else None

    def readable(self, attachment_id: str) -> AttachmentRecord | None:
        """Likewise; None, too, if it makes no sense."""
        try:
            return self.attachment(attachment_id)
        except exception.RecordUnreadable:
            return None

    def attachments(self) -> list[AttachmentRecord]:
        """Oldest first; those without a state that makes sense are not told.

        See :meth:`contents`.
        """
        return attachments.from_rows(self._journal.rows(attachments.SELECT))

    def shown(self) -> list[dict[str, Any]]:
        """Each as objects.Attachment, as a primitive, oldest first.

        The audit tells of one that makes no sense.
        """
        found = []
        for row in self._journal.rows(
            f'{_SHOWN} ORDER BY attachments.created_at,'
            ' attachments.attachment_id'
        ):
            with contextlib.suppress(exception.RecordUnreadable):
                found.append(attachments.shown(row))
        return found

    def shown_one(self, attachment_id: str) -> dict[str, Any]:
        """:raises AttachmentNotFound: there is none
        :raises RecordUnreadable: it makes no sense
        """
        rows = self._journal.rows(
            f'{_SHOWN} WHERE attachments.attachment_id = ?', attachment_id
        )
        if not rows:
            raise exception.AttachmentNotFound(attachment_id=attachment_id)
        return attachments.shown(rows[0])

    def forget_attachment(self, attachment_id: str) -> None:
        """:raises IllegalStateChange: see attachworker.journal.attachments"""
        with self._journal.transaction() as connection:
            attachments.delete(connection, attachment_id)

    def put_attachment(
        self, record: AttachmentRecord, lasting: bool = True
    ) -> None:
        """Write down what an attachment is now.

        :param lasting: see :meth:`database.Database.transaction`
        :raises IllegalStateChange: see attachworker.journal.attachments
        """
        with self._journal.transaction(lasting) as connection:
            attachments.put(connection, record)

    def begin_boot(self, boot_id: str) -> None:
        """Note what a reboot has taken away, if there was one.

        With the devices of earlier boots go their sessions, whoever used
        them.

        :param boot_id: of the running kernel
        """
        with self._journal.transaction() as connection:
            connection.execute(
                'DELETE FROM links WHERE boot_id != ?', (boot_id,)
            )
            connection.execute(
                'DELETE FROM holdings WHERE attachment_id IN (SELECT'
                ' attachment_id FROM attachments WHERE boot_id != ?)',
                (boot_id,),
            )
            for before in attachments.LOST_BY_REBOOT:
                connection.execute(
                    'UPDATE attachments SET state = ?'
                    ' WHERE state = ? AND boot_id != ?',
                    (AttachmentState.MISSING, before, boot_id),
                )
            connection.execute(
                'UPDATE attachments SET boot_id = ? WHERE boot_id != ?',
                (boot_id, boot_id),
            )

    def contents(self) -> Contents:
        """All that is ours on this host, as it is now."""
        rows = self._journal.rows
        return Contents(
            {row['attachment_id']: row for row in rows(attachments.SELECT)},
            frozenset(
                name
                for (name,) in rows(
                    'SELECT attachment_id FROM requests WHERE result IS NULL'
                )
            ),
            frozenset(
                map(
                    tuple,
                    rows('SELECT attachment_id, path, link FROM holdings'),
                )
            ),
            frozenset(
                map(
                    tuple,
                    rows('SELECT link, boot_id, after, number FROM links'),
                )
            ),
        )


def _sorted(reply_to: dict[str, Any]) -> str:
    return json.dumps(reply_to, sort_keys=True)


def _put_call(
    connection: sqlite3.Connection, call: Call, request_id: str
) -> None:
    database.insert(
        connection,
        'INSERT OR REPLACE INTO calls',
        request_id=request_id,
        **vars(call),
    )


def _request(row: sqlite3.Row) -> RequestRecord:
    columns = dict(row)
    del columns['finished_at'], columns['counted']
    return RequestRecord(
        **columns
        | {
            'body': reading.decoded(row['body']) or {},
            'result': reading.decoded(row['result']),
            'cancelled': bool(row['cancelled']),
            # a journal of an earlier release does not have it
            'adds_key': bool(columns.get('adds_key', 0)),
            # those that make sense
            'receivers': tuple(
                filter(
                    None, map(reading.decoded, json.loads(row['receivers']))
                )
            ),
        }
    )
