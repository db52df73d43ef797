# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Boots the lab, has everything measured there, and prints what came out.

It fails when a contestant did not attach what it should, never because of a
figure: those depend on the machine.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks import report

_SECONDS_A_ROUND = 90  # of the slowest case, on a busy machine


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks')
    parser.add_argument(
        '--rounds',
        type=int,
        default=7,
        help='how often each case is measured (default: 7)',
    )
    parser.add_argument(
        '--case',
        action='append',
        default=[],
        help="'new session', 'existing session' or 'map of two paths' "
        '(default: all)',
    )
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE')
    arguments = parser.parse_args()
    results = tempfile.mkdtemp(prefix='bench-')
    date = time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())
    load = os.getloadavg()[0]
    status = _measure(arguments, results)
    output = pathlib.Path(results) / 'figures.json'
    if status or not output.exists():
        return status or 1  # the lab has said where the logs are
    figures = report.summary(
        json.loads(output.read_text()),
        {'date': date, 'cpus': os.cpu_count(), 'load_before': load},
    )
    shutil.rmtree(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + '\n')
    print(report.table(figures))
    return 0


def _measure(arguments: argparse.Namespace, results: str) -> int:
    timeout = 120 + 3 * _SECONDS_A_ROUND * (arguments.rounds + 1)
    lab = [sys.executable, '-m', 'tests.kernel.lab', 'run']
    bounds = ['--timeout', str(timeout), '--results', results]
    inside = ['--', 'python', '-m', 'benchmarks.inside']
    inside += ['--rounds', str(arguments.rounds)]
    inside += ['--output', '/run/lab/results/figures.json']
    for case in arguments.case:
        inside += ['--case', case]
    return subprocess.run([*lab, *bounds, *inside], check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
