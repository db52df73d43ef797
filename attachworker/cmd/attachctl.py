# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl: asks the worker of a host, over the bus."""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import json
import logging
import os
import sys
from typing import Any
import uuid
import warnings

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import client as worker_client
from attachworker import conf as options
from attachworker import exception
from attachworker import objects
from attachworker.cmd import arguments
from attachworker.cmd import steps
from attachworker.cmd import tables
from attachworker.rpc import transport as bus

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_NO_WORKER = 3
#: As shells have it for a program that ended by SIGINT.
EXIT_INTERRUPTED = 130

#: Seconds for questions that a worker answers at once.
LOOK_TIMEOUT = 10.0

#: What the worker of a host is asked, and its exit code.
Work = Callable[[worker_client.AttachWorkerClient], int]


class BadInput(Exception):
    """Something is wrong with the command; found before the bus is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param argv: arguments without the name of the program; given by a
        process that has a worker in itself, and may use its bus.
    """
    try:
        args = arguments.parser().parse_args(argv)
    except SystemExit as error:  # --help, or a usage error with its text
        return error.code if isinstance(error.code, int) else EXIT_BAD_INPUT
    if argv is None:
        _be_quiet()
    try:
        # Two steps: bad input must not get as far as the bus.
        work = COMMANDS[args.command](args)
        return _work(args, work, in_process=argv is not None)
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
    except BrokenPipeError:
        # The reader of our output has gone: let Python not say so at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _work(args: argparse.Namespace, work: Work, in_process: bool) -> int:
    conf = _read_configuration(args)
    host = args.host or conf.host
    if bus.is_in_process(conf, args.transport_url) and not in_process:
        raise BadInput(
            'kombu+memory:// does not leave its process, so no '
            'worker can be reached by it; use rabbit://'
        )
    client = worker_client.AttachWorkerClient(
        args.transport_url,
        host,
        conf=conf,
        timeout=args.timeout or LOOK_TIMEOUT,
        key_file=conf.secrets.key_file,
        level=conf.upgrade_levels.attachworker,
    )
    try:
        return work(client)
    except (exception.HostNotFound, exception.BusUnavailable) as error:
        return _say(error, EXIT_NO_WORKER)
    except messaging.MessagingTimeout:
        return _say(
            f'the worker of host {host} did not answer in time', EXIT_NO_WORKER
        )
    except exception.AttachWorkerError as error:
        return _say(error, EXIT_FAILED)
    except messaging.RemoteError as error:
        return _say(
            f'the worker failed: {error.exc_type}: {error.value}', EXIT_FAILED
        )
    except messaging.MessagingException as error:
        return _say(error, EXIT_FAILED)
    finally:
        client.close()


def _read_configuration(args: argparse.Namespace) -> cfg.ConfigOpts:
    # Not the global one: it may be that of a worker in this process.
    conf = cfg.ConfigOpts()
    options.register(conf)
    files = (
        {'default_config_files': args.config_file, 'default_config_dirs': []}
        if args.config_file
        else {}
    )
    try:
        conf([], project='attachworker', prog='attachworker', **files)
    except (cfg.Error, OSError, ValueError) as error:
        raise BadInput(f'configuration: {error}') from None
    return conf


def _be_quiet() -> None:
    # What libraries log about the bus is said better, in one line, at the
    # end; their deprecations are no business of who types a command.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter('ignore')


def _say(what: object, code: int) -> int:
    # The text of an exception from the worker has its traceback appended;
    # its first argument has not.
    if isinstance(what, Exception) and what.args:
        what = what.args[0]
    print(f'attachctl: {tables.one_line(what)}', file=sys.stderr)
    return code


def _show(args: argparse.Namespace, value: Any, table: str) -> None:
    if args.format == 'json':
        print(json.dumps(value, indent=2, sort_keys=True))
    else:
        tables.show(table)


def _show_result(
    args: argparse.Namespace, result: objects.OperationResult | None
) -> int:
    if result is None:
        _show(args, None, 'still under way')
        return EXIT_DONE
    values = result.as_dict()
    _show(args, values, tables.details(values))
    return EXIT_FAILED if result.status == 'failed' else EXIT_DONE


