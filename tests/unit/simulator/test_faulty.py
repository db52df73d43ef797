# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Faults at the seam, over any object that has the verbs."""

import errno
import threading
from typing import Any

import pytest

from tests.simulator import faults
from tests.simulator import faulty
from tests.simulator.faults import Fault

_LOGIN: tuple[str, str, int, dict[str, str], float] = (
    'iqn.2010-10.org.openstack:t',
    '127.0.0.1',
    3260,
    {},
    1.0,
)


class _Recorder:
    """Has all verbs and remembers what was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.iscsi = self.scsi = self.block = self.multipath = self

    def __getattr__(self, name: str) -> Any:
        def verb(*arguments: Any, **keywords: Any) -> tuple[int, str]:
            self.calls.append((name, (*arguments, *keywords.values())))
            return 0, 'done'

        return verb


@pytest.fixture
def recorder() -> _Recorder:
    return _Recorder()


@pytest.fixture
def plan() -> faults.FaultPlan:
    return faults.FaultPlan()


@pytest.fixture
def verbs(recorder: _Recorder, plan: faults.FaultPlan) -> faulty.FaultyVerbs:
    return faulty.FaultyVerbs(recorder, plan)


def test_without_a_fault_the_verb_is_called(
    verbs: faulty.FaultyVerbs, recorder: _Recorder
) -> None:
    assert verbs.iscsi.login(*_LOGIN) == (0, 'done')
    assert recorder.calls == [('login', _LOGIN)]


def test_fail_before_does_nothing_once(
    verbs: faulty.FaultyVerbs, plan: faults.FaultPlan, recorder: _Recorder
) -> None:
    fault = plan.arm(Fault.FAIL_BEFORE, 'scsi.delete')

    with pytest.raises(OSError, match='injected') as caught:
        verbs.scsi.delete('1:0:0:0')

    assert caught.value.errno == errno.EIO
    assert recorder.calls == []
    assert fault.fired == 1
    verbs.scsi.delete('1:0:0:0')
    assert recorder.calls == [('delete', ('1:0:0:0',))]


def test_fail_after_has_done_it(
    verbs: faulty.FaultyVerbs, plan: faults.FaultPlan, recorder: _Recorder
) -> None:
    plan.arm(Fault.FAIL_AFTER, 'block.flush', number=errno.ENOSPC)

    with pytest.raises(OSError, match='injected') as caught:
        verbs.block.flush('sda')

    assert caught.value.errno == errno.ENOSPC
    assert recorder.calls == [('flush', ('sda',))]


def test_fail_exit_returns_the_code(
    verbs: faulty.FaultyVerbs, plan: faults.FaultPlan, recorder: _Recorder
) -> None:
    plan.arm(Fault.FAIL_EXIT, 'iscsi.login', exit_code=24)

    assert verbs.iscsi.login(*_LOGIN)[0] == 24
    assert recorder.calls == []


@pytest.mark.parametrize(
    ('kind', 'calls_while_hanging'),
    [(Fault.HANG_BEFORE, 0), (Fault.HANG_AFTER, 1)],
)
def test_hang_until_released(
    verbs: faulty.FaultyVerbs,
    plan: faults.FaultPlan,
    recorder: _Recorder,
    kind: Fault,
    calls_while_hanging: int,
) -> None:
    fault = plan.arm(kind, 'iscsi.logout')
    thread = threading.Thread(target=verbs.iscsi.logout, args=(1, 1.0))

    thread.start()

    assert fault.wait(10)
    assert len(recorder.calls) == calls_while_hanging
    assert thread.is_alive()
    verbs.scsi.delete('1:0:0:0')  # nobody else waits
    plan.release()
    thread.join(10)
    assert not thread.is_alive()
    assert ('logout', (1, 1.0)) in recorder.calls


@pytest.mark.parametrize('by_keyword', [False, True])
def test_only_matching_arguments_are_hit(
    verbs: faulty.FaultyVerbs, plan: faults.FaultPlan, by_keyword: bool
) -> None:
    plan.arm(Fault.FAIL_BEFORE, 'scsi.scan', match={'lun': 1})

    verbs.scsi.scan(2, 0, 0, 0)

    if by_keyword:
        with pytest.raises(OSError, match='injected'):
            verbs.scsi.scan(host=2, channel=0, target=0, lun=1)
    else:
        with pytest.raises(OSError, match='injected'):
            verbs.scsi.scan(2, 0, 0, 1)


def test_times(verbs: faulty.FaultyVerbs, plan: faults.FaultPlan) -> None:
    twice = plan.arm(Fault.FAIL_BEFORE, 'block.flush', times=2)
    always = plan.arm(Fault.FAIL_BEFORE, 'block.flush', times=None)

    for _ in range(5):
        with pytest.raises(OSError, match='injected'):
            verbs.block.flush('sda')

    assert (twice.fired, always.fired) == (2, 3)


def test_unfired_faults_are_known(
    verbs: faulty.FaultyVerbs, plan: faults.FaultPlan
) -> None:
    plan.arm(Fault.FAIL_EXIT, 'iscsi.login')
    idle = plan.arm(Fault.FAIL_EXIT, 'iscsi.logout')

    verbs.iscsi.login(*_LOGIN)

    assert plan.unfired() == [idle]
    plan.clear()
    assert plan.unfired() == []


@pytest.mark.parametrize(
    ('kind', 'verb', 'match'),
    [
        (Fault.FAIL_BEFORE, 'iscsi.rescan', {}),
        (Fault.FAIL_EXIT, 'scsi.scan', {}),
        (Fault.VANISH, 'scsi.delete', {}),
        (Fault.VANISH, 'multipath.forget', {}),
        (Fault.LOST_EVENTS, 'scsi.scan', {}),
        (Fault.FAIL_BEFORE, 'scsi.scan', {'portal': 'x'}),
    ],
)
def test_faults_that_cannot_strike_are_refused(
    plan: faults.FaultPlan, kind: Fault, verb: str, match: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r'.'):
        plan.arm(kind, verb, match=match)
