# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The commands of attachctl.

A command takes what was typed, asks the worker, and shows the answer. What it
needs of the bus is imported when it is run, so that help comes at once.
"""

import abc
import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
import sys
from typing import TYPE_CHECKING
from typing import Any

from cliff import command
from cliff import lister
from cliff import show

from attachworker.cmd import arguments
from attachworker.cmd import console
from attachworker.cmd import exits
from attachworker.cmd import tables

if TYPE_CHECKING:
    from attachworker.cmd import session as sessions

#: Formats that a program reads: they have all that there is.
_FOR_PROGRAMS = ('json', 'yaml')


class Command(command.Command, abc.ABC):
    """What all commands share: help, errors, exit codes.

    :cvar example: command lines for its help
    :cvar kind: of the request that it sends; None: it only asks
    """

    example = ''
    kind: str | None = None

    #: What the worker is asked through, while the command runs.
    session: 'sessions.Session'

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exit_code = exits.DONE

    def get_epilog(self) -> str:
        return (
            f'example:\n  {self.example}\n\nOptions of all commands, as --host'
            ' and --config-file: attachctl --help'
        )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.add_arguments(parser)
        return parser

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what only this command takes."""
        return

    def run(self, parsed_args: argparse.Namespace) -> int:
        from attachworker.cmd import session as sessions

        options = argparse.Namespace(**vars(self.app_args))
        vars(options).update(vars(parsed_args))
        in_process = getattr(self.app, 'in_process', False)
        try:
            # Bad input must not get as far as the bus.
            request = sessions.request(self.kind, options)
            if not in_process:
                console.on_interrupt(
                    lambda: self.interrupted(options, request)
                )
            with sessions.opened(options, in_process) as self.session:
                self.session.request = request
                super().run(options)
        except exits.Failed as error:
            return self.say(error, options)
        return self.exit_code

    def interrupted(self, options: argparse.Namespace, request: Any) -> int:
        """Say what becomes of what was asked, and return the exit code."""
        text = 'interrupted; what the worker has begun goes on'
        if request is not None:
            text += f': attachctl result --wait {request.request_id}'
        if sys.stderr.isatty():
            print(file=sys.stderr)  # below the step that is shown, and ^C
        return self.say(
            exits.Failed('interrupted', text, console.EXIT_INTERRUPTED),
            options,
        )

    def fail(self, error: exits.Failed) -> None:
        """Say what is wrong; what the answer has is shown all the same."""
        self.exit_code = self.say(error)

    def say(
        self, error: exits.Failed, options: argparse.Namespace | None = None
    ) -> int:
        text = tables.one_line(error)
        if _format(options or self.session.options) in _FOR_PROGRAMS:
            told = {'error': {'code': error.code, 'message': text}}
            print(json.dumps(told), file=sys.stderr)
        else:
            print(f'attachctl: {text}', file=sys.stderr)
        return error.exit_code


def _format(options: argparse.Namespace) -> str:
    return str(getattr(options, 'formatter', None) or options.format)


class _Displayed(Command):
    """Its answer is displayed by a formatter of cliff, or of ours."""

    formatter_default = 'table'

    def _load_formatter_plugins(self) -> Any:
        found = super()._load_formatter_plugins()  # type: ignore[misc]
        for plugin in found:
            if plugin.name == 'table':
                plugin.obj = tables.Formatter()
        return found


class Show(_Displayed, show.ShowOne):
    """A command whose answer is one thing."""

    #: What it is where it is none with fields, for people.
    sentence = ''
    value: Any = None

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        value = self.ask(parsed_args)
        self.value = value
        if not isinstance(value, Mapping):
            return (), ()
        if parsed_args.formatter == 'table':
            value = self.shown(value, parsed_args)
        if parsed_args.formatter not in _FOR_PROGRAMS:
            value = tables.flat(value)
        return tuple(value), tuple(value.values())

    @abc.abstractmethod
    def ask(self, options: argparse.Namespace) -> Any:
        """The answer, of JSON types."""

    def shown(
        self, value: Mapping[str, Any], options: argparse.Namespace
    ) -> Mapping[str, Any]:
        """What of it people see."""
        return value

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Any,
    ) -> int:
        if isinstance(self.value, Mapping):
            return super().produce_output(parsed_args, column_names, data)
        if parsed_args.formatter in _FOR_PROGRAMS:
            print(json.dumps(self.value), file=self.app.stdout)
        else:
            print(self.sentence, file=self.app.stdout)
        return 0


