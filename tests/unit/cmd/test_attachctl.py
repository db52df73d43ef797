# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What attachctl finds out before it touches the bus."""

from importlib import metadata
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
COMMANDS = sorted(
    one.name for one in metadata.entry_points(group=attachctl.NAMESPACE)
)


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
            json.dumps({'driver_volume_type': 'aoe', 'data': {}}),
            'aoe',
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
    for command in COMMANDS:
        assert f'\n  {command} ' in text
    # And so does the help of a command, wherever it is asked for
    for words in (['attach', '--help'], ['help', 'attach']):
        assert attachctl.main(words) == 0
        assert '--min-paths' in capsys.readouterr().out


def test_who_mistypes_a_command_is_told_which_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attachctl.main(['detahc', 'my-volume']) == 2
    out, error = capsys.readouterr()
    assert out == ''
    assert 'detach' in error


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert attachctl.main(['--version']) == 0
    version = metadata.version('attachworker')
    assert capsys.readouterr().out == f'attachctl {version}\n'


def test_errors_are_for_programs_where_answers_are(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*words: str) -> dict[str, str]:
        assert attachctl.main([*words, '--format', 'json']) != 0
        out, text = capsys.readouterr()
        assert out == ''
        return dict(json.loads(text)['error'])

    path = tmp_path / 'volume.json'
    path.write_text(info(target_lun='x'))
    where = ('--transport-url', URL)
    assert error(*where, 'attach', str(path))['code'] == (
        'invalid_connection_info'
    )
    assert 'target_lun' in error(*where, 'attach', str(path))['message']
    assert error(*where, 'detach')['code'] == 'bad_input'
    assert error(*where, 'ping')['code'] == 'no_worker'


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ('4096', 4096),
        ('4096B', 4096),
        ('20G', 20 << 30),
        ('20 GiB', 20 << 30),
        ('20gb', 20 << 30),
        ('1.5T', 3 << 39),
    ],
)
def test_sizes_may_have_units(text: str, size: int) -> None:
    assert arguments.size(text) == size


@pytest.mark.parametrize('text', ['', 'G', '-1', '1.5', '1Q', '0x10', '1e9'])
def test_what_is_no_size_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['--transport-url', URL, 'extend', 'a', f'--expected-size={text}']
    assert attachctl.main(words) == 2
    assert '--expected-size' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--key-file', 'KEY'], '--encryption'),
        (['--may-format'], '--encryption'),
        (['--encryption', 'luks2'], '--key-file'),
        (['--encryption', 'luks2', '--key-file', '/no/such'], '/no/such'),
        (['--encryption', 'luks3', '--key-file', 'KEY'], 'luks3'),
    ],
)
def test_half_of_an_encryption_is_bad_input(
    options: list[str],
    said: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, key = tmp_path / 'volume.json', tmp_path / 'key'
    path.write_text(info())
    key.write_text(SECRET)
    words = [str(key) if one == 'KEY' else one for one in options]
    where = ['--transport-url', URL, 'attach', str(path)]
    assert attachctl.main([*where, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert SECRET not in error


def test_one_standard_input_is_not_two_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ['attach', '-', '--encryption', 'luks2', '--key-file', '-']
    assert attachctl.main(['--transport-url', URL, *words]) == 2
    assert 'standard input' in capsys.readouterr().err


def test_help_does_not_wait_for_the_bus() -> None:
    # Given what is slow to import
    script = (
        'import sys; from attachworker.cmd import attachctl; '
        'attachctl.main(["--help"]); '
        'print([one for one in sys.modules if one.startswith('
        '("oslo_", "kombu", "amqp"))])'
    )
    done = subprocess.run(
        [sys.executable, '-c', script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == '[]'


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


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_has_an_example_that_is_one(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attachctl.main([command, '--help']) == 0
    out, _ = capsys.readouterr()
    _, _, examples = out.partition('example:\n')
    examples = examples.partition('\n\n')[0].strip().splitlines()
    assert examples
    program = attachctl.Attachctl()
    for example in examples:
        name, *words = example.partition('<')[0].split()
        assert name == 'attachctl'
        _, words = program.parser.parse_known_args(words)
        made, found, words = program.command_manager.find_command(words)
        assert found == command
        made(program, None).get_parser('').parse_args(words)
    assert all(len(line) <= 80 for line in out.splitlines())


def test_bash_completes_commands_and_options(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    assert attachctl.main(['complete']) == 0
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
    assert complete('attachctl', 'exten') == ['extend']
    assert complete('attachctl', 'attach', '--multi') == ['--multipath']
