# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The states of the flow that comes before some attaches."""

from attachworker import exception
from attachworker.flows import discover
from tests.unit.flows import capture
from tests.unit.tasks import runs


def test_success() -> None:
    assert capture.states(discover.build(runs.make())) == [
        'discover.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'DiscoverTargets.t RUNNING',
        'DiscoverTargets.t SUCCESS',
        'discover.f SUCCESS',
    ]


def test_failure() -> None:
    connector = runs.FakeConnector()
    connector.discovery = exception.OperationCancelled(step='discovery')
    run = runs.make(connector=connector)
    run.fails_after('DiscoverTargets', connector.discovery)
    assert capture.states(discover.build(run)) == [
        'discover.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'DiscoverTargets.t RUNNING',
        'DiscoverTargets.t FAILURE',
        'DiscoverTargets.t REVERTING',
        'DiscoverTargets.t REVERTED',
        'GetConnector.t REVERTING',
        'GetConnector.t REVERTED',
        'discover.f REVERTED',
        'raised OperationCancelled',
    ]
