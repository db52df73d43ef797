# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Answers for people: tables as wide as the terminal, with units."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import os
import re
import shutil
import sys
import textwrap
from typing import Any
from typing import TextIO

from cliff.formatters import table as cliff_table
import prettytable

#: Of an attachment in a list, and those that are always shown.
ATTACHMENT = (
    'attachment_id',
    'protocol',
    'state',
    'on_host',
    'device',
    'size',
    'age',
    'volume_id',
    'wwn',
    'multipath_id',
    'paths',
    'created_at',
    'updated_at',
)
NARROW = frozenset(ATTACHMENT[:7])

#: No column is made narrower than so many characters.
_NARROWEST = 12

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


def width(options: argparse.Namespace | None = None) -> int | None:
    """How many characters a line may have; None: any number.

    :param options: of the command, if it takes --max-width
    """
    if options is not None and options.max_width > 0:
        return int(options.max_width)
    if sys.stdout.isatty() or os.environ.get('COLUMNS'):
        return shutil.get_terminal_size().columns
    return None


def listing(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    most: int | None,
) -> str:
    """Return one line per row; columns are keys of the rows.

    :param most: characters of a line; words that are longer stay whole
    """
    return _table(
        [name.upper().replace('_', ' ') for name in columns],
        [[_text(row.get(name)) for name in columns] for row in rows],
        most,
    )


def details(values: Mapping[str, Any], most: int | None) -> str:
    """Return one line per value; what is empty is left out."""
    return _table(
        ['FIELD', 'VALUE'],
        [
            [name, _text(value)]
            for name, value in flat(values).items()
            if value not in _EMPTY
        ],
        most,
    )


class Formatter(cliff_table.TableFormatter):
    """The format table of cliff, as wide as the terminal, with colours."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group('table formatter')
        group.add_argument(
            '--max-width',
            metavar='N',
            type=int,
            default=0,
            help='how many characters a line may have, as far as words allow; '
            'default: those of the terminal',
        )

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        rows = [dict(zip(column_names, row, strict=True)) for row in data]
        show(listing(column_names, rows, width(parsed_args)), stdout)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        values = dict(zip(column_names, data, strict=True))
        show(details(values, width(parsed_args)), stdout)


def show(table: str, output: TextIO) -> None:
    """Print a table, with colours on a terminal (see no-color.org)."""
    plain = os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb'
    colours = output.isatty() and not plain
    print(coloured(table) if colours else table, file=output)


def result(value: Mapping[str, Any], verbose: bool) -> dict[str, Any]:
    """What people see of the result of an operation, or of an attachment.

    :param verbose: with the seconds that each step took
    """
    found = dict(value)
    timings = found.pop('timings', None) or {}
    if found.get('device'):
        found['device'] = _device(found['device'])
    if found.get('old_size') is not None:
        found['old_size'] = size(found['old_size'])
    if verbose and timings:
        found['timings'] = {
            step: f'{seconds:.3f} s' for step, seconds in timings.items()
        }
    return found


def _device(value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, 'size': size(value['size'])}


def attachment(value: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a list of attachments."""
    device = value.get('device') or {}
    paths = device.get('paths', [])
    connected = [one for one in paths if one['state'] == 'connected']
    return {
        **value,
        'on_host': (value.get('on_host') or {}).get('state'),
        'device': device.get('path'),
        'size': size(device['size']) if device else None,
        'age': age(value['created_at']),
        'wwn': device.get('scsi_wwn'),
        'multipath_id': device.get('multipath_id'),
        'paths': f'{len(connected)} of {len(paths)}' if paths else None,
    }


def size(count: int) -> str:
    """Bytes in the largest unit of which there is one: 20 GiB, 1.5 KiB."""
    for power, unit in reversed(list(enumerate('KMGTPE', 1))):
        if count >= 1024**power:
            return f'{count / 1024**power:.1f}'.removesuffix('.0') + (
                f' {unit}iB'
            )
    return f'{count} B'


def age(created: str) -> str:
    """How long ago a time was that is written as JSON has it."""
    moment = datetime.datetime.fromisoformat(created)
    seconds = int(
        (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
    )
    for length, unit in ((86400, 'd'), (3600, 'h'), (60, 'min')):
        if seconds >= length:
            return f'{seconds // length} {unit}'
    return f'{max(0, seconds)} s'


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


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the fields of objects one by one: device.path."""
    return dict(_flat(values))


def _flat(
    values: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and not prefix:
            yield from _flat(value, f'{name}.')
        else:
            yield f'{prefix}{name}', value


def _table(columns: list[str], rows: list[list[str]], most: int | None) -> str:
    if most is not None:
        widths = _widths([columns, *rows], most)
        rows = [
            [
                _wrapped(cell, wide)
                for cell, wide in zip(row, widths, strict=True)
            ]
            for row in rows
        ]
    table = prettytable.PrettyTable(columns)
    table.align = 'l'
    table.add_rows(rows)
    return table.get_string()


def _wrapped(text: str, most: int) -> str:
    """Text in shorter lines; a word is never cut, to be copied as it is."""
    return '\n'.join(
        textwrap.fill(
            line, most, break_long_words=False, break_on_hyphens=False
        )
        for line in text.split('\n')
    )


def _widths(rows: list[list[str]], most: int) -> list[int]:
    """Take from the widest columns until all fit; narrow ones stay."""
    cells = [
        [line for cell in column for line in cell.split('\n')]
        for column in zip(*rows, strict=True)
    ]
    widths = [max(map(len, column)) for column in cells]
    # Each column has a border and two blanks, and there is one border more.
    room = most - 1 - 3 * len(widths)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


_EMPTY: tuple[Any, ...] = (None, [], {}, '')


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
            if item not in _EMPTY
        )
    if isinstance(value, (list, tuple)):
        return '\n'.join(_text(item) for item in value)
    return one_line(value)
