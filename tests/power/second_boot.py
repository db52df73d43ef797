# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The second guest: the same disk, the same storage, another kernel.

Runs inside. First a worker without option reattach_after_reboot, then one
with it.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
import sqlite3
from typing import Any

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.kernel.bed import KernelBed
from tests.power import READY
from tests.power import scene

#: Seconds until a worker has ended what it found.
_PATIENCE = 60.0
#: Requests of which the caller is to be told the result.
CASTS = {'unsent'} | {
    f'in-flight-{name}' for name, story in scene.STORIES.items() if story.kind
}


@dataclasses.dataclass
class After:
    """What there is once two workers have seen to it.

    :ivar before: the host, before the first of them
    :ivar missing: what the first one shows as attached, or missing
    :ivar results: what the caller was sent
    """

    bed: KernelBed
    volumes: dict[str, beds.Volume]
    worker: harness.Harness
    before: dict[str, Any]
    missing: list[str]
    results: list[objects.OperationResult]

    def result(self, request_id: str) -> objects.OperationResult:
        found: objects.OperationResult = self.worker.api.get_result(
            {}, self.worker.name, request_id
        )
        return found

    def flying(self, name: str) -> objects.OperationResult:
        """The result of the request that was in flight."""
        return self.result(f'in-flight-{name}')

    def reads(self, name: str) -> bool:
        """Whether a volume is attached, and is the right one."""
        found = self.worker.api.get_attachment({}, self.worker.name, name)
        data = self.bed.read(found.device.path)
        return data == self.volumes[name].pattern


def journal(query: str) -> list[Any]:
    path = scene.STATE / 'journal.sqlite'
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def wait_for_results() -> None:
    query = 'SELECT request_id FROM requests WHERE result IS NULL'
    caller.until(lambda: not journal(query), timeout=_PATIENCE)


def wait_for_paths(worker: harness.Harness) -> None:
    """One of a map may join it after the attach has ended."""
    caller.until(
        lambda: 'degraded' not in str(worker.attachments()),
        timeout=_PATIENCE,
    )


@pytest.fixture(scope='module')
def after() -> Iterator[After]:
    scene.mount_disk()
    bed = KernelBed()
    volumes = scene.create_volumes(bed)
    receiver = caller.Receiver(harness.BUS, name=scene.CALLER)
    receiver.server.start()
    before = bed.snapshot()
    with scene.worker(bed) as worker:
        wait_for_results()
        caller.until(
            lambda: {each.request_id for each in receiver.results} == CASTS,
            timeout=_PATIENCE,
        )
        wait_for_paths(worker)
        missing = worker.attachments()
    with scene.worker(bed, reattach_after_reboot=True) as worker:
        wait_for_results()
        yield After(bed, volumes, worker, before, missing, receiver.results)
    receiver.stop()
    bed.close()


def test_the_power_was_cut(after: After) -> None:
    """What nobody had synchronized is lost: or the cut would show nothing."""
    boots = journal('SELECT DISTINCT boot_id FROM requests')
    assert len(boots) == 2
    kept = scene.STATE / scene.UNSYNCED
    assert not kept.exists() or kept.read_bytes() == b''


def test_each_request_has_one_result(after: After) -> None:
    assert {each.request_id for each in after.results} == CASTS
    for each in after.results:
        assert after.result(each.request_id).as_dict() == each.as_dict()


def test_what_a_caller_was_told_is_true(after: After) -> None:
    told = json.loads((scene.SHARED / READY).read_text())
    assert after.result('attach-told').as_dict() == told


@pytest.mark.parametrize('name', ['attaching', 'attaching-map'])
def test_an_attach_is_done_again(after: After, name: str) -> None:
    found = after.flying(name)
    assert found.status == 'attached', found.as_dict()
    assert f'{name} attached' in after.missing
    assert after.reads(name)


def test_an_attach_whose_password_is_gone_fails(after: After) -> None:
    found = after.flying('attaching-secret')
    assert (found.status, found.leftovers) == ('failed', [])
    assert 'passwords were not kept' in found.error.message


def test_an_attach_without_time_left_fails(after: After) -> None:
    found = after.flying('attaching-late')
    assert (found.status, found.leftovers) == ('failed', [])
    assert found.error.code == 'deadline_exceeded'


@pytest.mark.parametrize('name', ['detaching', 'detaching-map'])
def test_a_detach_is_finished(after: After, name: str) -> None:
    assert after.flying(name).status == 'detached'


def test_an_extend_finds_nothing(after: After) -> None:
    assert after.flying('extending').error.code == 'attachment_not_found'


def test_what_was_attached_is_missing(after: After) -> None:
    assert after.missing == [
        'attaching attached',
        'attaching-map attached',
        'extending missing',
        'recorded missing',
        'recorded-map missing',
        'recorded-secret missing',
        'told missing',
        'unsent missing',
    ]


def test_it_is_attached_again_if_so_configured(after: After) -> None:
    wanted = [
        line
        if line.startswith('recorded-secret ')
        else line.replace('missing', 'attached')
        for line in after.missing
    ]
    wait_for_paths(after.worker)
    assert after.worker.attachments() == wanted, journal(
        'SELECT attachment_id, result FROM requests ORDER BY created_at'
    )
    for name in ('extending', 'recorded', 'recorded-map', 'told', 'unsent'):
        assert after.reads(name)


def test_nothing_is_left_in_the_end(after: After) -> None:
    for line in after.worker.attachments():
        found = after.worker.detach(line.partition(' ')[0])
        assert found.status == 'detached', found.as_dict()
    found = after.bed.snapshot()
    # Before, the first boot's lines were there yet.
    wwids = found.pop('wwids'), after.before.pop('wwids')
    assert found == after.before
    assert wwids[0] == []
    for table in ('attachments', 'holdings', 'links', 'calls'):
        assert journal(f'SELECT * FROM {table}') == [], table
    assert journal('SELECT 1 FROM requests WHERE sealed IS NOT NULL') == []


def test_the_disk_is_whole(after: After) -> None:
    assert journal('PRAGMA integrity_check') == [('ok',)]
    assert pathlib.Path('/proc/mounts').read_text().count(f' {scene.STATE} ')
