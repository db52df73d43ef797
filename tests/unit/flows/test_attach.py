# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The order in which an attach does things, and undoes them."""

from attachworker import exception
from attachworker.flows import attach
from tests.unit.flows import capture
from tests.unit.tasks import runs

CONNECT = f'ConnectTarget:{runs.ONE}.t'


def test_success() -> None:
    assert capture.states(attach.build(runs.make())) == [
        'attach.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        f'{CONNECT} RUNNING',
        f'{CONNECT} SUCCESS',
        'GatherPaths.t RUNNING',
        'GatherPaths.t SUCCESS',
        'FindWwn.t RUNNING',
        'FindWwn.t SUCCESS',
        'MapMultipath.t RUNNING',
        'MapMultipath.t SUCCESS',
        'VerifyDevice.t RUNNING',
        'VerifyDevice.t SUCCESS',
        'attach.f SUCCESS',
    ]


def test_failure() -> None:
    connector = runs.FakeConnector()
    connector.errors[runs.ONE] = exception.TargetUnreachable(
        portal=runs.ONE.portal, reason='dead'
    )
    run = runs.make(connector=connector)
    assert capture.states(attach.build(run)) == [
        'attach.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        f'{CONNECT} RUNNING',
        f'{CONNECT} SUCCESS',
        'GatherPaths.t RUNNING',
        'GatherPaths.t FAILURE',
        'GatherPaths.t REVERTING',
        'GatherPaths.t REVERTED',
        f'{CONNECT} REVERTING',
        f'{CONNECT} REVERTED',
        'GetConnector.t REVERTING',
        'GetConnector.t REVERTED',
        'attach.f REVERTED',
        'raised TargetUnreachable',
    ]
    assert connector.disconnected == [runs.ONE]


def test_targets_are_tried_at_the_same_time() -> None:
    """None of them begins only after another one has ended."""
    run = runs.make(runs.ONE, runs.TWO, runs.THREE)
    (_, targets, *_), _ = zip(*attach.build(run).iter_nodes(), strict=True)
    assert len(targets) == 3
    assert list(targets.iter_links()) == []
