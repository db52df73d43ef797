# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Options that several commands take, and how their values are read."""

import argparse
import re
from typing import Any

_SIZE = re.compile(r'([0-9]+(?:\.[0-9]+)?) ?(?:([KMGTPE])(?:i?B)?|B)?', re.I)


def add_where_to(parser: argparse.ArgumentParser) -> None:
    """Add what says which worker is asked, and for how long."""
    options = parser.add_argument_group('where to')
    options.add_argument(
        '--transport-url',
        metavar='URL',
        type=given,
        help='the bus, rabbit://user:password@host:port/vhost; default: of '
        'the configuration. Other users of this host may see it: '
        'better put it into a file',
    )
    options.add_argument(
        '--host',
        metavar='NAME',
        type=given,
        help='the host; default: of the configuration, or this one',
    )
    add_config_file(options)
    options.add_argument(
        '--timeout',
        metavar='SECONDS',
        type=_seconds,
        help='how long to wait for the answer; default: 10, and for attach '
        'and detach as long as the worker may take',
    )


def add_config_file(options: Any) -> None:
    """Add --config-file to a parser or a group of one."""
    options.add_argument(
        '--config-file',
        metavar='FILE',
        action='append',
        type=given,
        help='read FILE instead of /etc/attachworker/attachworker.conf; '
        '/dev/null: read none',
    )


def add_format(options: Any) -> None:
    """Add --format, which a command may take as well, to a parser."""
    options.add_argument(
        '--format',
        metavar='FORMAT',
        help='table, json, yaml, value, shell or csv, as far as a command '
        'has them; default: table',
    )


def given(text: str) -> str:
    """A value that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError('must not be empty')
    return text


def size(text: str) -> int:
    """Bytes, of a number that may have a unit: 20G and 20GiB are the same."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size; write bytes, or 20G for 20 GiB'
        )
    power = 'BKMGTPE'.index((found[2] or 'B').upper())
    return int(float(found[1]) * 1024**power) if power else int(found[1])


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError('must be more than 0')
    return value
