# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What an attach does with what a discovery says, or does not say."""

import pytest

from attachworker import exception
from attachworker import flows
from tests.unit.objects import shapes
from tests.unit.tasks import runs

DEAD = exception.TargetUnreachable(portal='192.0.2.5:3260', reason='dead')


def test_what_was_found_is_used() -> None:
    connector = runs.FakeConnector()
    connector.known = [runs.ONE, runs.TWO]
    run = runs.make(connector=connector, multipath=True)
    outcome = runs.drive(flows.discover(run))
    assert outcome.error is None
    assert outcome.results['targets'] == [runs.ONE, runs.TWO]
    assert run.warnings == []


@pytest.mark.parametrize('error', [DEAD, OSError(5, 'broken')])
def test_the_named_target_has_to_do(error: Exception) -> None:
    connector = runs.FakeConnector()
    connector.discovery = error
    run = runs.make(connector=connector, multipath=True)
    outcome = runs.drive(flows.discover(run))
    assert outcome.error is None
    assert [one.name for one in outcome.results['targets']] == [shapes.IQN]
    (warning,) = run.warnings
    assert 'discovery' in warning


def test_several_paths_are_a_must() -> None:
    connector = runs.FakeConnector()
    connector.discovery = DEAD
    run = runs.make(
        connector=connector, multipath=True, enforce_multipath=True
    )
    outcome = runs.drive(flows.discover(run))
    assert outcome.error is DEAD
    assert outcome.step == 'DiscoverTargets'


def test_the_deadline_passes_meanwhile() -> None:
    connector = runs.FakeConnector()
    connector.discovery = DEAD
    run = runs.make(connector=connector, multipath=True, seconds=0)
    outcome = runs.drive(flows.discover(run))
    assert isinstance(outcome.error, exception.DeadlineExceeded)
