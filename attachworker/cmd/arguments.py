# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The command line of attachctl."""

import argparse
from typing import Any
import uuid

from oslo_config import types
import shtab

_EXAMPLES = {
    'connector': 'attachctl --host compute-1 connector --format json',
    'attach': 'attachctl attach volume.json --multipath --min-paths 2\n'
    '  attachctl attach - --attachment-id my-volume <volume.json',
    'detach': 'attachctl detach my-volume\n'
    '  attachctl detach --connection-info volume.json',
    'extend': 'attachctl extend my-volume --expected-size 21474836480',
    'list': 'attachctl --host compute-1 list',
    'show': 'attachctl show my-volume --format json',
    'result': 'attachctl result 6f70656e-7374-4163-8b21-000000000001',
    'cancel': 'attachctl cancel 6f70656e-7374-4163-8b21-000000000001',
    'audit': 'attachctl --host compute-1 audit',
    'ping': 'attachctl --host compute-1 --timeout 2 ping',
    'watch': 'attachctl watch\n  attachctl watch --all --format json',
}


def parser() -> argparse.ArgumentParser:
    """Return the parser; its result has ``command`` and what that takes."""
    root = argparse.ArgumentParser(
        prog='attachctl',
        parents=[_common()],
        description='Attach volumes to a host, by its attachworker.',
        epilog='Exit codes: 0 done, 1 the operation failed, 2 bad input, '
        '3 no worker or no bus.',
    )
    shtab.add_argument_to(
        root,
        '--print-completion',
        help='print a completion script for a shell, and exit: '
        'attachctl --print-completion bash '
        '>/etc/bash_completion.d/attachctl',
    )
    commands = root.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        # The common options are accepted behind the command, too; SUPPRESS
        # keeps what was said in front of it.
        return commands.add_parser(
            name,
            help=text,
            description=f'{text[0].upper()}{text[1:]}.',
            epilog=f'Example:\n  {_EXAMPLES[name]}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[_common(argparse.SUPPRESS)],
        )

    add('connector', 'show what the storage has to know about the host')
    _add_attach_options(add('attach', 'attach a volume'))
    detach = add('detach', 'detach a volume')
    detach.add_argument(
        'attachment_id', metavar='ID', nargs='?', help='the attachment'
    )
    detach.add_argument(
        '--connection-info',
        dest='file',
        metavar='FILE',
        type=_given,
        help='its connection_info, as for attach: for what the journal of '
        'the worker does not have; without ID, for what somebody else has '
        'attached',
    )
    detach.add_argument(
        '--ignore-not-found',
        action='store_true',
        help='succeed also if the worker knows no such attachment',
    )
    detach.add_argument(
        '--force',
        action='store_true',
        help='go on if the device is in use or cannot be flushed; data may '
        'be lost',
    )
    extend = add('extend', 'take over the new size of a volume')
    extend.add_argument(
        '--expected-size',
        type=int,
        metavar='BYTES',
        help='fail unless the device has at least so many bytes then',
    )
    add('list', 'list the attachments of the host')
    show = add('show', 'show an attachment')
    for command in (extend, show):
        command.add_argument(
            'attachment_id', metavar='ID', help='the attachment'
        )
    for command in (
        add('result', 'show the result of a request'),
        add('cancel', 'stop an attach that is not decided yet, and undo it'),
    ):
        command.add_argument(
            'request_id', metavar='REQUEST', help='the request_id'
        )
    add('audit', 'compare what is recorded with what is on the host')
    add('ping', 'see whether the worker is there')
    watch = add(
        'watch',
        'show what the worker does, live, for --timeout seconds or for ever',
    )
    watch.add_argument(
        '--all', action='store_true', help='of all hosts, not just one'
    )
    return root


def add_config_file(options: Any, default: Any = None) -> None:
    """Add --config-file to a parser or a group of one."""
    options.add_argument(
        '--config-file',
        metavar='FILE',
        action='append',
        default=default,
        type=_given,
        help='read FILE instead of /etc/attachworker/attachworker.conf; '
        '/dev/null: read none',
    )


def add_format(options: Any, default: Any = None) -> None:
    """Add --format to a parser or a group of one."""
    options.add_argument(
        '--format',
        choices=('table', 'json'),
        default=default or 'table',
        help='default: table',
    )


def _common(default: Any = None) -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    options = parent.add_argument_group('where to')
    options.add_argument(
        '--transport-url',
        metavar='URL',
        type=_given,
        default=default,
        help='the bus, rabbit://user:password@host:port/vhost; default: of '
        'the configuration. Other users of this host may see it: '
        'better put it into a file',
    )
    options.add_argument(
        '--host',
        metavar='NAME',
        type=_host,
        default=default,
        help='the host; default: of the configuration, or this one',
    )
    add_config_file(options, default)
    options.add_argument(
        '--timeout',
        metavar='SECONDS',
        type=_seconds,
        default=default,
        help='how long to wait for the answer; default: 10, and for attach '
        'and detach as long as the worker may take',
    )
    add_format(options, default)
    return parent


def _add_attach_options(attach: argparse.ArgumentParser) -> None:
    file = attach.add_argument(
        'file',
        metavar='FILE',
        help='connection_info as JSON, as Cinder sends it; - reads the '
        'standard input',
    )
    file.complete = shtab.FILE  # type: ignore[attr-defined]
    attach.add_argument(
        '--multipath',
        action='store_true',
        help='use all paths, under one multipath map',
    )
    attach.add_argument(
        '--enforce-multipath',
        action='store_true',
        default=None,
        help='with --multipath: fail if there is no map',
    )
    attach.add_argument(
        '--attachment-id',
        metavar='ID',
        default=str(uuid.uuid4()),
        help='default: a new one',
    )
    attach.add_argument(
        '--volume-id', metavar='ID', help='default: of the connection_info'
    )
    attach.add_argument(
        '--expected-wwn',
        metavar='WWN',
        help='the identity that the device must have',
    )
    attach.add_argument(
        '--min-paths',
        metavar='N',
        type=int,
        default=1,
        help='how many paths must be usable; default: 1',
    )
    attach.add_argument(
        '--deadline',
        dest='deadline_seconds',
        metavar='SECONDS',
        type=int,
        help='how long the attach may take; default: as the worker says',
    )
    attach.add_argument(
        '--cast',
        action='store_true',
        help='do not wait; ask for the result later',
    )


def _given(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError('must not be empty')
    return text


def _host(text: str) -> str:
    try:
        return str(types.HostAddress()(_given(text)))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no name or address of a host'
        ) from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError('must be more than 0')
    return value
