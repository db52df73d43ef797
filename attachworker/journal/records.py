# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Rows of the journal: requests with their results, and attachments."""

import contextlib
import dataclasses
import json
import sqlite3
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.journal import attachments
from attachworker.journal import database
from attachworker.journal import reader
from attachworker.journal import reading
from attachworker.journal.attachments import AttachmentRecord
from attachworker.journal.attachments import Listed


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
    receivers: tuple[dict[str, Any], ...] = ()

    def result_object(self) -> objects.OperationResult | None:
        """The final result; None while unfinished.

        :raises RecordUnreadable: the journal has none that makes sense
        """
        if self.result is None:
            return None
        found: objects.OperationResult = reading.as_object(
            self.result, f'request {self.request_id}'
        )
        return found


@dataclasses.dataclass(frozen=True)
class Call:
    """Somebody who waits on the bus for the result of a request.

    :ivar client_timeout: seconds within which a sign of life is expected;
        None if the caller does without
    """

    message_id: str
    reply_queue: str
    client_timeout: int | None = None


#: The rest of a statement follows.
_SELECT = (
    'SELECT *, (SELECT json_group_array(reply_to) FROM receivers WHERE'
    ' receivers.request_id = requests.request_id) AS receivers FROM requests'
)


class Records:
    """Reads and writes requests and attachments.

    :param journal: with a Reader nothing can be written
    """

    def __init__(self, journal: database.Database | reader.Reader) -> None:
        # A reader has no transactions: the mistake would be ours.
        self._journal: Any = journal
        self.path = journal.path

    # -- requests

    def request(self, request_id: str) -> RequestRecord | None:
        rows = self._journal.rows(
            f'{_SELECT} WHERE request_id = ?', request_id
        )
        return _request(rows[0]) if rows else None

    def unfinished(self) -> list[RequestRecord]:
        """Requests without a result, oldest first."""
        rows = self._journal.rows(
            f'{_SELECT} WHERE result IS NULL ORDER BY rowid'
        )
        return [_request(row) for row in rows]

    def recovered(self) -> list[RequestRecord]:
        """Requests with a result that a worker started again gave them."""
        rows = self._journal.rows(
            f'{_SELECT} WHERE result IS NOT NULL'
            ' AND attempts > 0 ORDER BY rowid'
        )
        return [_request(row) for row in rows]

    def size(self) -> int:
        """Bytes that the journal has on the disk, its log included.

        :raises OSError: it is not there
        """
        names = self.path.parent.glob(f'{self.path.name}*')
        return sum(name.stat().st_size for name in names)

    def undelivered(self) -> list[RequestRecord]:
        """Results that somebody waits for and has not confirmed."""
        rows = self._journal.rows(
            f'{_SELECT} WHERE result IS NOT NULL AND request_id IN'
            ' (SELECT request_id FROM receivers) ORDER BY rowid'
        )
        return [_request(row) for row in rows]

    def owed(self) -> int:
        """How many results are to be confirmed, each by one receiver."""
        ((count,),) = self._journal.rows(
            'SELECT count(*) FROM receivers JOIN requests USING (request_id)'
            ' WHERE result IS NOT NULL'
        )
        return int(count)

    def accept(self, record: RequestRecord, call: Call | None = None) -> None:
        """From here on the request gets exactly one final result.

        :param call: who waits for it, if somebody does
        """
        with self._journal.transaction() as connection:
            if call is not None:
                _put_call(connection, call, record.request_id)
            for receiver in record.receivers:
                _put_receiver(connection, record.request_id, receiver)
            connection.execute(
                'INSERT INTO requests (request_id, operation, attachment_id,'
                ' digest, body, sealed, boot_id, accepted, deadline,'
                ' created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
                (
                    record.request_id,
                    record.operation,
                    record.attachment_id,
                    record.digest,
                    json.dumps(record.body),
                    record.sealed,
                    record.boot_id,
                    record.accepted,
                    record.deadline,
                    record.created_at or database.timestamp(),
                ),
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
                ' sealed = NULL WHERE request_id = ? AND result IS NULL'
                ' AND cancelled = ?',
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
        with self._journal.transaction() as connection:
            return bool(
                connection.execute(
                    'UPDATE requests SET cancelled = 1 WHERE request_id = ?'
                    " AND operation = 'attach' AND result IS NULL",
                    (request_id,),
                ).rowcount
            )

    def owe(self, request_id: str, reply_to: dict[str, Any]) -> None:
        """The result of a request is wanted there, too."""
        with self._journal.transaction() as connection:
            _put_receiver(connection, request_id, reply_to)

    def settle(self, request_id: str, reply_to: dict[str, Any]) -> None:
        """A receiver has the result, or will not have it."""
        with self._journal.transaction() as connection:
            connection.execute(
                'DELETE FROM receivers WHERE request_id = ? AND reply_to = ?',
                (request_id, _sorted(reply_to)),
            )

    def count_attempt(self, request_id: str) -> None:
        """A worker goes on with a request that an earlier one began."""
        with self._journal.transaction() as connection:
            connection.execute(
                'UPDATE requests SET attempts = attempts + 1'
                ' WHERE request_id = ?',
                (request_id,),
            )

    # -- calls

    def calls(self) -> list[tuple[Call, str]]:
        """Calls that nobody has answered yet, each with its request_id."""
        return [
            (
                Call(
                    row['message_id'],
                    row['reply_queue'],
                    row['client_timeout'],
                ),
                row['request_id'],
            )
            for row in self._journal.rows('SELECT * FROM calls ORDER BY rowid')
        ]

    def put_call(self, call: Call, request_id: str) -> None:
        """One more waits for the result of a request."""
        with self._journal.transaction() as connection:
            _put_call(connection, call, request_id)

    def forget_call(self, call: Call) -> None:
        with self._journal.transaction() as connection:
            connection.execute(
                'DELETE FROM calls WHERE message_id = ?', (call.message_id,)
            )

    def forget_results(self, retention: float) -> int:
        """Delete results older than this many seconds; returns how many.

        Those that somebody is owed stay.
        """
        limit = database.timestamp(-retention)
        with self._journal.transaction() as connection:
            return int(
                connection.execute(
                    'DELETE FROM requests WHERE finished_at < ? AND'
                    ' request_id NOT IN (SELECT request_id FROM receivers)',
                    (limit,),
                ).rowcount
            )

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

        See :meth:`unreadable`.
        """
        return attachments.from_rows(self._journal.rows(attachments.SELECT))

    def unreadable(self) -> dict[str, exception.RecordUnreadable]:
        """By attachment, what is wrong where a record makes no sense."""
        return attachments.unreadable(self._journal.rows(attachments.SELECT))

    def listed(self) -> list[Listed]:
        """As they are shown, oldest first, those that make sense."""
        found = []
        for row in self._journal.rows(
            'SELECT attachments.*, result FROM attachments LEFT JOIN requests'
            ' ON request_id = last_request'
            ' ORDER BY attachments.created_at, attachments.attachment_id'
        ):
            with contextlib.suppress(exception.RecordUnreadable):
                found.append(attachments.listed(row))
        return found

    def forget_attachment(self, attachment_id: str) -> None:
        """:raises IllegalStateChange: see attachworker.journal.attachments"""
        with self._journal.transaction() as connection:
            attachments.delete(connection, attachment_id)

    def put_attachment(self, record: AttachmentRecord) -> None:
        """:raises IllegalStateChange: see attachworker.journal.attachments"""
        with self._journal.transaction() as connection:
            attachments.put(connection, record)

    def begin_boot(self, boot_id: str) -> None:
        """Note what a reboot has taken away, if there was one.

        With the devices of earlier boots go their sessions, whoever used
        them.

        :param boot_id: of the running kernel
        """
        with self._journal.transaction() as connection:
            attachments.begin_boot(connection, boot_id)


def _put_receiver(
    connection: sqlite3.Connection, request_id: str, reply_to: dict[str, Any]
) -> None:
    connection.execute(
        'INSERT OR IGNORE INTO receivers (request_id, reply_to) VALUES (?, ?)',
        (request_id, _sorted(reply_to)),
    )


def _sorted(reply_to: dict[str, Any]) -> str:
    return json.dumps(reply_to, sort_keys=True)


def _receivers(texts: str) -> tuple[dict[str, Any], ...]:
    """Those that make sense."""
    return tuple(filter(None, map(reading.decoded, json.loads(texts))))


def _put_call(
    connection: sqlite3.Connection, call: Call, request_id: str
) -> None:
    connection.execute(
        'INSERT OR REPLACE INTO calls (message_id, request_id, reply_queue,'
        ' client_timeout) VALUES (?, ?, ?, ?)',
        (call.message_id, request_id, call.reply_queue, call.client_timeout),
    )


def _request(row: sqlite3.Row) -> RequestRecord:
    return RequestRecord(
        request_id=row['request_id'],
        operation=row['operation'],
        attachment_id=row['attachment_id'],
        digest=row['digest'],
        body=reading.decoded(row['body']) or {},
        boot_id=row['boot_id'],
        accepted=row['accepted'],
        deadline=row['deadline'],
        result=reading.decoded(row['result']),
        sealed=row['sealed'],
        attempts=row['attempts'],
        created_at=row['created_at'],
        cancelled=bool(row['cancelled']),
        receivers=_receivers(row['receivers']),
    )
