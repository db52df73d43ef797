# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The order in which a detach does things."""

from attachworker.connectors import base as connectors
from attachworker.flows import detach
from tests.unit.flows import capture
from tests.unit.tasks import runs

DISCONNECT = f'DisconnectTarget:{runs.ONE}.t'


def attached() -> tuple[runs.FakeConnector, runs.Watched]:
    connector = runs.FakeConnector()
    run = runs.make(connector=connector)
    claim = connectors.Claim(runs.ONE, run.holdings, run.deadline)
    connector.connect(run.info, claim, connectors.Interest())
    return connector, run


def test_success() -> None:
    connector, run = attached()
    assert capture.states(detach.build(run)) == [
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


def test_failure() -> None:
    """The reverts of TaskFlow run and do nothing: it is finished later."""
    connector, run = attached()
    connector.left[runs.ONE] = ['device sd1']
    found = capture.states(detach.build(run))
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