def _attach(args: argparse.Namespace) -> Work:
    request = objects.AttachRequest(
        request_id=_new_id(),
        attachment_id=_new_id()
        if args.attachment_id is None
        else args.attachment_id,
        connection_info=objects.ConnectionInfo.from_dict(
            _read_json(args.file)
        ),
        volume_id=args.volume_id,
        multipath=args.multipath,
        enforce_multipath=args.enforce_multipath or None,
        expected_wwn=args.expected_wwn,
        min_paths=args.min_paths,
        deadline_seconds=args.deadline,
    )
    request.validate()

    def work(client: worker_client.AttachWorkerClient) -> int:
        if args.cast:
            client.api.cast_attach_volume({}, client.host, request)
            sent = {
                'request_id': request.request_id,
                'attachment_id': request.attachment_id,
            }
            _show(args, sent, tables.details(sent))
            return EXIT_DONE
        return _show_result(
            args, _operate(args, client, client.api.attach_volume, request)
        )

    return work


def _new_id() -> str:
    return str(uuid.uuid4())


def _detach(args: argparse.Namespace) -> Work:
    request = objects.DetachRequest(
        request_id=_new_id(), attachment_id=args.id, force=args.force
    )
    request.validate()
    return lambda client: _show_result(
        args, _operate(args, client, client.api.detach_volume, request)
    )


def _extend(args: argparse.Namespace) -> Work:
    request = objects.ExtendRequest(
        request_id=_new_id(),
        attachment_id=args.id,
        expected_size=args.expected_size,
    )
    request.validate()
    return lambda client: _show_result(
        args, _operate(args, client, client.api.extend_volume, request)
    )


def _operate(
    args: argparse.Namespace,
    client: worker_client.AttachWorkerClient,
    method: Callable[..., objects.OperationResult],
    request: Any,
) -> objects.OperationResult:
    # A request to a worker that is down waits in its queue; whoever types a
    # command wants to know at once.
    client.ping()
    live = args.format == 'table' and sys.stdout.isatty()
    try:
        with (
            steps.live(client.transport, request.request_id)
            if live
            else contextlib.nullcontext()
        ):
            return client.send(method, request, timeout=args.timeout)
    except messaging.MessagingTimeout:
        raise exception.BusUnavailable(
            f'no answer to request {request.request_id}; it may still be '
            'carried out, see "attachctl result"'
        ) from None


def _watch(args: argparse.Namespace) -> Work:
    def work(client: worker_client.AttachWorkerClient) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            steps.watch(
                client.transport,
                None if args.all else client.host,
                args.format == 'json',
                args.timeout,
            )
        return EXIT_DONE

    return work


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


def _details(
    ask: Callable[[worker_client.AttachWorkerClient, argparse.Namespace], Any],
) -> Callable[[argparse.Namespace], Work]:
    """A command that shows one answer."""

    def command(args: argparse.Namespace) -> Work:
        def work(client: worker_client.AttachWorkerClient) -> int:
            answer = ask(client, args)
            _show(args, answer, tables.details(answer))
            return EXIT_DONE

        return work

    return command


def _list(args: argparse.Namespace) -> Work:
    def work(client: worker_client.AttachWorkerClient) -> int:
        rows = [each.as_dict() for each in client.list_attachments()]
        _show(
            args,
            rows,
            tables.listing(
                ('attachment_id', 'protocol', 'state', 'device'),
                [
                    row | {'device': (row.get('device') or {}).get('path')}
                    for row in rows
                ],
            ),
        )
        return EXIT_DONE

    return work


def _result(args: argparse.Namespace) -> Work:
    return lambda client: _show_result(args, client.get_result(args.request))


def _cancel(args: argparse.Namespace) -> Work:
    def work(client: worker_client.AttachWorkerClient) -> int:
        done = client.cancel(args.request)
        _show(
            args,
            done,
            'it is being undone'
            if done
            else 'there is no such attach, or it is decided already',
        )
        return EXIT_DONE if done else EXIT_FAILED

    return work


def _audit(args: argparse.Namespace) -> Work:
    def work(client: worker_client.AttachWorkerClient) -> int:
        report = client.audit().as_dict()
        parts = (
            ('attachments', ('attachment_id', 'state', 'detail')),
            ('findings', ('kind', 'what', 'detail')),
        )
        _show(
            args,
            report,
            '\n'.join(
                tables.listing(columns, report[name])
                for name, columns in parts
            ),
        )
        return EXIT_DONE

    return work


COMMANDS: dict[str, Callable[[argparse.Namespace], Work]] = {
    'connector': _details(
        lambda client, args: client.get_connector_properties()
    ),
    'attach': _attach,
    'detach': _detach,
    'extend': _extend,
    'list': _list,
    'show': _details(
        lambda client, args: client.get_attachment(args.id).as_dict()
    ),
    'result': _result,
    'audit': _audit,
    'cancel': _cancel,
    'ping': _details(lambda client, args: client.ping()),
    'watch': _watch,
}


if __name__ == '__main__':
    sys.exit(main())
