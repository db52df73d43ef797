# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl attach, given what no volume can be attached by."""

import json
import pathlib
import subprocess
import sys
from typing import Any
from typing import NoReturn

import pytest

from attachworker import client
from attachworker.cmd import attachctl
from tests.unit.objects import bad_values
from tests.unit.objects import shapes

#: Nothing listens there; whoever tries ends with 3, not 2.
URL = 'rabbit://127.0.0.1:1/'


def in_json() -> list[Any]:
    """Those of the bad values that a file can hold."""
    found = []
    for number, (key, value, rule) in enumerate(bad_values.BAD_VALUES):
        if not isinstance(value, bytes):
            found.append(pytest.param(key, value, rule, id=f'{key}-{number}'))
    return found


IN_JSON = in_json()


@pytest.fixture
def no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise AssertionError('the bus was touched')

    monkeypatch.setattr(client, 'AttachWorkerClient', refuse)


def check(out: str, error: str, key: str, rule: str) -> None:
    assert out == ''
    assert error.count('\n') == 1
    assert error.startswith('attachctl: ')
    assert key in error
    assert rule in error
    assert 'Traceback' not in error
    assert shapes.CANARY not in error
    assert len(error) < 400


@pytest.mark.parametrize(('key', 'value', 'rule'), IN_JSON)
@pytest.mark.usefixtures('no_bus')
def test_bad_value(
    key: str,
    value: Any,
    rule: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'volume.json'
    path.write_text(json.dumps(bad_values.with_bad_value(key, value)))
    code = attachctl.main(['--transport-url', URL, 'attach', str(path)])
    assert code == 2
    check(*capsys.readouterr(), key, rule)


@pytest.mark.parametrize(('key', 'value', 'rule'), IN_JSON[::40])
def test_bad_value_in_a_process(key: str, value: Any, rule: str) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            '-m',
            'attachworker.cmd.attachctl',
            '--transport-url',
            URL,
            'attach',
            '-',
        ],
        input=json.dumps(bad_values.with_bad_value(key, value)),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 2
    check(ended.stdout, ended.stderr, key, rule)


@pytest.mark.parametrize(
    ('option', 'value', 'named'),
    [
        ('--attachment-id', '', 'attachment_id'),
        ('--attachment-id', '../x', 'attachment_id'),
        ('--volume-id', '', 'volume_id'),
        ('--volume-id', 'a b', 'volume_id'),
        ('--expected-wwn', '', 'expected_wwn'),
        ('--expected-wwn=--all', None, 'expected_wwn'),
        ('--min-paths', '65', 'min_paths'),
        ('--min-paths', '0', 'min_paths'),
        ('--deadline', '0', 'deadline_seconds'),
        ('--deadline', '99999999', 'deadline_seconds'),
    ],
)
@pytest.mark.usefixtures('no_bus')
def test_bad_option(
    option: str,
    value: str | None,
    named: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'volume.json'
    path.write_text(json.dumps(shapes.lio()))
    arguments = ['attach', str(path), option]
    arguments += [] if value is None else [value]
    assert attachctl.main(arguments) == 2
    check(*capsys.readouterr(), named, '')


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'not JSON'),
        (b'\xff\xfe' + shapes.CANARY.encode(), 'not JSON'),
        (b'{"data": NaN', 'not JSON'),
        (b'null', 'connection_info'),
        (b'7', 'connection_info'),
        (b'{"driver_volume_type": "iscsi"}', 'target'),
        (b'{"driver_volume_type": "iscsi", "data": null}', 'data'),
        (b'{"driver_volume_type": ["iscsi"], "data": {}}', 'driver_volume'),
        (b'{"driver_volume_type": "iscsi", "data": {}}', 'target'),
        (b'{"driver_volume_type": "aoe", "data": {}}', 'aoe'),
    ],
)
@pytest.mark.usefixtures('no_bus')
def test_bad_file(
    content: bytes,
    said: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'volume.json'
    path.write_bytes(content)
    assert attachctl.main(['attach', str(path)]) == 2
    check(*capsys.readouterr(), said, '')
