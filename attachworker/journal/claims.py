# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Which targets an attachment uses, and which sessions are ours."""

import sqlite3
from typing import Any

from attachworker.journal import database
from attachworker.objects import Target

# A name without a portal is that of a file, say, and has its case.
_SAME_NAME = "name = :name COLLATE NOCASE AND (portal != '' OR name = :name)"
_SAME_SESSION = f'portal = :portal AND {_SAME_NAME}'
_SAME_CLAIM = (
    f'{_SAME_SESSION} AND lun = :lun AND attachment_id = :attachment_id'
)


class Claims:
    """The claims of one attachment; see :class:`connectors.base.Claims`.

    :param boot_id: of the running kernel; session numbers count from there
    :param cut_short: a login of an earlier worker may end yet: what it makes
        stays ours, see :meth:`forget_session`
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

    def take(self, target: Target) -> None:
        self._write(
            'INSERT OR IGNORE INTO claims (portal, name, lun, attachment_id)'
            ' VALUES (:portal, :name, :lun, :attachment_id)',
            target,
        )

    def release(self, target: Target) -> None:
        """Give a target up; a device that we made goes with its last user."""
        with self._journal.transaction() as connection:
            heirs = self._sharers(target) if self.made_device(target) else []
            connection.executemany(
                'UPDATE claims SET made_device = 1 WHERE rowid = ?',
                [(row['id'],) for row in heirs],
            )
            connection.execute(
                f'DELETE FROM claims WHERE {_SAME_CLAIM}',
                self._values(target),
            )

    def taken(self) -> list[Target]:
        """All targets that this attachment may have left something of."""
        rows = self._journal.rows(
            'SELECT portal, name, lun FROM claims WHERE attachment_id = ?',
            self._attachment_id,
        )
        return [target_of(row) for row in rows]

    def intend_device(self, target: Target) -> None:
        self._write(
            f'UPDATE claims SET made_device = 1 WHERE {_SAME_CLAIM}', target
        )

    def made_device(self, target: Target) -> bool:
        return self._any(f'claims WHERE {_SAME_CLAIM} AND made_device', target)

    def shared(self, target: Target) -> bool:
        return bool(self._sharers(target))

    def _sharers(self, target: Target) -> list[sqlite3.Row]:
        """The claims of others to the device.

        The portals of a target may be several, with commas between them: one
        in common is enough.
        """
        values = self._values(target)
        rows = self._journal.rows(
            'SELECT rowid AS id, portal FROM claims'
            f' WHERE {_SAME_NAME} AND lun = :lun'
            ' AND attachment_id != :attachment_id',
            **values,
        )
        portals = set(values['portal'].split(','))
        return [row for row in rows if portals & set(row['portal'].split(','))]

    def session_shared(self, target: Target) -> bool:
        return self._any(
            f'claims WHERE {_SAME_SESSION}'
            ' AND attachment_id != :attachment_id',
            target,
        )

    def intend_session(self, target: Target, after: int) -> None:
        self._write(
            'INSERT OR REPLACE INTO sessions (portal, name, boot_id, after)'
            ' VALUES (:portal, :name, :boot_id, :number)',
            target,
            after,
        )

    def intends_session(self, target: Target) -> bool:
        return self._any(
            f'sessions WHERE {_SAME_SESSION} AND boot_id = :boot_id'
            ' AND number IS NULL',
            target,
        )

    def confirm_session(self, target: Target, number: int) -> None:
        self._write(
            f'UPDATE sessions SET number = :number WHERE {_SAME_SESSION}',
            target,
            number,
        )

    def owns_session(self, target: Target, number: int) -> bool:
        """Ours is what came after our intent: a crash may have kept the
        number from us, but numbers only grow."""
        return self._any(
            f'sessions WHERE {_SAME_SESSION} AND boot_id = :boot_id AND'
            ' (number = :number OR (number IS NULL AND after < :number))',
            target,
            number,
        )

    def forget_session(self, target: Target) -> None:
        self._write(
            f'DELETE FROM sessions WHERE {_SAME_SESSION}'
            + (' AND number IS NOT NULL' if self.cut_short else ''),
            target,
        )

    def _write(
        self, statement: str, target: Target, number: int | None = None
    ) -> None:
        with self._journal.transaction() as connection:
            connection.execute(statement, self._values(target, number))

    def _any(
        self, where: str, target: Target, number: int | None = None
    ) -> bool:
        query = f'SELECT 1 FROM {where} LIMIT 1'
        return bool(self._journal.rows(query, **self._values(target, number)))

    def _values(
        self, target: Target, number: int | None = None
    ) -> dict[str, Any]:
        portal, name, lun = target
        return {
            'portal': portal,
            'name': name,
            # as text: it may need all 64 bits, SQLite's integers have a sign
            'lun': str(lun),
            'attachment_id': self._attachment_id,
            'boot_id': self._boot_id,
            'number': number,
        }


def target_of(row: sqlite3.Row) -> Target:
    """The target of a row of claims."""
    lun = row['lun']
    number = int(lun) if lun.isdigit() else lun
    return Target(row['portal'], row['name'], number)
