# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What becomes of an attachment: its states, and which may follow which.

The state alone says how an attachment stands. Nothing is concluded from other
fields of its record, from a request, or from the boot that it dates from.
"""

from collections.abc import Iterable
import contextlib
import dataclasses
import datetime
import enum
import json
import sqlite3
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.journal import database
from attachworker.journal import reading
from attachworker.objects import rules


class AttachmentState(enum.StrEnum):
    """How an attachment stands; the values are those of the journal."""

    #: An attach makes it, and undoes all of it unless it succeeds.
    ATTACHING = 'attaching'
    #: Likewise, of one that was missing, and is again if that fails.
    REATTACHING = 'reattaching'
    #: The caller has its device.
    ATTACHED = 'attached'
    #: Likewise, with less than was asked for.
    DEGRADED = 'degraded'
    #: A detach has begun to take its device down.
    DETACHING = 'detaching'
    #: The caller had its device, until this host was started again.
    MISSING = 'missing'
    #: An attach failed and left something, which the worker puts back.
    ATTACH_FAILED = 'attach_failed'
    #: Likewise, of one that is missing when it is put back.
    REATTACH_FAILED = 'reattach_failed'
    #: A detach has taken a part of it down; the next detach goes on.
    DETACH_FAILED = 'detach_failed'

    @property
    def shown(self) -> str:
        """What callers are told: one of objects.fields.ATTACHMENT_STATES."""
        return _SHOWN.get(self, self.value)

    @property
    def has_device(self) -> bool:
        """Whether the caller has its device, all of it."""
        return self in (AttachmentState.ATTACHED, AttachmentState.DEGRADED)

    @property
    def may_have_device(self) -> bool:
        """Whether there is something that an attach must not undo."""
        return self.has_device or self is AttachmentState.DETACH_FAILED

    @property
    def is_being_made(self) -> bool:
        """Whether an attach is at it, or was when its worker ended."""
        return self in (AttachmentState.ATTACHING, AttachmentState.REATTACHING)

    @property
    def is_left_over(self) -> bool:
        """Whether the worker has something to put back by itself."""
        return self in (
            AttachmentState.ATTACH_FAILED,
            AttachmentState.REATTACH_FAILED,
        )

    def when_being_made(self) -> 'AttachmentState':
        """The state once an attach begins to make it."""
        if self.when_given_up() or self is AttachmentState.MISSING:
            return AttachmentState.REATTACHING
        return AttachmentState.ATTACHING

    def when_given_up(self) -> 'AttachmentState | None':
        """The state of what an attach has made, once all is put back.

        None: there is no such attachment any more.
        """
        if self in (
            AttachmentState.REATTACHING,
            AttachmentState.REATTACH_FAILED,
        ):
            return AttachmentState.MISSING
        return None

    def when_left_over(self) -> 'AttachmentState':
        """The state of what an attach has made and could not put back."""
        return _LEFT_OVER.get(self, self)

    def when_broken_off(self) -> 'AttachmentState':
        """The state if nobody goes on with what was begun."""
        return self.when_left_over().when_detach_failed()

    def when_taken_down(self) -> 'AttachmentState':
        """The state from the first change on that a detach makes."""
        if self.is_being_made or self.is_left_over:
            # Whatever the detach leaves, the worker puts back by itself.
            return self.when_left_over()
        return AttachmentState.DETACHING

    def when_detach_failed(self) -> 'AttachmentState':
        """The state after a detach that has not succeeded."""
        if self is AttachmentState.DETACHING:
            return AttachmentState.DETACH_FAILED
        return self


_SHOWN = {
    AttachmentState.REATTACHING: 'attaching',
    AttachmentState.ATTACH_FAILED: 'failed',
    AttachmentState.REATTACH_FAILED: 'failed',
    AttachmentState.DETACH_FAILED: 'failed',
}
_LEFT_OVER = {
    AttachmentState.ATTACHING: AttachmentState.ATTACH_FAILED,
    AttachmentState.REATTACHING: AttachmentState.REATTACH_FAILED,
}

#: What a reboot makes missing. Of what an attach is at, or has left, it only
#: takes the devices.
LOST_BY_REBOOT = (
    AttachmentState.ATTACHED,
    AttachmentState.DEGRADED,
    AttachmentState.DETACHING,
    AttachmentState.DETACH_FAILED,
)

#: In SQL: an attach is at it, or it has left what goes yet.
_UNFINISHED = tuple(
    state.value
    for state in AttachmentState
    if state.is_being_made or state.is_left_over
)

#: What may follow each state; None: there is no such attachment.
CHANGES: dict[AttachmentState | None, frozenset[AttachmentState | None]] = {
    None: frozenset({AttachmentState.ATTACHING}),
    AttachmentState.ATTACHING: frozenset(
        {
            None,
            AttachmentState.ATTACHED,
            AttachmentState.DEGRADED,
            AttachmentState.ATTACH_FAILED,
        }
    ),
    AttachmentState.REATTACHING: frozenset(
        {
            AttachmentState.MISSING,
            AttachmentState.ATTACHED,
            AttachmentState.DEGRADED,
            AttachmentState.REATTACH_FAILED,
        }
    ),
    AttachmentState.ATTACHED: frozenset(
        {
            AttachmentState.DEGRADED,
            AttachmentState.DETACHING,
            AttachmentState.MISSING,
        }
    ),
    AttachmentState.DEGRADED: frozenset(
        {
            AttachmentState.ATTACHED,
            AttachmentState.DETACHING,
            AttachmentState.MISSING,
        }
    ),
    AttachmentState.DETACHING: frozenset(
        {
            None,
            AttachmentState.DETACH_FAILED,
            AttachmentState.MISSING,
        }
    ),
    AttachmentState.DETACH_FAILED: frozenset(
        {
            AttachmentState.ATTACHED,
            AttachmentState.DEGRADED,
            AttachmentState.DETACHING,
            AttachmentState.MISSING,
        }
    ),
    AttachmentState.MISSING: frozenset(
        {AttachmentState.REATTACHING, AttachmentState.DETACHING}
    ),
    AttachmentState.ATTACH_FAILED: frozenset(
        {None, AttachmentState.ATTACHING}
    ),
    AttachmentState.REATTACH_FAILED: frozenset(
        {None, AttachmentState.MISSING, AttachmentState.REATTACHING}
    ),
}


def check_change(
    attachment_id: str,
    before: AttachmentState | None,
    after: AttachmentState | None,
) -> None:
    """Raise if one state cannot follow the other; see CHANGES.

    :raises IllegalStateChange: it cannot
    """
    if after is not before and after not in CHANGES[before]:
        raise exception.IllegalStateChange(
            attachment_id=attachment_id, before=before, after=after
        )


@dataclasses.dataclass(frozen=True)
class AttachmentRecord:
    """An attachment that this host has, or is making or removing.

    :ivar connection_key: the same for the same connection
    :ivar connection: the ConnectionInfo as a primitive, without secrets
    :ivar state: how it stands
    :ivar last_request: the request that ended last; before the first end, the
        attach that makes it. The journal keeps it up to date by itself
    :ivar boot_id: of the kernel that has its devices
    :ivar wwn: the identifier that its device must have; None before it is
        known
    :ivar device: the DeviceInfo as a primitive, as the caller was told last;
        None if no caller was
    :ivar again: an AttachRequest, as a primitive, that makes it again; None
        if that would need a secret, it has not been attached yet, or a detach
        has begun to take it down
    """

    attachment_id: str
    volume_id: str | None
    connection_key: str
    connection: dict[str, Any]
    state: AttachmentState
    last_request: str
    boot_id: str
    wwn: str | None = None
    device: dict[str, Any] | None = None
    again: dict[str, Any] | None = None
    created_at: str = ''
    updated_at: str = ''

    def info(self) -> objects.ConnectionInfo:
        """What it is connected to.

        :raises RecordUnreadable: the journal does not say
        """
        what = f'attachment {self.attachment_id}'
        found = reading.as_object(
            self.connection, objects.ConnectionInfo, what
        )
        with reading.legible(what):
            found.targets[0]  # there is no connection without
        return found

    def device_info(self) -> objects.DeviceInfo | None:
        """Its device, as the caller was told last.

        :raises RecordUnreadable: the journal does not say
        """
        if self.device is None:
            return None
        return reading.as_object(
            self.device,
            objects.DeviceInfo,
            f'attachment {self.attachment_id}',
        )

    def in_place_of(self, known: 'AttachmentRecord') -> 'AttachmentRecord':
        """What an attach begins to make, where there is an attachment.

        One that is missing keeps what is known of it.
        """
        state = known.state.when_being_made()
        if state is not AttachmentState.REATTACHING:
            return dataclasses.replace(self, state=state)
        return dataclasses.replace(
            self,
            state=state,
            wwn=known.wwn,
            device=known.device,
            again=known.again,
        )

    def being_taken_down(self) -> 'AttachmentRecord':
        """From the first change on that a detach makes."""
        return dataclasses.replace(
            self, state=self.state.when_taken_down(), again=None
        )

    def with_device(self, device: objects.DeviceInfo) -> 'AttachmentRecord':
        """As the caller is told of it."""
        return dataclasses.replace(
            self,
            state=AttachmentState.DEGRADED
            if device.degraded
            else AttachmentState.ATTACHED,
            device=device.obj_to_primitive(),
        )

    def with_state(self, state: AttachmentState) -> 'AttachmentRecord':
        return dataclasses.replace(self, state=state)


#: All of them, oldest first.
SELECT = 'SELECT * FROM attachments ORDER BY created_at, attachment_id'


def put(connection: sqlite3.Connection, record: AttachmentRecord) -> None:
    """Write an attachment, new or changed.

    :raises IllegalStateChange: its state cannot follow the one it had
    """
    before = _state(connection, record.attachment_id)
    check_change(record.attachment_id, before, record.state)
    database.insert(
        connection,
        'INSERT INTO attachments',
        'ON CONFLICT (attachment_id) DO UPDATE SET wwn = excluded.wwn,'
        ' connection_key = excluded.connection_key,'
        ' connection = excluded.connection, volume_id = excluded.volume_id,'
        ' state = excluded.state, device = excluded.device,'
        ' boot_id = excluded.boot_id, again = excluded.again,'
        ' updated_at = excluded.updated_at,'
        ' volume = coalesce(normal_form(excluded.wwn), volume),'
        f' listed = CASE WHEN excluded.state IN {_UNFINISHED} THEN listed END',
        **vars(record)
        | {
            'connection': json.dumps(record.connection),
            'device': json.dumps(record.device) if record.device else None,
            'again': json.dumps(record.again) if record.again else None,
            'created_at': record.created_at or database.timestamp(),
            'updated_at': database.timestamp(),
        },
    )


def delete(connection: sqlite3.Connection, attachment_id: str) -> None:
    """Forget an attachment.

    :raises IllegalStateChange: it cannot be gone yet
    """
    with contextlib.suppress(exception.RecordUnreadable):
        check_change(attachment_id, _state(connection, attachment_id), None)
    connection.execute(
        'DELETE FROM lines WHERE volume = (SELECT volume FROM attachments'
        ' WHERE attachment_id = ?) AND (SELECT count(*) FROM attachments'
        ' WHERE attachments.volume = lines.volume) = 1',
        (attachment_id,),
    )
    connection.execute(
        'DELETE FROM attachments WHERE attachment_id = ?', (attachment_id,)
    )


def from_row(row: sqlite3.Row) -> AttachmentRecord:
    """:raises RecordUnreadable: see :func:`_state_in`"""
    columns = dict(row)
    for name in ('volume', 'listed'):  # only holdings look at them
        del columns[name]
    columns['state'] = _state_in(row)
    for name in ('connection', 'device', 'again'):
        columns[name] = reading.decoded(columns[name])
    return AttachmentRecord(**columns)


def from_rows(rows: Iterable[sqlite3.Row]) -> list[AttachmentRecord]:
    """Those that have a state that this version knows."""
    found = []
    for row in rows:
        with contextlib.suppress(exception.RecordUnreadable):
            found.append(from_row(row))
    return found


def check(row: sqlite3.Row) -> type[objects.ConnectionInfo]:
    """Raise if a record makes no sense.

    :returns: the class of what it is connected to
    :raises RecordUnreadable: it makes none
    """
    what = f'attachment {row["attachment_id"]}'
    _state_in(row)
    with reading.legible(what):
        if row['volume_id'] is not None:
            rules.identifier(row['volume_id'])
        for name in ('created_at', 'updated_at'):
            datetime.datetime.fromisoformat(row[name])
    if row['device'] is not None:
        reading.class_in(row['device'], objects.DeviceInfo, what)
    return reading.class_in(row['connection'], objects.ConnectionInfo, what)


def unreadable(
    rows: Iterable[sqlite3.Row],
) -> dict[str, exception.RecordUnreadable]:
    """By attachment, what is wrong where a record makes no sense."""
    found = {}
    for row in rows:
        try:
            check(row)
        except exception.RecordUnreadable as error:
            found[row['attachment_id']] = error
    return found


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """An objects.Attachment, as a primitive.

    What was stored as a primitive goes out as it is.

    :param row: with the column ``result``, that of its last request
    :raises RecordUnreadable: it makes no sense
    """
    connection, what = check(row), f'attachment {row["attachment_id"]}'
    with reading.legible(what):
        data = json.loads(row['connection'])[reading.DATA]
        protocol = connection.protocol_of(data)
    result = row['result']
    if result is not None:
        try:
            reading.class_in(
                result,
                objects.OperationResult,
                f'request {row["last_request"]}',
            )
        except exception.RecordUnreadable:
            result = None
    found: dict[str, Any] = objects.Attachment(
        attachment_id=row['attachment_id'],
        volume_id=row['volume_id'],
        protocol=protocol,
        state=AttachmentState(row['state']).shown,
        created_at=datetime.datetime.fromisoformat(row['created_at']),
        updated_at=datetime.datetime.fromisoformat(row['updated_at']),
    ).obj_to_primitive()
    found[reading.DATA] |= {
        'device': reading.decoded(row['device']),
        'last_result': reading.decoded(result),
    }
    return found


def _state_in(row: sqlite3.Row) -> AttachmentState:
    """:raises RecordUnreadable: it has none, or is of nothing, as it seems"""
    with reading.legible(f'attachment {row["attachment_id"]}'):
        rules.identifier(row['attachment_id'])
        return AttachmentState(row['state'])


def _state(
    connection: sqlite3.Connection, attachment_id: str
) -> AttachmentState | None:
    row = connection.execute(
        'SELECT state FROM attachments WHERE attachment_id = ?',
        (attachment_id,),
    ).fetchone()
    with reading.legible(f'attachment {attachment_id}'):
        return row and AttachmentState(row['state'])
