# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The order in which each flow does things, and undoes them."""

from typing import Any

from taskflow import engines
from taskflow.listeners import base
from taskflow.types import notifier

from attachworker import exception
from attachworker import flows
from attachworker.connectors import base as connectors
from tests.unit.tasks import runs

CONNECT = f'ConnectTarget:{runs.ONE}.t'
DISCONNECT = f'DisconnectTarget:{runs.ONE}.t'


class Capture(base.Listener):
    """Notes states as TaskFlow's own tests do: ``name.t STATE``."""

    def __init__(self, engine: Any) -> None:
        super().__init__(
            engine,
            task_listen_for=(notifier.Notifier.ANY,),
            flow_listen_for=(notifier.Notifier.ANY,),
        )
        self.states: list[str] = []

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.states.append(f'{details["flow_name"]}.f {state}')

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.states.append(f'{details["task_name"]}.t {state}')


def states(flow: Any) -> list[str]:
    """Run a flow, one step at a time; whatever it raises is swallowed."""
    engine = engines.load(flow, engine='serial')
    with Capture(engine) as capture:
        try:
            engine.run()
        except Exception as error:
            capture.states.append(f'raised {type(error).__name__}')
    return capture.states


def test_a_discovery_that_succeeds() -> None:
    assert states(flows.discover(runs.make())) == [
        'discover.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'DiscoverTargets.t RUNNING',
        'DiscoverTargets.t SUCCESS',
        'discover.f SUCCESS',
    ]


def test_a_discovery_that_fails() -> None:
    connector = runs.FakeConnector()
    connector.discovery = exception.OperationCancelled(step='discovery')
    run = runs.make(connector=connector)
    run.fails_after('DiscoverTargets', connector.discovery)
    assert states(flows.discover(run)) == [
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


def test_an_attach_that_succeeds() -> None:
    assert states(flows.attach(runs.make())) == [
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


def test_an_attach_that_fails() -> None:
    connector = runs.FakeConnector()
    connector.errors[runs.ONE] = exception.TargetUnreachable(
        portal=runs.ONE.portal, reason='dead'
    )
    run = runs.make(connector=connector)
    assert states(flows.attach(run)) == [
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
    (_, targets, *_), _ = zip(*flows.attach(run).iter_nodes(), strict=True)
    assert len(targets) == 3
    assert list(targets.iter_links()) == []


def attached() -> tuple[runs.FakeConnector, runs.Watched]:
    connector = runs.FakeConnector()
    run = runs.make(connector=connector)
    claim = connectors.Claim(runs.ONE, run.holdings, run.deadline)
    connector.connect(run.info, claim, connectors.Interest())
    return connector, run


def test_a_detach_that_succeeds() -> None:
    connector, run = attached()
    assert states(flows.detach(run)) == [
        'detach.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'FindPaths.t RUNNING',
        'FindPaths.t SUCCESS',
        'FindMap.t RUNNING',
        'FindMap.t SUCCESS',
        'CheckUnused.t RUNNING',
        'CheckUnused.t SUCCESS',
        'FlushDevice.t RUNNING',
        'FlushDevice.t SUCCESS',
        'RecordDetaching.t RUNNING',
        'RecordDetaching.t SUCCESS',
        'CloseEncryption.t RUNNING',
        'CloseEncryption.t SUCCESS',
        'RemoveMap.t RUNNING',
        'RemoveMap.t SUCCESS',
        f'{DISCONNECT} RUNNING',
        f'{DISCONNECT} SUCCESS',
        'VerifyGone.t RUNNING',
        'VerifyGone.t SUCCESS',
        'detach.f SUCCESS',
    ]
    assert connector.connected == {}


def test_a_detach_that_fails() -> None:
    """The reverts of TaskFlow run and do nothing: it is finished later."""
    connector, run = attached()
    connector.left[runs.ONE] = ['device sd1']
    found = states(flows.detach(run))
    undone = [
        f'{name} {state}'
        for name in (
            'VerifyGone.t',
            DISCONNECT,
            'RemoveMap.t',
            'CloseEncryption.t',
            'RecordDetaching.t',
            'FlushDevice.t',
            'CheckUnused.t',
            'FindMap.t',
            'FindPaths.t',
            'GetConnector.t',
        )
        for state in ('REVERTING', 'REVERTED')
    ]
    assert found[found.index(f'{DISCONNECT} RUNNING') :] == [
        f'{DISCONNECT} RUNNING',
        f'{DISCONNECT} SUCCESS',
        'VerifyGone.t RUNNING',
        'VerifyGone.t FAILURE',
        *undone,
        'detach.f REVERTED',
        'raised HostToolFailed',
    ]
    assert connector.began == [runs.ONE]
