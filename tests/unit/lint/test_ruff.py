# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What pyproject.toml tells ruff to find is found."""

import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).parents[3]
LICENCE = """\
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""


def codes(text: str, path: str = 'attachworker/tasks/sample.py') -> set[str]:
    """Which of the two rules ruff finds broken in a file of that name."""
    ran = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '--no-cache']
        + ['--output-format', 'concise', '--stdin-filename', path, '-'],
        input=text,
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (0, 1), ran.stderr
    return {code for code in ('CPY001', 'TID251') if code in ran.stdout}


@pytest.mark.parametrize(
    'text',
    [
        'import time\ntime.sleep(1)\n',
        'import time as clock\nclock.sleep(1)\n',
        'from time import sleep\n',
        'import eventlet\n',
        'from eventlet import green\n',
    ],
)
def test_sleep_and_eventlet_are_found_in_the_package(text: str) -> None:
    assert codes(LICENCE + text) == {'TID251'}


def test_a_test_may_sleep() -> None:
    text = LICENCE + 'import time\ntime.sleep(1)\n'
    assert codes(text, 'tests/unit/test_a.py') == set()


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('', set()),
        (LICENCE, set()),
        ('#!/usr/bin/env python3\n' + LICENCE, set()),
        ('x = 1\n', {'CPY001'}),
        ('# Copyright somebody\n' + LICENCE, {'CPY001'}),
        (LICENCE.replace('2.0', '1.1'), {'CPY001'}),
    ],
)
def test_the_licence_comes_first(text: str, found: set[str]) -> None:
    assert codes(text, 'tests/unit/test_a.py') == found
