# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""All that the journal says is ours on this host."""

import dataclasses

from attachworker.journal import attachments
from attachworker.journal import claims
from attachworker.journal import database
from attachworker.journal import records
from attachworker.objects import Target


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What was ours at one time, or at one of two.

    :ivar attachments: oldest first
    :ivar busy: attachments that somebody is working on
    :ivar claims: an attachment and a target that it uses
    :ivar sessions: portal, name, boot, the last number before our login, and
        our number if it is known
    """

    attachments: tuple[attachments.AttachmentRecord, ...]
    busy: frozenset[str]
    claims: frozenset[tuple[str, Target]]
    sessions: frozenset[tuple[str, str, str, int, int | None]]

    def __or__(self, later: 'Holdings') -> 'Holdings':
        """Both; an attachment that has changed in between is busy."""
        changed = [
            one.attachment_id
            for one in (*self.attachments, *later.attachments)
            if one not in self.attachments or one not in later.attachments
        ]
        return Holdings(
            tuple(one for one in later.attachments if one in self.attachments),
            self.busy.union(later.busy, changed),
            self.claims | later.claims,
            self.sessions | later.sessions,
        )


class Ledger:
    """Reads :class:`Holdings`."""

    def __init__(self, journal: database.Database) -> None:
        self._journal = journal
        self._records = records.Records(journal)

    def read(self) -> Holdings:
        """:raises JournalUnavailable: it cannot be read"""
        rows = self._journal.rows
        return Holdings(
            tuple(self._records.attachments()),
            frozenset(
                row['attachment_id']
                for row in rows(
                    'SELECT attachment_id FROM requests WHERE result IS NULL'
                )
            ),
            frozenset(
                (
                    row['attachment_id'],
                    claims.target_of(row),
                )
                for row in rows('SELECT * FROM claims')
            ),
            frozenset(
                (
                    row['portal'],
                    row['name'],
                    row['boot_id'],
                    row['after'],
                    row['number'],
                )
                for row in rows('SELECT * FROM sessions')
            ),
        )
