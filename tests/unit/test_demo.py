# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The demo does what it says, and README.rst shows what it prints."""

import os
import pathlib
import re
import subprocess
import sys

_PROJECT = pathlib.Path(__file__).resolve().parents[2]


def shown_in_readme() -> list[str]:
    """The parts of the example between its cuts."""
    readme = (_PROJECT / 'README.rst').read_text()
    example = readme.partition('prints (cut)::\n')[2].partition('\n::\n')[0]
    parts = example.split('    ...\n')
    assert len(parts) > 1
    return ['\n'.join(comparable(part.splitlines())) for part in parts]


def comparable(lines: list[str]) -> list[str]:
    """Without what differs between two runs: numbers, names, blank space."""
    plain = []
    for line in filter(str.strip, lines):
        named = line.replace('the simulated host', 'a real kernel')
        named = re.sub(r'\bsd[a-z]\b', 'DISK', named)
        named = re.sub(r'\b[0-9a-f-]*[0-9][0-9a-f-]*\b', 'NUMBER', named)
        plain.append(' '.join(named.split()))
    return plain


def test_the_simulated_demo_prints_what_readme_shows() -> None:
    demo = subprocess.run(
        [sys.executable, '-m', 'tools.demo'],
        cwd=_PROJECT,
        # A terminal as wide as they always are
        env=os.environ | {'HOST': 'simulated', 'COLUMNS': '80'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert demo.returncode == 0, demo.stdout
    printed = '\n'.join(comparable(demo.stdout.splitlines()))
    for part in shown_in_readme():
        _, found, printed = printed.partition(part)
        assert found, f'not printed, or not in this order:\n{part}'
