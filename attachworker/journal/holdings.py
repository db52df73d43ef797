# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who holds what on this host: the one place that knows.

An attachment holds paths to a volume, and through them links (sessions,
controllers) and the volume itself. Each is written before the act that it
speaks of: whatever a crash leaves behind is known to be ours, and what was
found is never taken for ours.

Paths and links are those of one boot, and a loss of power takes them away. So
what is written of them has to outlive the worker, not the machine. What an
attach writes to the disks of the host comes after :meth:`Holdings.identify`,
which lasts.
"""

from collections.abc import Sequence
import contextlib
import json
import sqlite3

from attachworker import exception
from attachworker.journal import database
from attachworker.journal import reading
from attachworker.objects import Target
from attachworker.objects import normalise_wwn

#: What failed attaches have left goes, and keeps nothing of another one.
_LEFT_OVER = (
    'SELECT attachment_id FROM attachments'
    " WHERE state IN ('attach_failed', 'reattach_failed')"
)


class Holdings:
    """What one attachment holds, and who else holds the same.

    :param boot_id: of the running kernel; numbers of links count from there
    :param cut_short: a login of an earlier worker may end yet: what it makes
        stays ours, see :meth:`forget_links`
    """

    def __init__(
        self,
        journal: database.Database,
        attachment_id: str,
        boot_id: str,
        cut_short: bool = False,
    ) -> None:
        self._journal = journal
        self._attachment_id = attachment_id
        self._boot_id = boot_id
        self.cut_short = cut_short

    # -- paths

    def take(self, path: Target) -> None:
        """This attachment uses a path from now on."""
        self._write(
            'INSERT OR IGNORE INTO holdings (attachment_id, path, link,'
            ' volume_name) VALUES (?, ?, ?, ?)',
            self._attachment_id,
            path.key,
            path.link_key,
            path.volume_name,
        )

    def release(self, path: Target) -> None:
        """Give a path up; a device that we made goes with its last holder."""
        with self._journal.transaction(lasting=False) as connection:
            self._leave(connection, path)

    def hand_over(self, path: Target, heir: str) -> None:
        """Give a path, as it is, to another attachment of the volume."""
        with self._journal.transaction(lasting=False) as connection:
            connection.execute(
                'INSERT OR IGNORE INTO holdings (attachment_id, path, link,'
                ' volume_name) SELECT ?, path, link, volume_name FROM holdings'
                ' WHERE path = ? AND attachment_id = ?',
                (heir, path.key, self._attachment_id),
            )
            self._leave(connection, path)

    def _leave(self, connection: sqlite3.Connection, path: Target) -> None:
        if self.made_device(path):
            connection.executemany(
                'UPDATE holdings SET made = 1 WHERE rowid = ?',
                [(row['id'],) for row in self._sharers(path)],
            )
        connection.execute(
            'DELETE FROM holdings WHERE path = ? AND attachment_id = ?',
            (path.key, self._attachment_id),
        )

    def paths(
        self, target_class: type[Target], attachment_id: str | None = None
    ) -> list[Target]:
        """All paths that an attachment may have used.

        :param target_class: of its protocol
        :param attachment_id: None: this one
        :raises RecordUnreadable: one of them makes no sense
        """
        rows = self._journal.rows(
            'SELECT path FROM holdings WHERE attachment_id = ? ORDER BY rowid',
            attachment_id or self._attachment_id,
        )
        with reading.legible(f'attachment {self._attachment_id}'):
            return [target_class.from_key(row['path']) for row in rows]

    def intend_device(self, path: Target) -> None:
        """The device of this path is about to be made by us."""
        self._write(
            'UPDATE holdings SET made = 1 WHERE path = ?'
            ' AND attachment_id = ?',
            path.key,
            self._attachment_id,
        )

    def made_device(self, path: Target) -> bool:
        return self._any(
            'holdings WHERE path = ? AND attachment_id = ? AND made',
            path.key,
            self._attachment_id,
        )

    def path_holders(self, path: Target) -> list[str]:
        """Other attachments that use the device of this path."""
        return [row['attachment_id'] for row in self._sharers(path)]

    def _sharers(self, path: Target) -> list[sqlite3.Row]:
        rows = self._journal.rows(
            'SELECT rowid AS id, attachment_id, path FROM holdings'
            ' WHERE volume_name = ? AND attachment_id != ?'
            f' AND attachment_id NOT IN ({_LEFT_OVER})',
            path.volume_name,
            self._attachment_id,
        )
        with reading.legible(f'attachments of {path.label}'):
            return [
                row for row in rows if path.leads_to_device_of(row['path'])
            ]

    def name_holders(self, paths: Sequence[Target]) -> list[str]:
        """Other attachments of what the storage calls the same."""
        names = list({path.volume_name for path in paths})
        rows = self._journal.rows(
            'SELECT DISTINCT attachment_id FROM holdings WHERE'
            f' volume_name IN ({", ".join("?" * len(names))})'
            ' AND attachment_id != ?',
            *names,
            self._attachment_id,
        )
        return [row['attachment_id'] for row in rows]

    # -- the volume

    def identify(self, identity: str) -> None:
        """It is known which volume this attachment is about.

        :param identity: in any spelling
        """
        with self._journal.transaction() as connection:
            connection.execute(
                'UPDATE attachments SET volume = ? WHERE attachment_id = ?',
                (normalise_wwn(identity), self._attachment_id),
            )
            self._note_line(connection, identity)

    def identity(self) -> str | None:
        """Which volume this attachment is about, in normal form, if known."""
        return self._column('volume', self._attachment_id)

    def found_listed(self, wwids: frozenset[str]) -> None:
        """What is on multipath's list before this attachment brings devices.

        What is there since other attachments came, or began to come, is ours.
        It is known until this one is made, or gone without a trace.
        """
        ours = self._journal.rows('SELECT wwid FROM lines WHERE NOT found')
        found = wwids.difference(row['wwid'] for row in ours)
        others = self._journal.rows(
            'SELECT attachment_id, listed FROM attachments'
            ' WHERE listed IS NOT NULL AND attachment_id != ?',
            self._attachment_id,
        )
        for other in others:
            # Where nobody knows what was there before it, all was.
            with contextlib.suppress(exception.RecordUnreadable):
                found &= reading.as_names(
                    other['listed'], f'attachment {other["attachment_id"]}'
                )
        self._write(
            'UPDATE attachments SET listed = ? WHERE attachment_id = ?',
            json.dumps(sorted(found)),
            self._attachment_id,
        )

    def note_line(self, wwid: str) -> None:
        """multipathd calls the volume so, or will.

        A line of its list with that is ours if anybody who attached the
        volume has not found it there.
        """
        with self._journal.transaction() as connection:
            self._note_line(connection, wwid)

    def _note_line(self, connection: sqlite3.Connection, wwid: str) -> None:
        found = self._found_listed()
        if found is None:
            return
        connection.execute(
            'INSERT INTO lines (wwid, volume, found) SELECT ?, volume, ?'
            ' FROM attachments WHERE attachment_id = ? ON CONFLICT (wwid)'
            ' DO UPDATE SET found = min(found, excluded.found)',
            (wwid, wwid in found, self._attachment_id),
        )

    def was_listed(self, wwid: str) -> bool:
        """Whether multipath's list had a volume before we attached it."""
        rows = self._journal.rows(
            'SELECT found FROM lines WHERE wwid = ?', wwid
        )
        if rows:
            return bool(rows[0]['found'])
        return wwid in (self._found_listed() or ())

    def _found_listed(self) -> set[str] | None:
        """What the list held before us; None once the attachment is made.

        :raises RecordUnreadable: the journal does not say
        """
        listed = self._column('listed', self._attachment_id)
        if listed is None:
            return None
        return reading.as_names(listed, f'attachment {self._attachment_id}')

    def listed_for_us(self) -> set[str]:
        """What multipath's list may have since we attached the volume."""
        rows = self._journal.rows(
            'SELECT wwid FROM lines WHERE NOT found AND volume = (SELECT'
            ' volume FROM attachments WHERE attachment_id = ?)',
            self._attachment_id,
        )
        return {row['wwid'] for row in rows}

    def volume_holders(self, identity: str | None, like: Target) -> list[str]:
        """Other attachments of a volume that came the same way, oldest first.

        :param identity: in any spelling; None if nobody knows it
        :param like: one of the paths of this attachment
        """
        return self._others(identity, local=not like.portal)

    def volume_id(self, attachment_id: str | None = None) -> str | None:
        """What an attachment's caller calls the volume; None: nothing.

        :param attachment_id: None: this one
        """
        return self._column('volume_id', attachment_id or self._attachment_id)

    def has_map(self, attachment_id: str) -> bool | None:
        """Whether an attachment was given a multipath map.

        None: it was given nothing yet.

        :raises RecordUnreadable: the journal does not say
        """
        device = self._column('device', attachment_id)
        if device is None:
            return None
        with reading.legible(f'attachment {attachment_id}'):
            data = json.loads(device)[reading.DATA]
            return data['multipath_id'] is not None

    def local_holders(self, identity: str | None, like: Target) -> list[str]:
        """Attachments of this host's device of a volume, as it is there."""
        return self._others(identity, local=True) if like.portal else []

    def _others(self, identity: str | None, local: bool) -> list[str]:
        if identity is None:
            return []
        rows = self._journal.rows(
            'SELECT attachment_id FROM attachments WHERE volume = ?'
            ' AND attachment_id != ? AND EXISTS (SELECT 1 FROM holdings'
            ' WHERE holdings.attachment_id = attachments.attachment_id'
            " AND (path LIKE '/%') = ?)"
            f' AND attachment_id NOT IN ({_LEFT_OVER})'
            ' ORDER BY created_at, attachment_id',
            normalise_wwn(identity),
            self._attachment_id,
            local,
        )
        return [row['attachment_id'] for row in rows]

    # -- links

    def shares_link(self, path: Target) -> bool:
        """Whether other attachments use the link of this path."""
        return self._any(
            "holdings WHERE link = ? AND link != '' AND attachment_id != ?",
            path.link_key,
            self._attachment_id,
        )

    def intend_link(self, path: Target, after: int) -> None:
        """A link is about to be made; its number will be above this.

        There may be several to the same place: each has a row of its own.
        """
        with self._journal.transaction(lasting=False) as connection:
            connection.execute(
                'DELETE FROM links WHERE link = ? AND number IS NULL',
                (path.link_key,),
            )
            connection.execute(
                'INSERT INTO links (link, boot_id, after) VALUES (?, ?, ?)',
                (path.link_key, self._boot_id, after),
            )

    def intends_link(self, path: Target) -> bool:
        """A login was begun, and nobody knows yet how it has ended."""
        return self._any(
            'links WHERE link = ? AND boot_id = ? AND number IS NULL',
            path.link_key,
            self._boot_id,
        )

    def confirm_link(self, path: Target, number: int) -> None:
        self._write(
            'UPDATE links SET number = ? WHERE link = ? AND number IS NULL',
            number,
            path.link_key,
        )

    def owns_link(self, path: Target, number: int) -> bool:
        """Whether we made a link.

        Ours is what came after our intent: a crash may have kept the number
        from us, but numbers only grow.
        """
        return self._any(
            'links WHERE link = ? AND boot_id = ? AND'
            ' (number = ? OR (number IS NULL AND after < ?))',
            path.link_key,
            self._boot_id,
            number,
            number,
        )

    def withdraw_link(self, path: Target) -> None:
        """What was to be made has not come, and will not."""
        if not self.cut_short:
            self._write(
                'DELETE FROM links WHERE link = ? AND number IS NULL',
                path.link_key,
            )

    def forget_links(self, path: Target) -> None:
        """All links to this place have ended."""
        self._write(
            'DELETE FROM links WHERE link = ?'
            + (' AND number IS NOT NULL' if self.cut_short else ''),
            path.link_key,
        )

    def _column(self, name: str, attachment_id: str) -> str | None:
        """What the record of an attachment has there, if there is one."""
        rows = self._journal.rows(
            f'SELECT {name} FROM attachments WHERE attachment_id = ?',
            attachment_id,
        )
        return rows[0][name] if rows else None

    def _write(self, statement: str, *values: object) -> None:
        self._journal.write(statement, *values, lasting=False)

    def _any(self, where: str, *values: object) -> bool:
        rows: list[sqlite3.Row] = self._journal.rows(
            f'SELECT 1 FROM {where} LIMIT 1', *values
        )
        return bool(rows)
