# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Maps: made at an attach, removed at a detach."""

import dataclasses
import threading

import pytest

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.worker import engine
from attachworker.worker import late_paths
from tests.unit.tasks import runs

OTHER = '36001405' + 25 * '1'


def make(*targets: connectors.Target, **values: object) -> runs.Watched:
    targets = targets or (runs.ONE, runs.TWO)
    return runs.make(*targets, multipath=True, **values)


def attached(run: runs.Watched) -> objects.DeviceInfo:
    outcome = runs.drive(flows.attach(run))
    assert outcome.error is None, outcome
    return outcome.results['device']


def failed(run: runs.Watched) -> engine.Outcome:
    outcome = runs.drive(flows.attach(run))
    assert outcome.error is not None
    return outcome


# -- attach


def test_two_paths_make_a_map() -> None:
    run = make(min_paths=2)
    device = attached(run)
    assert (device.path, device.multipath_id, device.degraded) == (
        '/dev/dm-0',
        runs.GOOD,
        False,
    )
    assert [(one.device, one.state) for one in device.paths] == [
        ('sd1', 'connected'),
        ('sd2', 'connected'),
    ]
    # two paths need no line in the list of WWIDs
    assert run.host.multipath.remembered == [runs.GOOD]
    assert run.warnings == []


def test_one_path_under_a_map_is_degraded() -> None:
    connector = runs.FakeConnector()
    connector.errors[runs.TWO] = exception.TargetUnreachable(
        portal=runs.TWO.portal, reason='dead'
    )
    run = make(connector=connector)
    device = attached(run)
    assert device.degraded is True
    assert [(one.state, one.error) for one in device.paths] == [
        ('connected', None),
        ('failed', 'target_unreachable'),
    ]
    assert run.host.multipath.remembered == [runs.GOOD]


def test_a_slow_path_costs_the_grace_and_shows_as_connecting() -> None:
    connector = runs.FakeConnector()
    answer = connector.during[runs.TWO] = threading.Event()
    run = make(connector=connector, path_grace=0.01)
    device = attached(run)
    answer.set()
    assert [one.state for one in device.paths] == ['connected', 'connecting']
    assert device.degraded is True


def test_without_multipathd_there_is_one_honest_path() -> None:
    run = make()
    run.host.multipath.up = False
    device = attached(run)
    assert device.path in ('/dev/sd1', '/dev/sd2')
    assert device.multipath_id is None
    assert device.degraded is True
    (warning,) = run.warnings
    assert 'multipathd is not running' in warning


def test_a_map_that_is_not_made() -> None:
    run = make()
    run.host.multipath.makes = False
    assert attached(run).degraded is True
    (warning,) = run.warnings
    assert 'blacklist' in warning


def test_a_map_that_must_be_and_is_not_made() -> None:
    connector = runs.FakeConnector()
    run = make(connector=connector, enforce_multipath=True)
    run.host.multipath.makes = False
    outcome = failed(run)
    assert isinstance(outcome.error, exception.MultipathFailed)
    assert outcome.step == 'MapMultipath'
    assert connector.connected == {}


def test_a_map_that_does_not_become_ready() -> None:
    """The paths are held by it, and of no use on their own."""
    run = make()
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ())
    run.host.multipath.ready = False
    outcome = failed(run)
    assert isinstance(outcome.error, exception.MultipathFailed)
    assert 'dm-0 is suspended, read-only' in str(outcome.error)


def test_two_paths_that_must_be_and_no_map() -> None:
    run = make(min_paths=2)
    run.host.multipath.makes = False
    assert isinstance(failed(run).error, exception.NotEnoughPaths)


def test_a_dead_path_is_not_the_volume_s() -> None:
    """One path died before it could say who it is; the other one is used."""
    connector = runs.FakeConnector()
    connector.dead.add('sd1')
    device = attached(make(connector=connector, min_paths=1))
    assert [(one.state, one.error) for one in device.paths] == [
        ('failed', 'device_not_found'),
        ('connected', None),
    ]


def test_a_dead_path_is_not_the_volume_s_while_another_comes() -> None:
    # Given a path that is dead, and one that comes after that was seen
    connector = runs.FakeConnector()
    connector.dead.add('sd1')
    connector.before[runs.TWO] = threading.Event()
    coming = threading.Timer(0.2, connector.before[runs.TWO].set)
    coming.start()
    # Then the attach waits for it, though one path is enough
    device = attached(make(connector=connector, min_paths=1))
    coming.join()
    assert [one.state for one in device.paths] == ['failed', 'connected']


