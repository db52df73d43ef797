# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each step of an attach, in a real run of the flow."""

import threading
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.connectors import base
from attachworker.host import multipath
from attachworker.worker import engine
from tests.unit.tasks import runs

OTHER = '36001406' + 25 * '0'
CONNECT = f'ConnectTarget:{runs.ONE}'
CONNECT_TWO = f'ConnectTarget:{runs.TWO}'


def unreachable(target: base.Target) -> exception.AttachWorkerError:
    return exception.TargetUnreachable(portal=target.portal, reason='dead')


def attached(run: runs.Watched) -> objects.DeviceInfo:
    outcome = runs.drive(flows.attach(run))
    assert outcome.error is None, outcome
    return outcome.results['device']


def failed(run: runs.Watched) -> engine.Outcome:
    outcome = runs.drive(flows.attach(run))
    assert outcome.error is not None
    return outcome


# -- GetConnector


def test_a_protocol_without_connector_touches_nothing() -> None:
    connector = runs.FakeConnector()
    run = runs.make(connector=connector)

    def get(protocol: str) -> Any:
        raise exception.UnsupportedProtocol(protocol=protocol, reason='no')

    run.get_connector = get
    outcome = failed(run)
    assert isinstance(outcome.error, exception.UnsupportedProtocol)
    assert outcome.step == 'GetConnector'
    assert connector.began == []


def test_a_map_that_must_be_is_refused_at_once() -> None:
    connector = runs.FakeConnector()
    run = runs.make(
        connector=connector, multipath=True, enforce_multipath=True
    )
    run.host.multipath.up = False
    outcome = failed(run)
    assert isinstance(outcome.error, exception.MultipathFailed)
    assert outcome.step == 'GetConnector'
    assert connector.began == []


# -- ConnectTarget and its undo


def test_one_target() -> None:
    connector = runs.FakeConnector()
    run = runs.make(runs.ONE, connector=connector)
    device = attached(run)
    assert device.as_dict() == {
        'type': 'block',
        'path': '/dev/sd1',
        'scsi_wwn': runs.GOOD,
        'multipath_id': None,
        'size': 4096,
        'degraded': False,
        'paths': [
            {
                'device': 'sd1',
                'portal': runs.ONE.portal,
                'target': runs.ONE.name,
                'lun': 0,
                'state': 'connected',
                'error': None,
            }
        ],
    }
    assert connector.disconnected == []
    assert run.leftovers == run.warnings == []


def test_a_dead_portal_of_two_shows_as_failed() -> None:
    # Given a dead portal, and one that answers a little later
    connector = runs.FakeConnector()
    connector.errors[runs.ONE] = unreachable(runs.ONE)
    connector.during[runs.TWO] = threading.Event()
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    run.hooks['after', CONNECT] = connector.during[runs.TWO].set
    # When both are tried
    device = attached(run)
    # Then the good one is used, and the other is told with its error
    assert [(one.portal, one.state, one.error) for one in device.paths] == [
        (runs.ONE.portal, 'failed', 'target_unreachable'),
        (runs.TWO.portal, 'connected', None),
    ]
    assert device.path == '/dev/sd2'
    # And its failure has undone nothing of the good one
    assert connector.disconnected == []


def test_no_portal_answers() -> None:
    connector = runs.FakeConnector()
    for target in (runs.ONE, runs.TWO):
        connector.errors[target] = unreachable(target)
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    outcome = failed(run)
    # The cause is the first target's, and the step is its own
    assert outcome.error is connector.errors[runs.ONE]
    assert outcome.error.step == CONNECT
    # And all are put back
    assert sorted(connector.disconnected) == [runs.ONE, runs.TWO]


@pytest.mark.parametrize('step', ['GatherPaths', 'FindWwn', 'VerifyDevice'])
def test_every_later_failure_undoes_all_targets(step: str) -> None:
    connector = runs.FakeConnector()
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    cause = LookupError('the cause')
    run.fails_after(step, cause)
    outcome = failed(run)
    assert (outcome.error, outcome.step) == (cause, step)
    assert connector.connected == {}
    assert set(connector.disconnected) == {runs.ONE, runs.TWO}


def test_an_attempt_that_has_changed_nothing_delays_no_undo() -> None:
    # Given a good path, and a portal that does not answer
    connector = runs.FakeConnector()
    answer = connector.before[runs.TWO] = threading.Event()
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    # When the attach fails later
    run.fails_after('FindWwn', LookupError('the cause'))
    failed(run)
    # Then both are put back
    assert run.leftovers == []
    assert len(connector.disconnected) == 2
    # And if it does answer at last, then nothing is changed
    answer.set()
    outcome = run.attempts.wait(runs.TWO, runs.make(runs.TWO).deadline)
    assert outcome.path is None
    assert connector.connected == {}


