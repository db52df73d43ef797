# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes the known differences as a page: ``python -m tests.parity.page``."""

import pathlib

from tests.parity import table

PAGE = (
    pathlib.Path(__file__).resolve().parents[2]
    / 'doc/source/contributor/parity-table.inc'
)


def text() -> str:
    """All rows of the table, in reStructuredText."""
    lines = ['.. Written by "python -m tests.parity.page".', '']
    for row in table.ROWS:
        lines.append(row.name)
        if not row.differences:
            lines.append('    Equal.')
        for known in row.differences:
            lines.append(
                f'    {known.field}: os-brick ``{known.os_brick!r}``, '
                f'attachworker ``{known.attachworker!r}``. {known.reason}'
            )
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    PAGE.write_text(text())
