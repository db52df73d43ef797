# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""Which targets an attachment uses, and which sessions are ours."""

from attachworker.journal import database

#: Portal, target name and LUN.
Target = tuple[str, str, int]

# The names of targets have no case.
_SAME_SESSION = 'portal = ? AND name = ? COLLATE NOCASE'
_SAME_LUN = f'{_SAME_SESSION} AND lun = ?'


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
        self._cut_short = cut_short

    def take(self, target: Target) -> None:
        self._write(
            'INSERT OR IGNORE INTO claims (portal, name, lun, attachment_id)'
            ' VALUES (?, ?, ?, ?)',
            *_key(target),
            self._attachment_id,
        )

    def release(self, target: Target) -> None:
        """Give a target up; a device that we made goes with its last user."""
        key = _key(target)
        with self._journal.transaction() as connection:
            connection.execute(
                'UPDATE claims SET made_device = 1'
                f' WHERE {_SAME_LUN} AND EXISTS (SELECT 1 FROM claims WHERE'
                f' {_SAME_LUN} AND attachment_id = ? AND made_device)',
                (*key, *key, self._attachment_id),
            )
            connection.execute(
                f'DELETE FROM claims WHERE {_SAME_LUN} AND attachment_id = ?',
                (*key, self._attachment_id),
            )

    def release_all(self) -> None:
        """Give up everything: a reboot has taken it away.

        With it go all sessions of earlier boots, whoever used them.
        """
        with self._journal.transaction() as connection:
            connection.execute(
                'DELETE FROM claims WHERE attachment_id = ?',
                (self._attachment_id,),
            )
            connection.execute(
                'DELETE FROM sessions WHERE boot_id != ?', (self._boot_id,)
            )

    def taken(self) -> list[Target]:
        """All targets that this attachment may have left something of."""
        rows = self._journal.rows(
            'SELECT portal, name, lun FROM claims WHERE attachment_id = ?',
            self._attachment_id,
        )
        return [(row['portal'], row['name'], int(row['lun'])) for row in rows]

    def intend_device(self, target: Target) -> None:
        self._write(
            'UPDATE claims SET made_device = 1'
            f' WHERE {_SAME_LUN} AND attachment_id = ?',
            *_key(target),
            self._attachment_id,
        )

    def made_device(self, target: Target) -> bool:
        return self._any(
            f'SELECT 1 FROM claims WHERE {_SAME_LUN} AND attachment_id = ?'
            ' AND made_device',
            *_key(target),
            self._attachment_id,
        )

    def shared(self, target: Target) -> bool:
        return self._any(
            f'SELECT 1 FROM claims WHERE {_SAME_LUN} AND attachment_id != ?',
            *_key(target),
            self._attachment_id,
        )

    def session_shared(self, target: Target) -> bool:
        return self._any(
            f'SELECT 1 FROM claims WHERE {_SAME_SESSION}'
            ' AND attachment_id != ?',
            *_key(target)[:2],
            self._attachment_id,
        )

    def intend_session(self, target: Target, after: int) -> None:
        self._write(
            'INSERT OR REPLACE INTO sessions (portal, name, boot_id, after)'
            ' VALUES (?, ?, ?, ?)',
            *_key(target)[:2],
            self._boot_id,
            after,
        )

    def intends_session(self, target: Target) -> bool:
        return self._any(
            f'SELECT 1 FROM sessions WHERE {_SAME_SESSION} AND boot_id = ?'
            ' AND number IS NULL',
            *_key(target)[:2],
            self._boot_id,
        )

    def confirm_session(self, target: Target, number: int) -> None:
        self._write(
            f'UPDATE sessions SET number = ? WHERE {_SAME_SESSION}',
            number,
            *_key(target)[:2],
        )

    def owns_session(self, target: Target, number: int) -> bool:
        """Ours is what came after our intent: a crash may have kept the
        number from us, but numbers only grow."""
        return self._any(
            f'SELECT 1 FROM sessions WHERE {_SAME_SESSION} AND boot_id = ?'
            ' AND (number = ? OR (number IS NULL AND after < ?))',
            *_key(target)[:2],
            self._boot_id,
            number,
            number,
        )

    def forget_session(self, target: Target) -> None:
        self._write(
            f'DELETE FROM sessions WHERE {_SAME_SESSION}'
            + (' AND number IS NOT NULL' if self._cut_short else ''),
            *_key(target)[:2],
        )

    def _write(self, statement: str, *values: object) -> None:
        with self._journal.transaction() as connection:
            connection.execute(statement, values)

    def _any(self, query: str, *values: object) -> bool:
        return bool(self._journal.rows(query + ' LIMIT 1', *values))


def _key(target: Target) -> tuple[str, str, str]:
    # as text: a LUN may need all 64 bits, SQLite's integers have a sign
    portal, name, lun = target
    return portal, name, str(lun)
