# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""All that the journal says is ours on this host."""

import dataclasses

from attachworker import exception
from attachworker.journal import attachments
from attachworker.journal import database
from attachworker.journal import records


@dataclasses.dataclass(frozen=True)
class Contents:
    """What was ours at one time, or at one of two.

    :ivar attachments: oldest first
    :ivar unreadable: by attachment, why nobody can make sense of its record
    :ivar busy: attachments that somebody is working on
    :ivar paths: an attachment, a path that it holds, and its link, by key
    :ivar links: a link by key, its boot, the last number before our login,
        and our number if it is known
    """

    attachments: tuple[attachments.AttachmentRecord, ...]
    unreadable: dict[str, exception.RecordUnreadable]
    busy: frozenset[str]
    paths: frozenset[tuple[str, str, str]]
    links: frozenset[tuple[str, str, int, int | None]]

    def __or__(self, later: 'Contents') -> 'Contents':
        """Both; an attachment that has changed in between is busy."""
        changed = [
            one.attachment_id
            for one in (*self.attachments, *later.attachments)
            if one not in self.attachments or one not in later.attachments
        ]
        return Contents(
            tuple(one for one in later.attachments if one in self.attachments),
            later.unreadable,
            self.busy.union(later.busy, changed),
            self.paths | later.paths,
            self.links | later.links,
        )


class Ledger:
    """Reads :class:`Contents`."""

    def __init__(self, journal: database.Database) -> None:
        self._journal = journal
        self._records = records.Records(journal)

    def read(self) -> Contents:
        """:raises JournalUnavailable: it cannot be read"""
        rows = self._journal.rows
        return Contents(
            tuple(self._records.attachments()),
            self._records.unreadable(),
            frozenset(
                row['attachment_id']
                for row in rows(
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
