# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl: asks the worker of a host, over the bus."""

from argparse import Namespace
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import logging
import sys
from typing import Any
import uuid
import warnings

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import conf as options
from attachworker import exception
from attachworker import objects
from attachworker.bus import transport as bus
from attachworker.client import AttachWorkerClient
from attachworker.cmd import arguments
from attachworker.cmd import console
from attachworker.cmd import steps
from attachworker.cmd import tables

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_NO_WORKER = 3
#: As shells have it for a program that ended by SIGINT.
EXIT_INTERRUPTED = 130

#: Seconds for questions that a worker answers at once.
LOOK_TIMEOUT = 10.0

#: Returns the exit code.
Command = Callable[[Namespace, AttachWorkerClient], int]


class BadInput(Exception):
    """Something is wrong with the command; found before the bus is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param argv: arguments without the name of the program; given by a
        process that has a worker in itself, and may use its bus.
    """
    return console.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        args = arguments.parser().parse_args(argv)
    except SystemExit as error:  # --help, or a usage error with its text
        return error.code if isinstance(error.code, int) else EXIT_BAD_INPUT
    if argv is None:
        # What libraries log about the bus is said better, in one line, at
        # the end; their deprecations are no business of who types a command.
        logging.getLogger().addHandler(logging.NullHandler())
        warnings.simplefilter('ignore')
    try:
        # Bad input must not get as far as the bus.
        args.request = _request(args)
        return _run(args, in_process=argv is not None)
    except (
        BadInput,
        exception.InvalidConnectionInfo,
        exception.UnsupportedProtocol,
        exception.ConfigurationError,
    ) as error:
        return _say(error, EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        return _say(
            'interrupted; what the worker has begun goes on', EXIT_INTERRUPTED
        )


def _request(args: Namespace) -> Any:
    """What the command sends; None if it only asks."""
    request_class = objects.REQUESTS.get(args.command)
    if request_class is None:
        return None
    values = {
        name: value
        for name, value in vars(args).items()
        if name in request_class.fields
    }
    if args.command == 'attach' and (
        args.enforce_multipath and not args.multipath
    ):
        raise BadInput(
            '--enforce-multipath needs --multipath: without it no map is made'
        )
    if args.command == 'detach' and not (args.attachment_id or args.file):
        raise BadInput(
            'detach needs the ID of an attachment, or --connection-info'
        )
    if getattr(args, 'file', None):
        values['connection_info'] = objects.ConnectionInfo.from_dict(
            _read_json(args.file)
        )
    request = request_class(request_id=str(uuid.uuid4()), **values)
    request.validate()
    return request


def _run(args: Namespace, in_process: bool) -> int:
    try:
        conf = options.read(args.config_file)
    except (cfg.Error, OSError, ValueError) as error:
        raise BadInput(f'configuration: {error}') from None
    host = args.host or conf.host
    if bus.is_in_process(conf, args.transport_url) and not in_process:
        raise BadInput(
            'kombu+memory:// does not leave its process, so no '
            'worker can be reached by it; use rabbit://'
        )
    client = AttachWorkerClient(
        args.transport_url,
        host,
        conf=conf,
        timeout=args.timeout or LOOK_TIMEOUT,
        key_file=conf.secrets.key_file,
        level=conf.upgrade_levels.attachworker,
    )
    try:
        with client:
            return COMMANDS[args.command](args, client)
    except (exception.HostNotFound, exception.BusUnavailable) as error:
        return _say(error, EXIT_NO_WORKER)
    except messaging.MessagingTimeout:
        return _say(
            f'the worker of host {host} did not answer in time', EXIT_NO_WORKER
        )
    except messaging.RemoteError as error:
        return _say(
            f'the worker failed: {error.exc_type}: {error.value}', EXIT_FAILED
        )
    except (
        exception.AttachWorkerError,
        messaging.MessagingException,
    ) as error:
        return _say(error, EXIT_FAILED)


def _say(what: object, code: int) -> int:
    print(f'attachctl: {tables.one_line(_first(what))}', file=sys.stderr)
    return code


def _first(what: object) -> object:
    # The text of an exception from the worker has its traceback appended;
    # its first argument has not.
    if isinstance(what, Exception) and what.args:
        return what.args[0]
    return what


def _show(args: Namespace, value: Any, table: str | None = None) -> int:
    if args.format == 'json':
        print(json.dumps(value, indent=2, sort_keys=True))
    else:
        tables.show(tables.details(value) if table is None else table)
    return EXIT_DONE


def _show_result(
    args: Namespace, result: objects.OperationResult | None
) -> int:
    if result is None:
        return _show(args, None, 'still under way')
    _show(args, result.as_dict())
    return EXIT_FAILED if result.status == 'failed' else EXIT_DONE


def _operate(args: Namespace, client: AttachWorkerClient) -> int:
    request = args.request
    # A request to a worker that is down waits in its queue; whoever types a
    # command wants to know at once.
    client.ping()
    live = args.format == 'table' and sys.stdout.isatty()

    def show(event: str, payload: Mapping[str, Any]) -> None:
        if payload.get('request_id') == request.request_id:
            print(steps.step(payload), flush=True)

    try:
        with (
            steps.StepWatcher(client.transport, show)
            if live
            else contextlib.nullcontext()
        ):
            result = client.send(
                getattr(client.api, f'{args.command}_volume'),
                request,
                timeout=args.timeout,
            )
    except messaging.MessagingTimeout:
        raise exception.BusUnavailable(
            f'no answer to request {request.request_id}; it may still be '
            'carried out, see "attachctl result"'
        ) from None
    code = _show_result(args, result)
    if objects.NOT_KNOWN in result.warnings and not args.ignore_not_found:
        # To callers it is a success: what they want gone is not there. Who
        # types it may have typed something else.
        return _say(
            f'nothing was detached: host {client.host} has no attachment '
            f'{request.attachment_id}; see "attachctl list"',
            EXIT_FAILED,
        )
    return code


def _attach(args: Namespace, client: AttachWorkerClient) -> int:
    if not args.cast:
        return _operate(args, client)
    request = args.request
    client.api.cast_attach_volume({}, client.host, request)
    return _show(
        args,
        {
            'request_id': request.request_id,
            'attachment_id': request.attachment_id,
        },
    )


def _watch(args: Namespace, client: AttachWorkerClient) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        steps.watch(
            client.transport,
            None if args.all else client.host,
            args.format == 'json',
            args.timeout,
        )
    return EXIT_DONE


def _read_json(path: str) -> Any:
    name = 'standard input' if path == '-' else path
    try:
        if path == '-':
            text = sys.stdin.read()
        else:
            with open(path, encoding='utf-8') as file:
                text = file.read()
        return json.loads(text)
    except OSError as error:
        raise BadInput(f'cannot read {name}: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        # The position alone: what is there may be a secret.
        where = (
            f' (line {error.lineno}, column {error.colno})'
            if isinstance(error, json.JSONDecodeError)
            else ''
        )
        raise BadInput(f'{name} is not JSON{where}') from None


def _on_host(client: AttachWorkerClient) -> dict[str, dict[str, Any]]:
    """What the host has of each attachment; the journal may not know."""
    try:
        found = client.audit().as_dict()['attachments']
    except (exception.HostNotFound, exception.BusUnavailable):
        raise
    except (
        exception.AttachWorkerError,
        messaging.MessagingException,
    ) as error:
        # What the journal says is better than nothing.
        _say(f'what the host has is not known: {_first(error)}', EXIT_FAILED)
        return {}
    return {
        one['attachment_id']: {'state': one['state'], 'detail': one['detail']}
        for one in found
    }


def _list(args: Namespace, client: AttachWorkerClient) -> int:
    attachments = [each.as_dict() for each in client.list_attachments()]
    on_host = _on_host(client) if attachments else {}
    rows = [
        row | {'on_host': on_host.get(row['attachment_id'])}
        for row in attachments
    ]
    table = tables.listing(
        ('attachment_id', 'protocol', 'state', 'on_host', 'device'),
        [
            row
            | {
                'device': (row.get('device') or {}).get('path'),
                'on_host': (row['on_host'] or {}).get('state'),
            }
            for row in rows
        ],
    )
    return _show(args, rows, table)


def _show_one(args: Namespace, client: AttachWorkerClient) -> int:
    found = client.get_attachment(args.attachment_id).as_dict()
    on_host = _on_host(client).get(args.attachment_id)
    return _show(args, found | {'on_host': on_host})


def _cancel(args: Namespace, client: AttachWorkerClient) -> int:
    done = client.cancel(args.request_id)
    _show(
        args,
        done,
        'it is being undone'
        if done
        else 'there is no such attach, or it is decided already',
    )
    return EXIT_DONE if done else EXIT_FAILED


def _audit(args: Namespace, client: AttachWorkerClient) -> int:
    report = client.audit().as_dict()
    parts = (
        ('attachments', ('attachment_id', 'state', 'detail')),
        ('findings', ('kind', 'what', 'detail')),
    )
    table = '\n'.join(
        tables.listing(columns, report[name]) for name, columns in parts
    )
    return _show(args, report, table)


def _connector(args: Namespace, client: AttachWorkerClient) -> int:
    found = client.get_connector_properties()
    protocols = found.get('attachworker', {}).get('protocols', {})
    shown = found | {
        'protocols': {
            name: 'ok' if reason is None else reason
            for name, reason in sorted(protocols.items())
        }
    }
    shown['attachworker'] = {
        name: value
        for name, value in found.get('attachworker', {}).items()
        if name != 'protocols'
    }
    return _show(args, found, tables.details(shown))


COMMANDS: dict[str, Command] = {
    'connector': _connector,
    'attach': _attach,
    'detach': _operate,
    'extend': _operate,
    'list': _list,
    'show': _show_one,
    'result': lambda args, client: _show_result(
        args, client.get_result(args.request_id)
    ),
    'audit': _audit,
    'cancel': _cancel,
    'ping': lambda args, client: _show(args, client.ping()),
    'watch': _watch,
}


if __name__ == '__main__':
    sys.exit(main())
