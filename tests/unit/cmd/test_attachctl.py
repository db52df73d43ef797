# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What attachctl finds out before it touches the bus."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

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
