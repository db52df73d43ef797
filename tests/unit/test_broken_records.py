# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A record that makes no sense stops its attachment and nothing else."""

from collections.abc import Iterator
import itertools
import json
import math
import pathlib
import shutil
import sqlite3
import time
from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentState
from attachworker.journal import Call
from attachworker.journal import Holdings
from attachworker.journal import database
from tests import harness
from tests.simulator import bed as beds
from tests.unit import earlier
from tests.unit.earlier import Earlier
from tests.unit.earlier import ended
from tests.unit.earlier import request
from tests.unit.earlier import worker
from tests.unit.journal import rows


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


def change(state: pathlib.Path, statement: str, *values: Any) -> None:
    """Change one row of the journal while no worker is at it."""
    connection = sqlite3.connect(state / 'journal.sqlite')
    assert connection.execute(statement, values).rowcount == 1
    connection.commit()
    connection.close()


def empty(kind: type[objects.AttachWorkerObject]) -> str:
    """An object that lacks all its values."""
    return json.dumps(
        {
            'versioned_object.name': kind.obj_name(),
            'versioned_object.namespace': 'attachworker',
            'versioned_object.version': kind.VERSION,
            'versioned_object.data': {},
        }
    )


def findings(running: harness.Harness) -> list[str]:
    found = running.api.audit({}, running.name).findings
    return [f'{one.kind} {one.what}: {one.detail}' for one in found]


def until_snapshot(bed: beds.SimulatedBed, wanted: Any) -> None:
    limit = time.monotonic() + earlier.PATIENCE
    while bed.snapshot() != wanted:
        assert time.monotonic() < limit, bed.snapshot()
        time.sleep(0.05)


@pytest.mark.parametrize(
    'body',
    ['{}', 'no JSON', '[1]', '{"a": {}}', empty(objects.AttachRequest)],
)
def test_a_request(
    bed: beds.SimulatedBed, state: pathlib.Path, body: str
) -> None:
    # Given an attach that was cut short, and one of which the journal holds
    # nothing legible
    volume, other = bed.create_volume(), bed.create_volume()
    one = Earlier(bed, state)
    for each, name in ((volume, 'request'), (other, 'broken')):
        one.accepts('attach', request(each, name))
    one.dies()
    change(
        state, "UPDATE requests SET body = ? WHERE request_id = 'broken'", body
    )
    # When a worker is started, then both have their result
    with worker(bed, state) as running:
        assert ended(running, 'request').status == 'attached'
        found = ended(running, 'broken')
        assert found.error.code == 'internal'
        assert 'request broken cannot be read' in found.error.message
        assert running.attachments() == [f'{volume.name} attached']
        assert running.detach(volume.name).status == 'detached'