class Connector(Show):
    """Show what the storage has to know about the host."""

    example = 'attachctl --host compute-1 connector --format json'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        _add_multipath(parser, default=None)

    def ask(self, options: argparse.Namespace) -> Any:
        return self.session.client.get_connector_properties(
            multipath=options.multipath,
            enforce_multipath=bool(options.enforce_multipath),
        )

    def shown(
        self, value: Mapping[str, Any], options: argparse.Namespace
    ) -> Mapping[str, Any]:
        ours = dict(value.get('attachworker', {}))
        found: dict[str, Any] = {**value, 'attachworker': ours}
        for name in ('protocols', 'assemblers'):
            found[name] = {
                one: 'ok' if reason is None else reason
                for one, reason in sorted(ours.pop(name, {}).items())
            }
        return found


class _Operation(Show):
    """A command that sends a request, and shows its result."""

    def ask(self, options: argparse.Namespace) -> Any:
        return self.session.operate(str(self.kind), self.app.stdout)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        answer = super().take_action(parsed_args)
        if isinstance(self.value, Mapping) and (
            self.value.get('status') == 'failed'
        ):
            self.exit_code = exits.FAILED
        return answer

    def shown(
        self, value: Mapping[str, Any], options: argparse.Namespace
    ) -> Mapping[str, Any]:
        return tables.result(value, verbose=options.verbose_level > 1)


class Attach(_Operation):
    """Attach a volume."""

    example = (
        'attachctl attach volume.json --multipath --min-paths 2\n'
        '  attachctl attach - --attachment-id my-volume <volume.json\n'
        '  attachctl attach volume.json --encryption luks2 --key-file key'
    )
    kind = 'attach'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'file',
            metavar='FILE',
            help='connection_info as JSON, as Cinder sends it; - reads the '
            'standard input',
        )
        _add_multipath(parser, default=False)
        parser.add_argument(
            '--attachment-id', metavar='ID', help='default: a new one'
        )
        parser.add_argument(
            '--volume-id', metavar='ID', help='default: of the connection_info'
        )
        parser.add_argument(
            '--expected-wwn',
            metavar='WWN',
            help='the identity that the device must have',
        )
        parser.add_argument(
            '--min-paths',
            metavar='N',
            type=int,
            default=1,
            help='how many paths must be usable; default: 1',
        )
        _add_encryption(parser)
        parser.add_argument(
            '--may-format',
            action='store_true',
            help='with --encryption: format the volume if it is empty',
        )
        parser.add_argument(
            '--deadline',
            dest='deadline_seconds',
            metavar='SECONDS',
            type=int,
            help='how long the attach may take; default: the option '
            'default_deadline of the worker',
        )
        parser.add_argument(
            '--cast',
            action='store_true',
            help='do not wait; ask for the result later',
        )

    def ask(self, options: argparse.Namespace) -> Any:
        if options.cast:
            return self.session.cast_attach()
        return super().ask(options)


class Detach(_Operation):
    """Detach a volume."""

    example = (
        'attachctl detach my-volume\n'
        '  attachctl detach --connection-info volume.json'
    )
    kind = 'detach'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'attachment_id', metavar='ID', nargs='?', help='the attachment'
        )
        parser.add_argument(
            '--connection-info',
            dest='file',
            metavar='FILE',
            type=arguments.given,
            help='its connection_info, as for attach: for what the journal of '
            'the worker does not have; without ID, for what somebody else has '
            'attached',
        )
        parser.add_argument(
            '--ignore-not-found',
            action='store_true',
            help='succeed also if the worker knows no such attachment',
        )
        parser.add_argument(
            '--force',
            action='store_true',
            help='go on if the device is in use or cannot be flushed; data '
            'may be lost',
        )

    def ask(self, options: argparse.Namespace) -> Any:
        result = super().ask(options)
        if not options.ignore_not_found and self.session.is_unknown(result):
            # To callers it is a success: what they want gone is not there. Who
            # types it may have typed something else.
            self.fail(self.session.not_found(options.attachment_id))
        return result


class Extend(_Operation):
    """Make the new size of a volume known to the host."""

    example = 'attachctl extend my-volume --expected-size 20G'
    kind = 'extend'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        _add_attachment(parser)
        parser.add_argument(
            '--expected-size',
            type=arguments.size,
            metavar='SIZE',
            help='fail unless the device has at least so many bytes then; '
            '20G is 20 GiB',
        )
        _add_encryption(parser)


class RotateKey(_Operation):
    """Exchange the key of an encrypted volume that is attached."""

    example = (
        'attachctl rotate-key my-volume --old-key-file old --new-key-file new'
    )
    kind = 'rotate'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        _add_attachment(parser)
        for name, help_text in (
            ('old', 'opens the volume now'),
            ('new', 'is to open it afterwards, in place of the old one'),
        ):
            parser.add_argument(
                f'--{name}-key-file',
                metavar='FILE',
                type=arguments.given,
                required=True,
                help=f'holds the passphrase that {help_text}, without the end '
                'of its line',
            )


