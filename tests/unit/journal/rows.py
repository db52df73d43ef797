# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Rows to put into a journal."""

import pathlib
import sqlite3
from typing import Any

from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.journal import database
from attachworker.journal import without_secrets
from attachworker.journal.attachments import CHANGES
from tests.unit.objects import shapes

REPLY_TO = {'exchange': 'e', 'topic': 't', 'server': 's'}


def request(request_id: str = 'request', **values: Any) -> RequestRecord:
    return RequestRecord(
        **{
            'request_id': request_id,
            'operation': 'attach',
            'attachment_id': 'attachment',
            'digest': 'digest',
            'body': {'is': 'the body'},
            'boot_id': 'boot',
            'accepted': 12.5,
            'deadline': 72.5,
            'created_at': '2026-11-22T10:00:00.000000Z',
            **values,
        }
    )


def attachment(name: str = 'attachment', **values: Any) -> AttachmentRecord:
    return AttachmentRecord(
        **{
            'attachment_id': name,
            'volume_id': 'volume',
            'connection_key': 'iscsi single …',
            'connection': without_secrets(
                objects.ConnectionInfo.from_dict(shapes.lio())
            ),
            'state': AttachmentState.ATTACHING,
            'last_request': 'request',
            'boot_id': 'boot',
            **values,
        }
    )


def put(records: Records, record: AttachmentRecord) -> None:
    """Write an attachment of any state, by the changes that lead there."""
    for state in way_to(record.state):
        records.put_attachment(record.with_state(state))


def way_to(wanted: AttachmentState) -> list[AttachmentState]:
    """The shortest one, from no attachment."""
    ways: list[list[AttachmentState]] = [[]]
    for way in ways:  # grows
        last = way[-1] if way else None
        if last is wanted:
            return way
        ways += [
            [*way, one] for one in CHANGES[last] if one and one not in way
        ]
    raise LookupError(wanted)


def old_journal(directory: pathlib.Path, version: int) -> sqlite3.Connection:
    """An empty journal as an earlier version has made it."""
    directory.mkdir()
    made = sqlite3.connect(directory / 'journal.sqlite')
    made.create_function('normal_form', 1, objects.normalise_wwn)
    made.executescript(database.SCHEMA)
    for before in range(1, version):
        made.executescript(database.UPGRADES[before])
    made.execute(f'PRAGMA user_version = {version}')
    return made
