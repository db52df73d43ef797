# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What attachctl finds out before it touches the bus."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from attachworker.cmd import arguments
from attachworker.cmd import attachctl

#: Nothing listens there; whoever tries ends with 3, not 2.
URL = 'rabbit://127.0.0.1:1/'
SECRET = 'CANARY-secret'


def info(**changes: Any) -> str:
    return json.dumps(
        {
            'driver_volume_type': 'iscsi',
            'data': {
                'target_portal': '192.0.2.1:3260',
                'target_lun': 1,
                'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
                'auth_method': 'CHAP',
                'auth_username': 'u',
                'auth_password': SECRET,
                **changes,
            },
        }
    )


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('no json ' + SECRET, 'is not JSON'),
        ('[' * 100000, 'is not JSON'),
        ('[]', 'connection_info'),
        ('{}', 'driver_volume_type'),
        (info(target_lun='x'), 'target_lun'),
        (info(target_portal='-oProxy'), 'target_portal'),
        (info(auth_password=SECRET + '\0'), 'auth_password'),
        (
            json.dumps({'driver_volume_type': 'fibre_channel', 'data': {}}),
            'fibre_channel',
        ),
    ],
)
def test_bad_file_is_2_and_one_line(
    text: str,
    said: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'volume.json'
    path.write_text(text)
    assert attachctl.main(['--transport-url', URL, 'attach', str(path)]) == 2
    out, error = capsys.readouterr()
    assert out == ''
    assert said in error
    assert error.count('\n') == 1
    assert SECRET not in error


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['nonsense'],
        ['attach'],
        ['attach', '/no/such/file'],
        ['attach', '/'],
        ['ping', '--timeout', '0'],
        ['ping', '--timeout', 'x'],
        ['ping', '--format', 'xml'],
        ['ping', '--transport-url', 'fake://'],
        ['ping', '--config-file', '/no/such/file'],
        ['detach', 'a\nb'],
        ['detach'],
        ['detach', ''],
        ['detach', '--connection-info', ''],
        ['detach', '--connection-info', '/no/such/file'],
        ['ping', '--host', ''],
        ['ping', '--host', 'a b'],
        ['ping', '--transport-url', ''],
        ['ping', '--config-file', ''],
        ['ping', '--config-file', '/'],
    ],
)
def test_bad_arguments_are_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert attachctl.main(arguments) == 2
    assert 'Traceback' not in capsys.readouterr().err


def test_bad_option_of_attach_is_2(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'volume.json'
    path.write_text(info())
    for option in (
        ['--min-paths', '0'],
        ['--deadline', '-1'],
        ['--expected-wwn', 'not a wwn'],
    ):
        assert attachctl.main(['attach', str(path), *option]) == 2


def test_a_map_cannot_be_enforced_where_none_is_asked_for(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'volume.json'
    path.write_text(info())
    where = ['--transport-url', URL, 'attach', str(path)]
    assert attachctl.main([*where, '--enforce-multipath']) == 2
    assert '--multipath' in capsys.readouterr().err
    # With it, it gets as far as the bus
    both = ['--multipath', '--enforce-multipath']
    assert attachctl.main([*where, *both]) == 3


@pytest.mark.parametrize(
    'lines',
    ['[DEFAULT]\nmax_running = many\n', '[secrets]\nrequired = perhaps\n'],
)
def test_a_configuration_that_makes_no_sense_is_2(
    lines: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'worker.conf'
    path.write_text(lines)
    assert attachctl.main(['ping', '--config-file', str(path)]) == 2
    error = capsys.readouterr().err
    assert lines.split()[1] in error
    assert error.count('\n') == 1


def test_help_names_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert attachctl.main(['--help']) == 0
    text = capsys.readouterr().out
    for command in attachctl.COMMANDS:
        assert f'    {command} ' in text


def test_memory_bus_makes_no_sense_across_processes() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            '-m',
            'attachworker.cmd.attachctl',
            '--transport-url',
            'kombu+memory://',
            'ping',
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert 'kombu+memory' in ended.stderr
    assert ended.stderr.count('\n') == 1


def test_memory_bus_works_inside_a_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Nobody is there, and that is found out over the bus.
    assert (
        attachctl.main(
            ['--transport-url', 'kombu+memory://', '--timeout', '1', 'ping']
        )
        == 3
    )
    assert 'did not answer' in capsys.readouterr().err


def test_watch_without_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert attachctl.main(['--transport-url', URL, 'watch']) == 3
    out, error = capsys.readouterr()
    assert out == ''
    assert 'broker' in error
    assert error.count('\n') == 1


@pytest.mark.parametrize('command', sorted(attachctl.COMMANDS))
def test_every_command_has_an_example_that_is_one(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attachctl.main([command, '--help']) == 0
    out, _ = capsys.readouterr()
    examples = out.partition('Example:\n')[2].strip().splitlines()
    assert examples
    for example in examples:
        words = example.partition('<')[0].split()
        assert words[0] == 'attachctl'
        assert arguments.parser().parse_args(words[1:]).command == command
    assert all(len(line) <= 80 for line in out.splitlines())


def test_bash_completes_commands_and_options(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    assert attachctl.main(['--print-completion', 'bash']) == 0
    out, _ = capsys.readouterr()
    file = tmp_path / 'attachctl'
    file.write_text(out)

    def complete(*words: str) -> list[str]:
        script = (
            f'source {file}; COMP_WORDS=({" ".join(words)}); '
            f'COMP_CWORD={len(words) - 1}; '
            'function=$(complete -p attachctl | sed "s/.*-F //; s/ .*//"); '
            '"$function"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ['bash', '-c', script],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.split()

    assert complete('attachctl', 'att') == ['attach']
    assert complete('attachctl', 'attach', '--multi') == ['--multipath']
