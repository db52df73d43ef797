# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl: asks the worker of a host, over the bus."""

import argparse
from collections.abc import Sequence
from importlib import metadata
import logging
import sys
from typing import Any
from typing import NoReturn
from typing import TextIO
import warnings

from cliff import app
from cliff import commandmanager
from cliff import help as cliff_help

from attachworker.cmd import arguments
from attachworker.cmd import completion
from attachworker.cmd import console
from attachworker.cmd import exits

PROGRAM = 'attachctl'
#: Where the commands are found: entry points of setup.cfg.
NAMESPACE = 'attachworker.attachctl'
#: What cliff returns where nobody reads the output to its end.
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param argv: arguments without the name of the program; given by a
        process that has a worker in itself, and may use its bus.
    """
    return console.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    in_process = argv is not None
    if not in_process:
        console.on_interrupt(lambda: console.EXIT_INTERRUPTED)
    program = Attachctl(in_process)
    try:
        code = program.run(list(sys.argv[1:] if argv is None else argv))
        return console.EXIT_UNWRITTEN if code == _BROKEN_PIPE else code
    except SystemExit as error:  # --help, or a usage error with its text
        if error.code is None:
            return exits.DONE
        return error.code if isinstance(error.code, int) else exits.BAD_INPUT


class Attachctl(app.App):
    """The program and what all of its commands take.

    :param in_process: whether a worker may be in this process
    """

    NAME = PROGRAM
    LOG = logging.getLogger(PROGRAM)

    def __init__(self, in_process: bool = False) -> None:
        self.in_process = in_process
        super().__init__(
            'Attach volumes to a host, by its attachworker.',
            metadata.version('attachworker'),
            commandmanager.CommandManager(NAMESPACE),
            deferred_help=True,
        )
        self.command_manager.add_command('complete', completion.Complete)
        self.command_manager.add_command('help', Help)

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=PROGRAM,
            usage='%(prog)s [OPTIONS] COMMAND ...',
            description=description,
            add_help=False,
            # What a command takes may begin in the same way.
            allow_abbrev=False,
        )
        parser.add_argument(
            '-h',
            '--help',
            dest='deferred_help',
            action='store_true',
            help='show this, or what a command takes, and exit',
        )
        parser.add_argument(
            '--version', action='version', version=f'{PROGRAM} {version}'
        )
        parser.add_argument(
            '-v',
            '--verbose',
            dest='verbose_level',
            action='count',
            default=1,
            help='show also how long each step took',
        )
        parser.add_argument(
            '--debug',
            action='store_true',
            help='show the log of the libraries, and where an error came from',
        )
        parser.set_defaults(log_file=None)
        arguments.add_where_to(parser)
        arguments.add_format(parser)
        return parser

    def configure_logging(self) -> None:
        if self.options.debug:
            super().configure_logging()
            return
        # Of errors that nobody has expected, cliff logs the text.
        last = logging.StreamHandler(self.stderr)
        last.setFormatter(logging.Formatter(f'{PROGRAM}: %(message)s'))
        self.LOG.handlers = [last]
        self.LOG.propagate = False
        if not self.in_process:
            # What libraries log about the bus is said better, in one line, at
            # the end; their deprecations are no business of who types a
            # command.
            logging.getLogger().addHandler(logging.NullHandler())
            warnings.simplefilter('ignore')

    def initialize_app(self, argv: list[str]) -> None:
        """Hand --format on to the command, which knows its formats."""
        if argv and argv[0] not in ('help', 'complete'):
            if self.options.format is not None:
                argv += ['--format', self.options.format]

    def print_help_if_requested(self) -> None:
        if self.options.deferred_help:
            self.print_help(self.stdout)
            raise SystemExit(exits.DONE)

    def print_help(self, output: TextIO) -> None:
        """Write what the program takes, with a line for each command."""
        self.parser.print_help(output)
        output.write('\ncommands:\n')
        for name, entry_point in sorted(self.command_manager):
            text = (entry_point.load().__doc__ or '').partition('\n')[0]
            text = text[:1].lower() + text[1:].removesuffix('.')
            output.write(f'  {name:<12} {text}\n')
        output.write(
            '\nexit codes: 0 done, 1 the operation failed, 2 bad input,\n'
            '3 no worker, one that is not ready, or no bus\n'
        )

    def interact(self) -> NoReturn:
        """There is no command."""
        self.parser.error('say what to do; attachctl --help has all commands')

    def run_subcommand(self, argv: list[str]) -> int:
        try:
            self.command_manager.find_command(argv)
        except ValueError:
            close = ', '.join(self.get_fuzzy_matches(argv[0]))
            self.parser.error(f'there is no command {argv[0]!r}; see {close}')
        return super().run_subcommand(argv)


class Help(cliff_help.HelpCommand):
    """Show what a command takes."""

    app: Attachctl

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.cmd:
            return super().take_action(parsed_args)
        self.app.print_help(self.app.stdout)
        return exits.DONE


if __name__ == '__main__':
    sys.exit(main())