class List(_Displayed, lister.Lister):
    """List the attachments of the host."""

    example = 'attachctl --host compute-1 list -o wide'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            '-o',
            '--output',
            choices=('wide',),
            help='wide: show the volume, its identity, paths and times, too',
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        rows = self.session.attachments(self.say)
        if parsed_args.formatter in _FOR_PROGRAMS:
            names = tuple(rows[0]) if rows else ('attachment_id',)
        else:
            rows = [tables.attachment(row) for row in rows]
            names = tables.ATTACHMENT
            if parsed_args.output != 'wide':
                names = tuple(one for one in names if one in tables.NARROW)
        return names, [tuple(row.get(one) for one in names) for row in rows]


class ShowAttachment(Show):
    """Show an attachment."""

    example = 'attachctl show my-volume --format json'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        _add_attachment(parser)

    def ask(self, options: argparse.Namespace) -> Any:
        return self.session.attachment(options.attachment_id, self.say)

    def shown(
        self, value: Mapping[str, Any], options: argparse.Namespace
    ) -> Mapping[str, Any]:
        verbose = options.verbose_level > 1
        last = value.get('last_result') or {}
        return tables.result(value, verbose) | {
            'last_result': tables.result(last, verbose)
        }


class Result(_Operation):
    """Show the result of a request."""

    example = 'attachctl result --wait 6f70656e-7374-4163-8b21-000000000001'
    sentence = 'still under way'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'request_id', metavar='REQUEST', help='the request_id'
        )
        parser.add_argument(
            '--wait',
            action='store_true',
            help='wait until there is one, for --timeout seconds or for ever',
        )

    def ask(self, options: argparse.Namespace) -> Any:
        return self.session.result(options.request_id, options.wait)


class Cancel(Show):
    """Cancel an attach that has no result yet, and undo it."""

    example = (
        'attachctl cancel my-volume\n'
        '  attachctl cancel 6f70656e-7374-4163-8b21-000000000001'
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'request_id',
            metavar='REQUEST|ID',
            help='the request_id of the attach, or the attachment',
        )

    def ask(self, options: argparse.Namespace) -> Any:
        done = self.session.client.cancel(options.request_id)
        self.exit_code = exits.DONE if done else exits.FAILED
        self.sentence = (
            'it is being undone'
            if done
            else 'there is no such attach, or it has a result already'
        )
        return done


class Audit(Show):
    """Compare what is recorded with what is on the host."""

    example = 'attachctl --host compute-1 audit --exit-code'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            '--exit-code',
            action='store_true',
            help='exit with 1 if an attachment is not ok or anything is found',
        )

    def ask(self, options: argparse.Namespace) -> Any:
        report = self.session.client.audit().as_dict()
        states = {one['state'] for one in report['attachments']}
        if options.exit_code and (report['findings'] or states - {'ok'}):
            self.exit_code = exits.FAILED
        return report

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Any,
    ) -> int:
        if parsed_args.formatter != 'table':
            return super().produce_output(parsed_args, column_names, data)
        width = tables.width(parsed_args)
        for name, columns in (
            ('attachments', ('attachment_id', 'state', 'detail')),
            ('findings', ('kind', 'what', 'detail')),
        ):
            table = tables.listing(columns, self.value[name], width)
            tables.show(table, self.app.stdout)
        return 0


class Ping(Show):
    """Check whether the worker runs and takes requests."""

    example = 'attachctl --host compute-1 --timeout 2 ping'

    def ask(self, options: argparse.Namespace) -> Any:
        answer = self.session.client.ping()
        if not answer['ready']:
            self.exit_code = exits.NO_WORKER
        return answer


class Watch(Command):
    """Show what the worker does, live, for --timeout seconds or for ever."""

    example = 'attachctl watch\n  attachctl watch --all --format json'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            '--all', action='store_true', help='show all hosts, not just one'
        )
        parser.add_argument(
            '-f',
            '--format',
            dest='formatter',
            choices=('table', 'json'),
            default='table',
            help='default: table',
        )

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.session.watch(parsed_args.all, parsed_args.formatter == 'json')

    def interrupted(self, options: argparse.Namespace, request: Any) -> int:
        """That is how watching ends."""
        return exits.DONE


def _add_attachment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('attachment_id', metavar='ID', help='the attachment')


def _add_multipath(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        '--multipath',
        action='store_true',
        default=default,
        help='use all paths, under one multipath map',
    )
    parser.add_argument(
        '--enforce-multipath',
        action='store_true',
        default=None,
        help='with --multipath: fail if there is no map',
    )


def _add_encryption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--encryption',
        choices=('luks', 'luks2', 'plain'),
        help='how the volume is encrypted',
    )
    parser.add_argument(
        '--key-file',
        metavar='FILE',
        type=arguments.given,
        help='with --encryption: holds the passphrase, without the end of its '
        'line; - reads the standard input',
    )