def test_an_attempt_that_cannot_be_stopped_is_left_over() -> None:
    # Given a target that is being logged in to, without end
    connector = runs.FakeConnector()
    connector.during[runs.TWO] = threading.Event()
    begun = connector.begun[runs.TWO]
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    run.hooks['before', 'GatherPaths'] = lambda: begun.wait(runs.PATIENCE)
    # When the attach fails, and there is no time to wait for it
    run.fails_after('FindWwn', LookupError('the cause'))
    run.undo_deadline = deadlines.Deadline.after(-1.0)
    failed(run)
    # Then nobody touches what somebody is working on, and it is told
    assert run.leftovers == [f'connecting {runs.TWO} has not returned']
    assert connector.disconnected == [runs.ONE]
    connector.during[runs.TWO].set()


def test_what_cannot_be_put_back_is_left_over() -> None:
    connector = runs.FakeConnector()
    connector.left[runs.ONE] = ['session 5', 'device sda']
    run = runs.make(runs.ONE, connector=connector)
    run.fails_after('FindWwn', LookupError('the cause'))
    outcome = failed(run)
    assert outcome.step == 'FindWwn'
    assert run.leftovers == ['session 5', 'device sda']


def test_nothing_is_undone_that_was_there_before() -> None:
    connector = runs.FakeConnector()
    run = runs.make(runs.ONE, connector=connector, kept=frozenset({runs.ONE}))
    run.fails_after('FindWwn', LookupError('the cause'))
    failed(run)
    assert connector.disconnected == []
    assert run.leftovers == []


# -- GatherPaths


def test_fewer_paths_than_wanted() -> None:
    connector = runs.FakeConnector()
    connector.errors[runs.TWO] = unreachable(runs.TWO)
    run = runs.make(
        runs.ONE, runs.TWO, connector=connector, multipath=True, min_paths=2
    )
    outcome = failed(run)
    assert isinstance(outcome.error, exception.NotEnoughPaths)
    assert 'Only 1 of the 2' in str(outcome.error)
    assert outcome.step == 'GatherPaths'
    assert connector.connected == {}


# -- FindWwn


@pytest.mark.parametrize(
    'expected',
    [
        None,
        runs.GOOD,
        f'naa.{runs.GOOD[1:]}',
        f'0x{runs.GOOD[1:]}',
        f'NAA.{runs.GOOD[1:].upper()}',
        f'{runs.GOOD[1:9]}-{runs.GOOD[9:]}',
    ],
)
def test_the_right_volume_however_it_is_spelled(expected: str | None) -> None:
    device = attached(runs.make(expected_wwn=expected))
    assert device.scsi_wwn == runs.GOOD


def test_another_volume_than_expected() -> None:
    connector = runs.FakeConnector()
    run = runs.make(connector=connector, expected_wwn=OTHER)
    outcome = failed(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert outcome.step == 'FindWwn'
    for part in ('sd1', runs.GOOD, OTHER):
        assert part in str(outcome.error)


def test_paths_that_disagree() -> None:
    """Two backends with the same name are not one volume."""
    connector = runs.FakeConnector()
    connector.wwns['sd2'] = OTHER
    run = runs.make(
        runs.ONE, runs.TWO, connector=connector, multipath=True, min_paths=2
    )
    outcome = failed(run)
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert connector.connected == {}


def test_of_two_devices_where_one_is_to_be_the_late_one_is_taken_away() -> (
    None
):
    # Given a portal whose device has not come when its turn was over
    connector = runs.FakeConnector()
    fetch = connector.after_turn[runs.ONE] = threading.Event()
    run = runs.make(runs.ONE, runs.TWO, connector=connector, turn=0.1)
    took_turn = connector.took_turn[runs.ONE]
    run.hooks['before', CONNECT_TWO] = lambda: took_turn.wait(runs.PATIENCE)
    left = multipath.Map('dm-0', runs.GOOD, ('sd2',))

    def come() -> None:
        fetch.set()
        run.attempts.wait_for_all(run.deadline)
        run.host.multipath.map = left

    # When it comes after all, and multipathd has made a map of both
    run.hooks['before', 'FindWwn'] = come
    device = attached(run)
    # Then it is taken away again, and the map with it
    assert device.path == '/dev/sd2'
    assert connector.removed == [runs.ONE]
    assert run.host.multipath.map is None
    assert run.leftovers == []


# -- VerifyDevice


@pytest.mark.parametrize(
    ('size', 'error'),
    [(None, exception.DeviceNotFound), (0, exception.HostToolFailed)],
    ids=['gone', 'unavailable'],
)
def test_a_device_without_size(size: int | None, error: type) -> None:
    run = runs.make()
    run.host.block.bytes = size
    outcome = failed(run)
    assert isinstance(outcome.error, error)
    assert outcome.step == 'VerifyDevice'


def test_a_device_that_cannot_be_read() -> None:
    run = runs.make()
    run.host.block.broken['sd1'] = OSError(5, 'Input/output error')
    outcome = failed(run)
    assert isinstance(outcome.error, exception.HostToolFailed)
    assert 'Input/output error' in str(outcome.error)


def test_a_device_that_cannot_be_written_to() -> None:
    run = runs.make()
    run.host.block.protected.add('sd1')
    attached(run)
    assert run.warnings == ['sd1 is read-only on the storage']
