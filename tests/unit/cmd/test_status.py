# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import pathlib
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from attachworker import objects
from attachworker.cmd import status
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Records
from tests.unit.journal import rows


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


@pytest.fixture
def config_file(tmp_path: pathlib.Path, directory: pathlib.Path) -> str:
    path = tmp_path / 'worker.conf'
    path.write_text(f'[DEFAULT]\nstate_path = {directory}\n')
    return str(path)


def files(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if not path.name.endswith('-shm')  # locks of readers
    }


def fill(database: Database) -> None:
    """One of each."""
    records = Records(database)
    result = objects.OperationResult(
        request_id='unsent', operation='attach', status='attached'
    )
    records.accept(rows.request('unfinished', sealed=b'CANARY'))
    records.count_attempt('unfinished')
    records.accept(rows.request('unsent', receivers=(rows.REPLY_TO,)))
    records.finish('unsent', result.obj_to_primitive(), None, None)
    records.accept(rows.request('sent'))
    records.count_attempt('sent')
    records.count_attempt('sent')
    records.finish('sent', result.obj_to_primitive(), None, None)
    device = objects.DeviceInfo(path='/dev/sda', size=512)
    rows.put(
        records,
        rows.attachment(
            state=AttachmentState.ATTACHED, device=device.obj_to_primitive()
        ),
    )


def shown(config_file: str, capsys: pytest.CaptureFixture[str]) -> Any:
    arguments = ['journal', '--config-file', config_file, '--format', 'json']
    code = status.main(arguments)
    out, error = capsys.readouterr()
    assert error == ''
    assert 'CANARY' not in out
    return code, json.loads(out)


@pytest.mark.parametrize('when', ['beside a worker', 'after a clean end'])
def test_all_that_is_not_over(
    directory: pathlib.Path,
    config_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    # Given a journal with open ends
    database = Database(directory)
    fill(database)
    if when == 'after a clean end':
        database.close()
    before = files(directory)
    # Then they are shown, and nothing is changed
    code, found = shown(config_file, capsys)
    assert code == 1
    [unfinished] = found['unfinished']
    assert unfinished['request_id'] == 'unfinished'
    assert unfinished['attempts'] == 1
    # Among them how often a restarted worker has gone on with what
    [recovered] = found['recovered']
    assert (recovered['request_id'], recovered['attempts']) == ('sent', 2)
    assert recovered['status'] == 'attached'
    [unsent] = found['unsent']
    assert (unsent['request_id'], unsent['status']) == ('unsent', 'attached')
    [attachment] = found['attachments']
    assert (attachment['state'], attachment['device']) == (
        'attached',
        '/dev/sda',
    )
    assert files(directory) == before
    # And as tables that a terminal takes
    monkeypatch.setenv('COLUMNS', '120')
    assert status.main(['journal', '--config-file', config_file]) == 1
    out = capsys.readouterr().out
    assert 'unfinished: 1' in out
    assert 'recovered: 1' in out
    assert all(len(line) <= 120 for line in out.splitlines())
    if when == 'beside a worker':
        # And the worker goes on
        Records(database).settle('unsent', rows.REPLY_TO)
        assert shown(config_file, capsys)[1]['unsent'] == []
        database.close()


def test_after_a_kill(
    directory: pathlib.Path,
    config_file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given a worker that was killed: what it wrote last is in the log yet
    subprocess.run(
        [
            sys.executable,
            '-c',
            'import os, pathlib, sys\n'
            'from attachworker.journal import Database\n'
            'from tests.unit.cmd import test_status\n'
            'test_status.fill(Database(pathlib.Path(sys.argv[1])))\n'
            'os.kill(os.getpid(), 9)',
            str(directory),
        ],
        check=False,
    )
    before = files(directory)
    assert shown(config_file, capsys)[0] == 1
    assert files(directory) == before


def test_nothing_open(
    directory: pathlib.Path,
    config_file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Database(directory).close()
    empty = {
        'unfinished': [],
        'recovered': [],
        'unsent': [],
        'attachments': [],
    }
    assert shown(config_file, capsys) == (0, empty)


@pytest.mark.parametrize('what', ['none', 'newer', 'nonsense'])
def test_a_journal_that_cannot_be_read(
    directory: pathlib.Path,
    config_file: str,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    if what == 'nonsense':
        directory.mkdir()
        (directory / 'journal.sqlite').write_bytes(b'no database' * 1000)
    if what == 'newer':
        database = Database(directory)
        with database.transaction() as connection:
            connection.execute('PRAGMA user_version = 99')
        database.close()
    assert status.main(['journal', '--config-file', config_file]) == 2
    out, error = capsys.readouterr()
    assert out == ''
    assert error.count('\n') == 1
    assert str(directory) in error
    assert what != 'newer' or '99' in error


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(['nonsense']) == 2
    assert status.main(['journal', '--help']) == 0
    assert status.main(['journal', '--config-file', '/no/such']) == 2
    assert 'Traceback' not in capsys.readouterr().err


def test_upgrade_of_a_new_host(
    config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_upgrade(config_file) == 0
    assert 'There is none yet.' in capsys.readouterr().out


def test_upgrade_with_all_in_order(
    config_file: str, directory: pathlib.Path
) -> None:
    Database(directory).close()
    before = files(directory)
    assert check_upgrade(config_file) == 0
    assert files(directory) == before


def test_upgrade_with_unfinished_requests(
    config_file: str,
    directory: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = Database(directory)
    fill(database)
    database.close()
    assert check_upgrade(config_file) == 1
    assert '1 requests are unfinished' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('version', 'code', 'said'),
    [(1, 1, 'keep a copy'), (99, 2, 'start the release that wrote')],
)
def test_upgrade_of_the_journal(
    version: int,
    code: int,
    said: str,
    config_file: str,
    directory: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Database(directory).close()
    with contextlib.closing(
        sqlite3.connect(directory / 'journal.sqlite')
    ) as connection:
        connection.execute(f'PRAGMA user_version = {version}')
    before = files(directory)
    assert check_upgrade(config_file) == code
    assert said in ' '.join(words(capsys.readouterr().out))
    assert files(directory) == before


def test_upgrade_of_what_is_no_journal(
    config_file: str,
    directory: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory.mkdir()
    (directory / 'journal.sqlite').write_text('no database at all')
    assert check_upgrade(config_file) == 2
    assert 'journal.sqlite' in ''.join(words(capsys.readouterr().out))


@pytest.mark.parametrize(
    ('level', 'code'), [('1.1', 0), ('1.0', 1), ('0.9', 2), ('nonsense', 2)]
)
def test_upgrade_level(
    level: str,
    code: int,
    config_file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(config_file, 'a', encoding='utf-8') as file:
        file.write(f'[upgrade_levels]\nattachworker = {level}\n')
    assert check_upgrade(config_file) == code
    assert (level in capsys.readouterr().out) is (code > 0)


def check_upgrade(config_file: str) -> int:
    return status.main(['upgrade', 'check', '--config-file', config_file])


def words(table: str) -> list[str]:
    """What is in a table, without its lines."""
    return [word for word in table.split() if word.strip('|+-')]
