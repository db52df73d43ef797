# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Extending: what is rescanned, resized and compared."""

import pytest

from attachworker import exception
from attachworker import flows
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.worker import engine
from tests.unit.tasks import runs

OLD, NEW = 4096, 8192


class GrowingMap(runs.FakeMultipath):
    def __init__(self, block: runs.FakeBlock) -> None:
        super().__init__()
        self._block = block
        self.dropped: list[str] = []

    def drop(self, disk: str, deadline: object) -> None:
        self.dropped.append(disk)

    def resize(self, found: multipath.Map, deadline: object) -> None:
        if self.stays:
            raise OSError(16, 'multipathd: fail')
        self._block.sizes[found.name] = NEW


class Connector(runs.FakeConnector):
    """Its disks have grown, but for those that are told not to.

    :ivar same: disks that keep their size
    """

    block: runs.FakeBlock

    def __init__(self) -> None:
        super().__init__()
        self.same: set[str] = set()

    def paths(self, target: connectors.Target) -> list[connectors.Path]:
        disk = f'sd{target.portal[8]}'
        return [connectors.Path(target, disk, disk)]

    def rescan(self, path: connectors.Path, deadline: object) -> None:
        super().rescan(path, deadline)
        if path.disk not in self.same:
            self.block.sizes[path.disk] = NEW


def make(
    *targets: connectors.Target, under: tuple[str, ...] = (), **values: object
) -> runs.Watched:
    connector = Connector()
    run = runs.make(*targets, connector=connector, **values)
    connector.block = run.host.block
    run.host.multipath = GrowingMap(run.host.block)
    run.host.block.bytes = OLD
    if under:
        run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, under)
    return run


def connector_of(run: runs.Watched) -> Connector:
    found = run.get_connector('iscsi')
    assert isinstance(found, Connector)
    return found


def drive(run: runs.Watched) -> engine.Outcome:
    return runs.drive(flows.extend(run))


def test_a_disk() -> None:
    run = make(runs.ONE, expected_size=NEW)
    outcome = drive(run)
    assert outcome.error is None
    assert (outcome.results['old_size'], outcome.results['size']) == (OLD, NEW)
    assert connector_of(run).rescanned == ['sd1']


def test_a_map() -> None:
    run = make(runs.ONE, runs.TWO, under=('sd1', 'sd2'))
    outcome = drive(run)
    assert outcome.error is None
    assert (outcome.results['old_size'], outcome.results['size']) == (OLD, NEW)
    assert connector_of(run).rescanned == ['sd1', 'sd2']
    assert run.host.multipath.dropped == run.warnings == []


def test_a_dead_path_leaves_the_map() -> None:
    """A path that keeps its old size would keep the map from growing."""
    run = make(runs.ONE, runs.TWO, under=('sd1', 'sd2'))
    run.host.multipath.alive = ['sd2']
    outcome = drive(run)
    assert outcome.results['size'] == NEW
    assert connector_of(run).rescanned == ['sd2']
    assert run.host.multipath.dropped == ['sd1']
    assert [warning.partition(';')[0] for warning in run.warnings] == [
        'sd1 does not answer and keeps its old size',
        'sd1 has left dm-0',
    ]


def test_a_dead_path_stays_where_nothing_has_grown() -> None:
    run = make(runs.ONE, runs.TWO, under=('sd1', 'sd2'))
    run.host.multipath.alive = ['sd2']
    run.host.block.bytes = NEW
    outcome = drive(run)
    assert outcome.results['size'] == NEW
    assert run.host.multipath.dropped == []


def test_no_path_works() -> None:
    run = make(runs.ONE)
    run.get_connector('iscsi').dead.add('sd1')
    outcome = drive(run)
    assert isinstance(outcome.error, exception.ExtendFailed)
    assert outcome.step == 'FindLivePaths'


def test_another_volume_by_now() -> None:
    run = make(runs.ONE, expected_wwn='36001405' + 25 * '1')
    outcome = drive(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert connector_of(run).rescanned == []


def test_a_disk_that_cannot_be_rescanned() -> None:
    run = make(runs.ONE)
    connector_of(run).stuck.add('sd1')
    outcome = drive(run)
    assert isinstance(outcome.error, exception.ExtendFailed)
    assert outcome.step == 'RescanPaths'


def test_paths_that_differ() -> None:
    run = make(runs.ONE, runs.TWO, under=('sd1', 'sd2'))
    connector_of(run).same.add('sd2')
    outcome = drive(run)
    assert isinstance(outcome.error, exception.ExtendFailed)
    assert outcome.step == 'ResizeMap'
    for part in (f'sd1 has {NEW}', f'sd2 has {OLD}'):
        assert part in str(outcome.error)


def test_a_map_that_is_not_resized() -> None:
    run = make(runs.ONE, under=('sd1',))
    run.host.multipath.stays = True
    outcome = drive(run)
    assert isinstance(outcome.error, exception.ExtendFailed)
    assert outcome.step == 'ResizeMap'


@pytest.mark.parametrize('wanted', [NEW + 1, 10 * NEW])
def test_less_than_was_expected(wanted: int) -> None:
    outcome = drive(make(runs.ONE, expected_size=wanted))
    assert isinstance(outcome.error, exception.ExtendFailed)
    assert outcome.step == 'VerifySize'
    assert str(wanted) in str(outcome.error)
    assert 'on the storage first' in str(outcome.error)
