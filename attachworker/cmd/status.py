# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""``attachworker-status``: what can be known without a worker."""

import argparse
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import pathlib
import sys
from typing import Any

from oslo_config import cfg

from attachworker import conf as options
from attachworker import exception
from attachworker.cmd import arguments
from attachworker.cmd import check
from attachworker.cmd import console
from attachworker.cmd import tables
from attachworker.cmd import upgrade
from attachworker.host import Host
from attachworker.journal import AttachmentRecord
from attachworker.journal import Reader
from attachworker.journal import Records
from attachworker.journal import RequestRecord

# As oslo.upgradecheck has them.
EXIT_FINE = 0
EXIT_WARNING = 1
EXIT_FAILURE = 2

_OPERATION = ('request_id', 'operation', 'attachment_id')
#: The columns of each part of the journal.
_TABLES = {
    'unfinished': (*_OPERATION, 'attempts', 'created_at'),
    'recovered': (*_OPERATION, 'attempts', 'status'),
    'unsent': (*_OPERATION, 'status'),
    'attachments': ('attachment_id', 'state', 'device', 'updated_at'),
}
#: What is told as JSON, beside the status and the device.
_OF_REQUESTS = (*_OPERATION, 'attempts', 'cancelled', 'created_at')
_OF_ATTACHMENTS = (
    'attachment_id',
    'volume_id',
    'state',
    'boot_id',
    'last_request',
    'created_at',
    'updated_at',
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return console.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as error:  # --help, or a usage error with its text
        return error.code if isinstance(error.code, int) else EXIT_FAILURE
    try:
        return int(args.run(args, args.read(args.config_file)))
    except (exception.AttachWorkerError, cfg.Error) as error:
        print(
            f'attachworker-status: {tables.one_line(error)}', file=sys.stderr
        )
        return EXIT_FAILURE


def _show(columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    tables.show(tables.listing(columns, rows, tables.width()), sys.stdout)


def _parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog='attachworker-status',
        description='Look at a host that has a worker, running or not.',
    )
    commands = root.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )
    journal = commands.add_parser(
        'journal',
        help='show what is in the journal of the worker',
        description='Show the journal of the worker: unfinished requests, '
        'those that were resumed after a restart, results that nobody '
        'has confirmed, attachments. It is only read, '
        'also while a worker runs.',
        epilog='Exit codes: 0 all is finished and sent, 1 something is not, '
        '2 the journal cannot be read.',
    )
    host = commands.add_parser(
        'check',
        help='show what this host lacks to attach volumes',
        description='Look whether this host can attach volumes: for each '
        'protocol the tools, kernel modules and names that it needs, the '
        'daemons, cryptsetup, the options, the directory of the journal, the '
        'bus. Nothing is changed.',
        epilog='Exit codes: 0 nothing is missing, 1 something is, and its '
        'line says what cannot be done without it, 2 nothing can be attached: '
        'no protocol can be used, the worker would not start, or nobody can '
        'reach it.',
    )
    new = commands.add_parser(
        'upgrade',
        help='show whether this host is ready for this release',
        description='With the new release installed and before its worker is '
        'started: look at the journal and at the options.',
        epilog='Exit codes: 0 go on, 1 read the details first, 2 do not '
        'start it.',
    )
    new.add_argument('action', choices=('check',))
    for command, run, read in (
        (journal, _journal, options.read),
        # These two tell of each value that makes no sense.
        (host, _check, options.parse),
        (new, _upgrade, options.parse),
    ):
        command.set_defaults(run=run, read=read)
        arguments.add_config_file(command)
        if command is not new:
            command.add_argument(
                '--format',
                choices=('table', 'json'),
                default='table',
                help='default: table',
            )
    return root


def _check(args: argparse.Namespace, conf: cfg.ConfigOpts) -> int:
    with contextlib.closing(Host.real()) as host:
        found = check.findings(conf, host)
    rows = [dataclasses.asdict(one) for one in found]
    if args.format == 'json':
        print(json.dumps(rows, indent=2))
    else:
        _show(('check', 'state', 'detail'), rows)
    states = {one.state for one in found}
    if check.FAILURE in states:
        return EXIT_FAILURE
    return EXIT_WARNING if check.WARNING in states else EXIT_FINE


def _upgrade(args: argparse.Namespace, conf: cfg.ConfigOpts) -> int:
    return upgrade.check(conf)


def _journal(args: argparse.Namespace, conf: cfg.ConfigOpts) -> int:
    reader = Reader(pathlib.Path(conf.state_path))
    with contextlib.closing(reader):
        found = _contents(Records(reader))
    if args.format == 'json':
        print(json.dumps(found, indent=2, sort_keys=True))
    else:
        for name, columns in _TABLES.items():
            print(f'{name}: {len(found[name])}')
            if found[name]:
                _show(columns, found[name])
    open_ends = found['unfinished'] or found['unsent']
    return EXIT_WARNING if open_ends else EXIT_FINE


def _contents(records: Records) -> dict[str, list[dict[str, Any]]]:
    return {
        'unfinished': [_request(one) for one in records.unfinished()],
        'recovered': [_request(one) for one in records.recovered()],
        'unsent': [
            _request(one) | {'reply_to': receiver}
            for one in records.undelivered()
            for receiver in one.receivers
        ],
        'attachments': [_attachment(one) for one in records.attachments()],
    }


def _request(record: RequestRecord) -> dict[str, Any]:
    result = record.result_object()
    return _values(record, _OF_REQUESTS) | (
        {'status': str(result.status)} if result else {}
    )


def _attachment(record: AttachmentRecord) -> dict[str, Any]:
    device = record.device_info()
    return _values(record, _OF_ATTACHMENTS) | {
        'device': device and device.path
    }


def _values(record: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


if __name__ == '__main__':
    sys.exit(main())