def test_a_request_that_was_cut_short(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    """What is ours is in the journal, whatever the request was."""
    # Given an attach that was cut short, whose request nobody can read
    volume = bed.create_volume()
    before = bed.snapshot()
    one = Earlier(bed, state)
    given = request(volume, 'broken')
    one.accepts('attach', given)
    one.begins(volume, given)
    one.breaks('broken')
    one.dies()
    assert bed.snapshot() != before
    # When a worker is started, then nothing is left of it
    with worker(bed, state) as running:
        assert ended(running, 'broken').status == 'failed'
        until_snapshot(bed, before)
        assert running.attachments() == []


def test_a_result(bed: beds.SimulatedBed, state: pathlib.Path) -> None:
    # Given a result that somebody waits for and nobody can read
    volume = bed.create_volume()
    with worker(bed, state) as running:
        result = running.attach(volume)
    change(
        state,
        "UPDATE requests SET result = '{' WHERE request_id = ?",
        result.request_id,
    )
    # When the worker is started, then who asks for it is told, and the
    # attachment can be used
    with worker(bed, state) as running:
        with pytest.raises(exception.JournalUnavailable, match='cannot be'):
            running.api.get_result({}, running.name, result.request_id)
        assert running.attachments() == [f'{volume.name} attached']
        assert running.detach(volume.name).status == 'detached'


@pytest.mark.parametrize(
    ('column', 'value'),
    [
        ('connection', '{}'),
        ('connection', 'no JSON'),
        ('connection', empty(objects.ISCSIConnectionInfo)),
        ('connection', empty(objects.DeviceInfo)),
        ('device', '{"versioned_object.name": "Unknown"}'),
        ('device', empty(objects.DeviceInfo)),
        ('device', empty(objects.ISCSIConnectionInfo)),
        ('state', 'of a later version'),
    ],
)
def test_an_attachment(
    bed: beds.SimulatedBed, state: pathlib.Path, column: str, value: str
) -> None:
    # Given two attachments, of which one cannot be read
    volume, broken = bed.create_volume(), bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        for one in (volume, broken):
            assert running.attach(one).status == 'attached'
    attached = bed.snapshot()
    change(
        state,
        f'UPDATE attachments SET {column} = ? WHERE attachment_id = ?',
        value,
        broken.name,
    )
    with worker(bed, state) as running:
        # Then the worker starts and shows the other one, and the audit says
        # what to do
        assert running.attachments() == [f'{volume.name} attached']
        [told] = findings(running)
        assert told.startswith(f'stale attachment {broken.name}: ')
        assert 'detach with force' in told
        # And nobody uses it by guess
        with pytest.raises(exception.JournalUnavailable, match=broken.name):
            running.api.get_attachment({}, running.name, broken.name)
        for ask in (running.attach, lambda one: running.detach(one.name)):
            assert f'attachment {broken.name} cannot be read' in why_not(
                ask, broken
            )
        assert bed.snapshot() == attached
        # And there is a way out
        info = broken.connection_info()
        result = running.detach(broken.name, connection_info=info, force=True)
        assert result.status == 'detached', result.as_dict()
        assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
        assert findings(running) == []


#: What a column may hold after a disk has lost it: nothing, a text that is
#: none of ours, bytes that are no text, a number that nothing has.
JUNK: dict[str, list[Any]] = {
    'TEXT': ['', 'no JSON', '[1]', b'\xff'],
    'INTEGER': [-1, 2**63 - 1],
    'REAL': [-1e308, math.inf],
    'BLOB': [b''],
}
MOST = max(map(len, JUNK.values()))


def columns() -> list[tuple[str, str, str]]:
    """Table, column and type of all that the journal has."""
    connection = sqlite3.connect(':memory:')
    connection.create_function('normal_form', 1, lambda wwn: wwn)
    connection.executescript(database.SCHEMA)
    for script in database.UPGRADES.values():
        connection.executescript(script)
    return [
        (table, name, kind)
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        for _, name, kind, *_ in connection.execute(
            f'PRAGMA table_info({table})'
        )
    ]


@pytest.fixture(scope='module')
def begun(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[beds.SimulatedBed, pathlib.Path, Any]]:
    """A host, a journal with rows in all tables, and a volume.

    Some are attached, some are being made, and somebody waits for each
    request.
    """
    bed = beds.SimulatedBed()
    volumes = [bed.create_volume() for _ in range(MOST)]
    healthy = bed.create_volume()
    state = tmp_path_factory.mktemp('begun') / 'state'
    with worker(bed, state) as running:
        done = [running.attach(volume).request_id for volume in volumes]
    one = Earlier(bed, state)
    for number, volume in enumerate(volumes):
        name = f'unfinished-{number}'
        one.accepts('attach', request(volume, name), sealed=b'x' * 40)
        for request_id in (done[number], name):
            one.records.put_call(Call(request_id, 'queue', 5), request_id)
            one.records.owe(request_id, rows.REPLY_TO)
        one.records.put_attachment(rows.attachment(name))
        holdings = Holdings(one.database, name, 'boot')
        holdings.found_listed(frozenset())
        (target,) = request(volume).connection_info.targets
        holdings.intend_link(target, number)
    one.dies()
    yield bed, state, healthy
    bed.close()


def test_connections_without_targets(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given two attachments, one with leftovers, whose targets have gone
    volume, healthy = bed.create_volume(), bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    one = Earlier(bed, state)
    one.records.put_attachment(rows.attachment('left'))
    one.records.put_attachment(
        rows.attachment('left', state=AttachmentState.ATTACH_FAILED)
    )
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    info.target_list = []
    one.database.write(
        'UPDATE attachments SET connection = ?',
        json.dumps(info.obj_to_primitive()),
    )
    one.dies()
    # When a worker is started, then it serves others
    with worker(bed, state) as running:
        assert running.attach(healthy).status == 'attached'
        assert 'cannot be read' in why_not(running.attach, volume)
        assert running.detach(healthy.name).status == 'detached'


@pytest.mark.parametrize(
    ('table', 'column', 'kind'),
    columns(),
)
def test_any_column_of_any_table(
    begun: tuple[beds.SimulatedBed, pathlib.Path, Any],
    tmp_path: pathlib.Path,
    table: str,
    column: str,
    kind: str,
) -> None:
    # Given a journal in which a column has gone, in each row in another way
    bed, before, healthy = begun
    state = tmp_path / 'state'
    shutil.copytree(before, state)
    connection = sqlite3.connect(state / 'journal.sqlite')
    ids = [row for (row,) in connection.execute(f'SELECT rowid FROM {table}')]
    value = 'CAST(? AS TEXT)' if kind == 'TEXT' else '?'
    for row, junk in zip(ids, itertools.cycle(JUNK[kind])):
        connection.execute(
            f'UPDATE OR IGNORE {table} SET {column} = {value} WHERE rowid = ?',
            (junk, row),
        )
    assert ids
    assert connection.total_changes
    connection.commit()
    connection.close()
    # When a worker is started, then it serves others as ever
    with worker(bed, state) as running:
        result = running.attach(healthy, 'healthy')
        assert result.status == 'attached', result.as_dict()
        listed = running.api.list_attachments({}, running.name)
        assert 'healthy' in {one.attachment_id for one in listed}
        running.api.audit({}, running.name)
        assert running.detach('healthy').status == 'detached'


def why_not(ask: Any, volume: Any) -> str:
    """What is said of a request that is refused, or fails."""
    try:
        return str(ask(volume).error.message)
    except exception.JournalUnavailable as error:
        return str(error)


def test_one_that_a_reboot_has_taken_away(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given two attachments, and a reboot; nobody can read what one takes
    volume, broken = bed.create_volume(), bed.create_volume()
    with worker(bed, state) as running:
        for one in (volume, broken):
            assert running.attach(one).status == 'attached'
    bed.restart_host()
    change(
        state,
        'UPDATE attachments SET again = ? WHERE attachment_id = ?',
        '{"a": 1}',
        broken.name,
    )
    # When the worker starts, then the other one is attached again
    with worker(bed, state, reattach_after_reboot=True) as running:
        wanted = sorted([f'{volume.name} attached', f'{broken.name} missing'])
        limit = time.monotonic() + earlier.PATIENCE
        while running.attachments() != wanted:
            assert time.monotonic() < limit, running.attachments()
            time.sleep(0.05)
        for one in (volume, broken):
            assert running.detach(one.name).status == 'detached'
