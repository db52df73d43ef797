# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each step of a detach, in a real run of the flow."""

import pytest

from attachworker import exception
from attachworker import flows
from attachworker.connectors import base as connectors
from attachworker.worker import engine
from tests.unit.tasks import runs


def present(
    *targets: object, **values: object
) -> tuple[runs.FakeConnector, runs.Watched]:
    """A host that has the devices of these targets."""
    connector = runs.FakeConnector()
    run = runs.make(*targets, connector=connector, **values)
    for target in run.targets:
        interest = connectors.Interest()
        claim = connectors.Claim(target, run.holdings, run.deadline)
        connector.connect(run.info, claim, interest)
    return connector, run


def drive(run: runs.Watched) -> engine.Outcome:
    return runs.drive(flows.detach(run))


def test_all_targets_go() -> None:
    connector, run = present(runs.ONE, runs.TWO)
    outcome = drive(run)
    assert outcome.error is None
    assert connector.connected == {}
    # what somebody else has found or made goes too
    assert sorted(connector.removed) == [runs.ONE, runs.TWO]
    # and right before each goes, it is looked at again
    assert sorted(run.host.block.looks) == [['sd1'], ['sd1', 'sd2'], ['sd2']]
    assert run.host.block.flushed == ['sd1', 'sd2']
    assert run.warnings == run.leftovers == []


def test_what_is_gone_already_is_fine() -> None:
    run = runs.make(runs.ONE)
    outcome = drive(run)
    assert outcome.error is None
    assert run.host.block.flushed == []


def test_a_device_that_another_attachment_uses_stays() -> None:
    # Given a device that is shared, and in use by the other
    connector, run = present(runs.ONE)
    run.holdings.others.add(runs.ONE)
    run.host.block.busy['sd1'] = ['process 1 (qemu)']
    connector.left[runs.ONE] = []
    # When one detaches it
    outcome = drive(run)
    # Then that is no obstacle, nothing is flushed, and it says so
    assert outcome.error is None
    assert run.host.block.flushed == []
    (warning,) = run.warnings
    assert 'another attachment' in warning


def test_a_device_in_use_stays() -> None:
    connector, run = present(runs.ONE, runs.TWO)
    run.host.block.busy['sd2'] = ['mount /srv', 'process 1 (qemu)']
    outcome = drive(run)
    assert isinstance(outcome.error, exception.DeviceInUse)
    assert outcome.step == 'CheckUnused'
    assert 'mount /srv, process 1 (qemu)' in str(outcome.error)
    assert connector.disconnected == []
    assert run.host.block.flushed == []


def test_a_device_in_use_goes_by_force() -> None:
    connector, run = present(runs.ONE, force=True)
    run.host.block.busy['sd1'] = ['process 1 (qemu)']
    outcome = drive(run)
    assert outcome.error is None
    assert connector.connected == {}
    assert run.warnings == ['sd1 was in use by process 1 (qemu)']


def test_data_that_cannot_be_written_stops_it() -> None:
    connector, run = present(runs.ONE)
    run.host.block.broken['sd1'] = OSError(5, 'Input/output error')
    outcome = drive(run)
    assert isinstance(outcome.error, exception.FlushFailed)
    assert outcome.step == 'FlushDevice'
    assert connector.disconnected == []


def test_data_that_cannot_be_written_is_lost_by_force() -> None:
    connector, run = present(runs.ONE, runs.TWO, force=True)
    run.host.block.broken['sd1'] = OSError(5, 'Input/output error')
    outcome = drive(run)
    assert outcome.error is None
    assert connector.connected == {}
    assert run.host.block.flushed == ['sd2']
    (warning,) = run.warnings
    assert 'may be lost' in warning


def test_a_device_that_vanishes_before_its_flush() -> None:
    _, run = present(runs.ONE)
    run.host.block.broken['sd1'] = FileNotFoundError(2, 'No such file')
    run.host.block.bytes = None
    assert drive(run).error is None
    assert run.warnings == []


def test_a_device_whose_node_is_missing_is_not_flushed() -> None:
    # Given a device that the kernel has, and udev has no node for
    connector, run = present(runs.ONE)
    run.host.block.broken['sd1'] = FileNotFoundError(2, 'No such file')
    # Then what it holds may not be written, and it stays
    assert isinstance(drive(run).error, exception.FlushFailed)
    assert list(connector.connected) == [runs.ONE]


def test_what_is_left_is_told_once() -> None:
    # Given a device that does not go
    connector, run = present(runs.ONE, runs.TWO)
    connector.left[runs.ONE] = ['device sd1', 'session 5']
    outcome = drive(run)
    # Then the last step says what is left, and the other one is gone
    assert isinstance(outcome.error, exception.HostToolFailed)
    assert outcome.step == 'VerifyGone'
    assert run.leftovers == ['device sd1', 'session 5']
    assert list(connector.connected) == [runs.ONE]
    # And the next attempt goes on from there
    del connector.left[runs.ONE]
    run = runs.make(runs.ONE, runs.TWO, connector=connector)
    assert drive(run).error is None


def test_a_device_that_says_it_is_gone_and_is_not() -> None:
    connector, run = present(runs.ONE)
    connector.left[runs.ONE] = []
    outcome = drive(run)
    assert outcome.step == 'VerifyGone'
    assert run.leftovers == ['device sd1']


@pytest.mark.parametrize(
    'step', ['FindPaths', 'CheckUnused', 'FlushDevice', 'VerifyGone']
)
def test_nothing_comes_back(step: str) -> None:
    """A detach is finished, not undone."""
    connector, run = present(runs.ONE)
    run.fails_after(step, LookupError('the cause'))
    outcome = drive(run)
    assert outcome.step == step
    assert connector.began == [runs.ONE]  # by the test itself
    assert run.leftovers == []


def test_what_the_host_itself_needs_stays_whatever_is_asked() -> None:
    connector, run = present(runs.ONE, force=True)
    run.host.block.own['sd1'] = ['/var']
    outcome = drive(run)
    assert isinstance(outcome.error, exception.DeviceOfHost)
    assert 'this host: /var' in str(outcome.error)
    assert connector.removed == []
