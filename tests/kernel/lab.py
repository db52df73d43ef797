# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A throw-away machine with a real kernel, to run one command in.

``python -m tests.kernel.lab run -- COMMAND`` boots it, runs COMMAND as root
in this checkout, and brings back its output, its exit code and the logs.
The guest sees the root file system of this machine, virtual environment and
checkout included, through a layer in memory: what it writes is gone with it,
except below ``$LAB_RESULTS``. It has its own kernel, its own loopback network
and its own daemons, so nothing it does reaches the disks of this machine.

Only the standard library is used here: setup.sh runs it on a bare machine.
"""

import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import types
from typing import NoReturn

from tests.kernel import guest
from tests.kernel import machines


class Stopped(Exception):
    """A signal asked the lab to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop(number: int, frame: types.FrameType | None) -> NoReturn:
    raise Stopped(number)


def run(arguments: argparse.Namespace) -> int:
    results = arguments.results
    if results is None:
        results = pathlib.Path(tempfile.mkdtemp(prefix='lab-results-'))
    status = guest.EXIT_NO_GUEST
    try:
        status = run_command(arguments, results)
    finally:
        # More than one: a machine did not boot, and its log was named.
        consoles = len(list(results.glob('console-*.log')))
        if status or consoles > 1:
            guest.say(f'logs are in {results}')
        elif arguments.results is None:
            shutil.rmtree(results)
    return status


def run_command(arguments: argparse.Namespace, results: pathlib.Path) -> int:
    booted = machines.boot(
        arguments.kernel,
        arguments.command,
        results,
        arguments.memory,
    )
    try:
        return booted.wait(arguments.timeout)
    finally:
        booted.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tests.kernel.lab')
    parser.add_argument(
        '--kernel',
        type=machines.candidates,
        default=os.environ.get('LAB_KERNEL', ''),
        metavar='NAMES',
        help='how to boot, with commas between: each is tried if the one '
        'before it does not boot (default: $LAB_KERNEL, or '
        f'{",".join(each.key for each in machines.candidates(""))})',
    )
    commands = parser.add_subparsers(required=True, metavar='run')
    command = commands.add_parser('run', help='run a command in a guest')
    command.add_argument(
        '--timeout',
        type=float,
        default=900,
        metavar='SECONDS',
        help='how long COMMAND may take (default: 900), in QEMU without KVM '
        'five times that',
    )
    command.add_argument(
        '--results',
        type=pathlib.Path,
        metavar='DIR',
        help='directory for logs and results (default: a temporary one, '
        'which is removed if all went well)',
    )
    command.add_argument('--memory', default='2G')
    command.add_argument('command', nargs='+', metavar='COMMAND')
    command.set_defaults(run=run)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        status: int = arguments.run(arguments)
    except guest.CannotBoot as error:
        guest.say(str(error))
        status = guest.EXIT_NO_GUEST
    except Stopped as stopped:
        guest.say(f'stopped by {stopped}')
        status = 128 + stopped.number
    return status


if __name__ == '__main__':
    sys.exit(main())