def test_a_map_with_a_stranger_s_path() -> None:
    connector = runs.FakeConnector()
    run = make(connector=connector)
    run.host.multipath.also = ('sdz',)
    stranger = runs.ONE._replace(name='iqn.2026-01.example:stranger')
    connector.strangers['sdz'] = connectors.Path(stranger, 'sdz', 'address')
    outcome = failed(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert 'sdz' in str(outcome.error)
    assert connector.connected == {}


def test_a_path_that_another_attachment_takes_away_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a map with a disk in it that goes when it is looked at
    connector = runs.FakeConnector()
    run = make(connector=connector)
    run.host.multipath.also = ('sdz',)
    looked = []

    def path_of(disk: str) -> None:
        looked.append(disk)
        held = run.host.multipath.map
        assert held is not None
        run.host.multipath.map = dataclasses.replace(
            held, disks=('sd1', 'sd2')
        )

    monkeypatch.setattr(connector, 'path_of', path_of)
    # Then what it was is no reason not to take the map
    assert attached(run).path == '/dev/dm-0'
    assert 'sdz' in looked


@pytest.mark.parametrize('how', ['raw', 'map', 'raw, beside a map'])
def test_a_disk_below_the_live_map_of_another_volume(how: str) -> None:
    # Given a LUN that was given to another volume below a map
    run = runs.make(runs.ONE, runs.TWO, multipath=how == 'map')
    if how == 'raw, beside a map':
        run.holdings.other_attachments = ['another']
        run.holdings.others_have_map = True
    wwid = '36001405' + 25 * 'f'
    run.host.multipath.map = multipath.Map('dm-0', wwid, ('sd1', 'sd2'))
    run.host.multipath.makes = False
    # Then neither the map is handed out nor the disk
    outcome = failed(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert wwid in str(outcome.error)
    assert run.host.multipath.map is not None


@pytest.mark.parametrize(
    'wwid',
    [
        '0x6001405000000000',
        '6001405' + 25 * '0',
        '1LIO-ORG_FILEIO:unit_one',
    ],
    ids=['ID_WWN', 'ID_SERIAL_SHORT', 'T10 vendor id'],
)
def test_what_multipathd_may_call_the_volume(wwid: str) -> None:
    run = make()
    run.host.scsi.serials = {'sd1': 'Unit One', 'sd2': 'Unit One'}
    run.host.multipath.map = multipath.Map('dm-0', wwid, ('sd1', 'sd2'))
    run.host.multipath.makes = False
    assert attached(run).multipath_id == wwid


def test_a_late_path_joins_a_map_of_another_name() -> None:
    # Given a map that multipathd calls otherwise, and a path that is late
    connector = runs.FakeConnector()
    connector.during[runs.TWO] = threading.Event()
    run = make(connector=connector, path_grace=0.0)
    run.host.scsi.serials = {'sd1': 'Unit One', 'sd2': 'Unit One'}
    run.host.multipath.map = multipath.Map('dm-0', 'unit_one', ('sd1', 'sd2'))
    run.host.multipath.makes = False
    device = attached(run)
    assert device.degraded
    # When the path comes
    connector.during[runs.TWO].set()
    now = late_paths.join(run, device)
    # Then it is a path of the volume, which keeps its identifier
    assert not now.degraded
    assert now.scsi_wwn == runs.GOOD
    assert connector.disconnected == []


def test_a_path_that_joins_the_map_late_does_not_fail_the_attach() -> None:
    # Given a multipathd that has put the second path into the map only
    run = make(min_paths=1)
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ('sd2',))
    run.host.multipath.makes = False
    # Then the caller gets the map
    device = attached(run)
    assert device.path == '/dev/dm-0'


def test_paths_of_different_size_or_serial_number() -> None:
    for change in ('size', 'serial'):
        run = make(min_paths=2)
        run.host.scsi.serials = {'sd1': 'one', 'sd2': 'one'}
        if change == 'size':
            run.host.block.sizes['sd2'] = 8192
        else:
            run.host.scsi.serials['sd2'] = 'two'
        outcome = failed(run)
        assert isinstance(outcome.error, exception.IdentityMismatch)
        assert change in str(outcome.error)


def test_a_map_of_ours_is_undone() -> None:
    run = make(min_paths=2)
    run.host.block.broken['dm-0'] = OSError(5, 'Input/output error')
    failed(run)
    assert run.host.multipath.map is None


def test_a_map_that_was_there_is_not_undone() -> None:
    run = make(min_paths=2)
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ())
    run.host.block.broken['dm-0'] = OSError(5, 'Input/output error')
    failed(run)
    assert run.host.multipath.map is not None


