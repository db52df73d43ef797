# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Journal against kernel."""

from collections.abc import Callable
import pathlib
import sqlite3
import time

from tests import harness
from tests.contract import bed as beds


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def states(worker: harness.Harness) -> dict[str, str]:
    report = worker.api.audit({}, worker.name)
    return {one.attachment_id: one.state for one in report.attachments}


def findings(worker: harness.Harness) -> list[str]:
    """Kind, and what without its number."""
    report = worker.api.audit({}, worker.name)
    return sorted(
        f'{one.kind} {one.what.split()[0]}' for one in report.findings
    )


def test_all_is_well(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a disk, and a map on a target that has another volume, too
    disk = bed.create_volume()
    paths = bed.create_volume(portals=2)
    neighbour = bed.create_volume(on=paths)
    assert worker.attach(disk).status == 'attached'
    assert worker.attach(neighbour, multipath=True).status == 'attached'
    assert worker.attach(paths, multipath=True, min_paths=2).error is None
    before = bed.snapshot()
    # Then there is nothing to tell, and nothing was done for it
    until(lambda: set(states(worker).values()) == {'ok'})
    assert len(states(worker)) == 3
    assert findings(worker) == []
    assert bed.snapshot() == before
    for volume in (disk, neighbour, paths):
        assert worker.detach(volume.name).status == 'detached'
    report = worker.api.audit({}, worker.name)
    assert report.as_dict() == {'attachments': [], 'findings': []}


def test_a_path_that_is_dead(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a map with two paths, settled
    volume = bed.create_volume(portals=2)
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.status == 'attached', result.as_dict()
    until(lambda: states(worker) == {volume.name: 'ok'})
    # When one dies
    bed.kill_path(volume, volume.portals[1])
    # Then the attachment is degraded, and its session is stale
    until(lambda: states(worker) == {volume.name: 'degraded'})
    assert 'stale session' in findings(worker)
    bed.restore_path(volume, volume.portals[1])
    until(lambda: states(worker) == {volume.name: 'ok'})
    assert worker.detach(volume.name).status == 'detached'


def test_a_device_that_is_gone(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    assert worker.attach(volume).status == 'attached'
    bed.drop_session(volume, volume.portals[0])
    report = worker.api.audit({}, worker.name)
    [attachment] = report.attachments
    assert attachment.state == 'missing'
    assert 'has no device' in attachment.detail
    assert worker.detach(volume.name).status == 'detached'


def test_what_somebody_else_has_attached(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a session and a map that another program has made
    volume = bed.create_volume(portals=2)
    with harness.Harness(bed) as other:
        result = other.attach(volume, multipath=True, min_paths=2)
        assert result.device.multipath_id, result.as_dict()
        # Then they are foreign, to the last part
        expected = ['foreign map', 'foreign session', 'foreign session']
        assert findings(worker) == expected
        assert states(worker) == {}
        # And remain so when one of ours shares them
        assert worker.attach(volume, multipath=True).status == 'attached'
        assert findings(worker) == ['foreign session', 'foreign session']
        assert states(worker) == {volume.name: 'ok'}
        assert worker.detach(volume.name).status == 'detached'
        assert other.detach(volume.name).status == 'detached'
    assert findings(worker) == []


def test_what_no_attachment_has(bed: beds.Bed, tmp_path: pathlib.Path) -> None:
    # Given a journal that has lost an attachment
    volume = bed.create_volume()
    with harness.Harness(bed, state_path=tmp_path) as worker:
        assert worker.attach(volume).status == 'attached'
    journal = sqlite3.connect(tmp_path / 'journal.sqlite')
    journal.executescript('DELETE FROM attachments; DELETE FROM holdings;')
    journal.close()
    with harness.Harness(bed, state_path=tmp_path) as worker:
        # Then what is left of it is an orphan: we know that we made it
        assert findings(worker) == ['orphan device', 'orphan session']
        assert states(worker) == {}
        # And it can be detached by what it is connected to
        gone = harness.detach_request(
            None, connection_info=volume.connection_info()
        )
        result = worker.api.detach_volume({}, worker.name, gone)
        assert result.status == 'detached', result.as_dict()
        assert findings(worker) == []
