# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Commands whose output nobody reads, or that have none."""

import subprocess
import sys

import pytest

#: A command that needs no bus, and one that has to say something of it.
_COMMANDS = (
    ('attachctl', 'complete'),
    ('attachctl', '--transport-url', 'rabbit://127.0.0.1:1/', 'ping'),
    ('status', 'upgrade', 'check', '--config-file', '/dev/null'),
)


def run(
    command: tuple[str, ...], redirection: str
) -> subprocess.CompletedProcess[str]:
    module, *arguments = command
    return subprocess.run(
        [
            'bash',
            '-c',
            f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}',
            'bash',
            sys.executable,
            '-W',
            'ignore',
            '-m',
            f'attachworker.cmd.{module}',
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize('command', _COMMANDS, ids=' '.join)
@pytest.mark.parametrize(
    'redirection',
    ['<&- >&- 2>&-', '| true', '>/dev/full'],
)
def test_there_is_no_traceback(
    command: tuple[str, ...], redirection: str
) -> None:
    ended = run(command, redirection)
    assert 'Traceback' not in ended.stderr
    assert 'Exception ignored' not in ended.stderr
    assert ended.stderr.count('\n') <= 1
    assert ended.returncode in (0, 1, 2, 3)


def test_a_closed_output_does_not_change_how_a_command_ends() -> None:
    for command, code in zip(_COMMANDS, (0, 3, 0), strict=True):
        assert run(command, '>&-').returncode == code


def test_an_output_that_cannot_be_written_is_no_success() -> None:
    ended = run(_COMMANDS[0], '>/dev/full')
    assert ended.returncode == 1
    assert 'No space left' in ended.stderr
