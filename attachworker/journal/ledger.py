# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""All that the journal says is ours on this host."""

import dataclasses
import functools
import sqlite3

from attachworker import exception
from attachworker.journal import attachments
from attachworker.journal import database


@dataclasses.dataclass(frozen=True)
class Contents:
    """What was ours at one time, or at one of two.

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

    @functools.cached_property
    def attachments(self) -> list[attachments.AttachmentRecord]:
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


class Ledger:
    """Reads :class:`Contents`."""

    def __init__(self, journal: database.Database) -> None:
        self._journal = journal

    def read(self) -> Contents:
        """:raises JournalUnavailable: it cannot be read"""
        rows = self._journal.rows
        return Contents(
            {row['attachment_id']: row for row in rows(attachments.SELECT)},
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
