# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Answers as tables of at most 80 columns."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os
import re
import sys
from typing import Any

import prettytable

WIDTH = 80

_GREEN, _YELLOW, _RED = '32', '33', '31'
_COLOURS = {
    **dict.fromkeys(('attached', 'detached', 'extended', 'ok'), _GREEN),
    **dict.fromkeys(
        ('attaching', 'detaching', 'degraded', 'warning', 'stale', 'orphan'),
        _YELLOW,
    ),
    **dict.fromkeys(('failed', 'failure', 'missing'), _RED),
}
#: A cell with nothing else in it.
_STATE = re.compile(rf'(?<=\| )({"|".join(_COLOURS)})(?= +\|)')


def listing(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return one line per row; columns are keys of the rows."""
    return _table(
        [name.upper().replace('_', ' ') for name in columns],
        [[_text(row.get(name)) for name in columns] for row in rows],
    )


def details(values: Mapping[str, Any]) -> str:
    """Return one line per value; what is empty is left out."""
    return _table(
        ['FIELD', 'VALUE'],
        [[name, _text(value)] for name, value in _flat(values)],
    )


def show(table: str) -> None:
    """Print a table, with colours on a terminal (see no-color.org)."""
    plain = os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb'
    colours = sys.stdout.isatty() and not plain
    print(coloured(table) if colours else table)


def coloured(table: str) -> str:
    """Give cells that say how something stands the colour of that."""
    return _STATE.sub(
        lambda found: f'\033[{_COLOURS[found[0]]}m{found[0]}\033[0m', table
    )


def one_line(text: Any) -> str:
    """Make text of any origin safe for a terminal, on one line."""
    return ' '.join(
        ''.join(
            character if character.isprintable() else ' '
            for character in str(text)
        ).split()
    )


def _table(columns: list[str], rows: list[list[str]]) -> str:
    table = prettytable.PrettyTable(columns)
    table.align = 'l'
    table.add_rows(rows)
    table.max_width = dict(
        zip(columns, _widths([columns, *rows]), strict=True)
    )
    return table.get_string()


def _widths(rows: list[list[str]]) -> list[int]:
    """Take from the widest columns until all fit; narrow ones stay."""
    widths = [
        max(len(line) for cell in column for line in cell.split('\n'))
        for column in zip(*rows, strict=True)
    ]
    # Each column has a border and two blanks, and there is one border more.
    room = WIDTH - 1 - 3 * len(widths)
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    return widths


def _flat(
    values: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f'{name}.')
        elif value not in (None, [], {}, ''):
            yield f'{prefix}{name}', value


def _text(value: Any) -> str:
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.3f}'
    if isinstance(value, Mapping):
        return ' '.join(
            f'{name}={_text(item)}'
            for name, item in value.items()
            if item not in (None, [], {}, '')
        )
    if isinstance(value, (list, tuple)):
        return '\n'.join(_text(item) for item in value)
    return one_line(value)