# -- detach


def present(**values: object) -> runs.Watched:
    """A host with a map over two paths."""
    connector = runs.FakeConnector()
    run = make(connector=connector, **values)
    for target in run.targets:
        interest = connectors.Interest()
        claim = connectors.Claim(target, run.holdings, run.deadline)
        connector.connect(run.info, claim, interest)
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ('sd1', 'sd2'))
    return run


def detached(run: runs.Watched) -> engine.Outcome:
    return runs.drive(flows.detach(run))


def test_the_map_goes_before_its_paths() -> None:
    run = present()
    assert detached(run).error is None
    assert run.host.multipath.map is None
    # single paths may be dead
    assert run.host.block.flushed == ['dm-0']
    assert run.host.multipath.forgotten == [runs.GOOD]


def test_a_map_that_has_lost_its_paths_is_found_by_its_wwid() -> None:
    run = make(expected_wwn=runs.GOOD)
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ())
    run.host.multipath.alive = []
    assert detached(run).error is None
    assert run.host.multipath.map is None
    # there is nothing that it could be flushed to, and nothing hangs
    assert run.host.block.flushed == []
    assert run.host.multipath.queueing is False
    (warning,) = run.warnings
    assert 'what it still held is lost' in warning


def test_a_line_that_outlived_its_map_is_forgotten() -> None:
    run = make(expected_wwn=runs.GOOD, map_wwid=runs.GOOD)
    assert detached(run).error is None
    assert run.host.multipath.forgotten == [runs.GOOD]


def test_all_paths_down() -> None:
    """A flush would not end as long as the map queues."""
    run = present()
    run.host.multipath.alive = []
    outcome = detached(run)
    assert isinstance(outcome.error, exception.FlushFailed)
    assert run.host.multipath.map is not None
    assert run.host.multipath.queueing is None


def test_all_paths_down_and_forced() -> None:
    run = present(force=True)
    run.host.multipath.alive = []
    assert detached(run).error is None
    assert run.host.multipath.queueing is False
    assert run.host.multipath.map is None


def test_a_map_that_cannot_be_removed_keeps_its_paths() -> None:
    run = present()
    run.host.multipath.stays = True
    outcome = detached(run)
    assert isinstance(outcome.error, exception.MultipathFailed)
    assert outcome.step == 'RemoveMap'
    assert len(run.get_connector('iscsi').connected) == 2


def test_a_map_that_survives_force_is_left_over() -> None:
    run = present(force=True)
    run.host.multipath.stays = True
    run.host.block.busy['dm-0'] = ['process 1 (qemu)']
    outcome = detached(run)
    assert outcome.step == 'VerifyGone'
    assert run.leftovers == [f'map dm-0 ({runs.GOOD})']


def test_a_map_that_another_attachment_uses_stays() -> None:
    run = present()
    run.holdings.others.update(run.targets)
    assert detached(run).error is None
    assert run.host.multipath.map is not None
    assert run.host.multipath.forgotten == []


def test_a_map_with_strangers_is_not_removed() -> None:
    run = present(expected_wwn=runs.GOOD)
    run.host.multipath.map = multipath.Map(
        'dm-0', runs.GOOD, ('sd1', 'sd2', 'sdz')
    )
    assert detached(run).error is None
    assert run.host.multipath.map is not None


def test_a_device_that_is_another_volume_by_now() -> None:
    run = present(expected_wwn=runs.GOOD)
    run.get_connector('iscsi').cached.update(sd1=OTHER, sd2=OTHER)
    outcome = detached(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert OTHER in str(outcome.error)
    assert runs.GOOD in str(outcome.error)
    assert len(run.get_connector('iscsi').connected) == 2


def test_another_volume_by_now_is_left_alone_by_force() -> None:
    run = present(expected_wwn=runs.GOOD, force=True)
    run.host.multipath.map = None
    run.get_connector('iscsi').cached.update(sd1=OTHER, sd2=OTHER)
    assert detached(run).error is None
    connector = run.get_connector('iscsi')
    assert len(connector.connected) == 2
    assert connector.removed == []
    assert sorted(run.holdings.released) == sorted(run.targets)
    assert all('another volume' in one for one in run.warnings)
