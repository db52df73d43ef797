# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Connecting several targets at once."""

import concurrent.futures
import functools
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base
from attachworker.tasks import attempts
from attachworker.tasks.run import Run
from tests.unit.tasks import runs


def begin(
    connector: runs.FakeConnector,
    *targets: base.Target,
    wanted: int = 1,
    together: bool = True,
    turn: float = runs.PATIENCE,
) -> attempts.Attempts:
    made = attempts.Attempts(wanted, together, turn)
    run = runs.make()
    for target in targets:
        start(made, connector, run, target, run.deadline)
    return made


def start(
    tries: attempts.Attempts,
    connector: runs.FakeConnector,
    run: Run,
    target: base.Target,
    deadline: deadlines.Deadline,
) -> None:
    claim = base.Claim(target, run.holdings, deadline)
    connect = functools.partial(connector.connect, run.info, claim)
    tries.start(target, connect, deadline)


def soon() -> deadlines.Deadline:
    return deadlines.Deadline.after(runs.PATIENCE)


def over() -> deadlines.Deadline:
    return deadlines.Deadline.after(-1.0)


def test_a_path() -> None:
    outcome = begin(runs.FakeConnector(), runs.ONE).wait(runs.ONE, soon())
    assert outcome.target == runs.ONE
    assert outcome.path is not None
    assert outcome.error is None


@pytest.mark.parametrize(
    ('error', 'code', 'text'),
    [
        (exception.AuthFailed(target='t', portal='p'), 'auth_failed', 't at'),
        (OSError(5, 'it hurts'), 'host_tool_failed', 'it hurts'),
        (RuntimeError('a secret'), 'internal', 'unexpected'),
    ],
)
def test_an_error_is_an_outcome(
    error: Exception, code: str, text: str
) -> None:
    connector = runs.FakeConnector()
    connector.errors[runs.ONE] = error
    outcome = begin(connector, runs.ONE).wait(runs.ONE, soon())
    assert outcome.path is None
    assert outcome.error is not None
    assert outcome.error.code == code
    assert text in str(outcome.error)
    assert 'a secret' not in str(outcome.error)


def test_nobody_waits_for_more_than_enough() -> None:
    # Given a portal that answers and one that does not
    connector = runs.FakeConnector()
    answer = connector.before[runs.TWO] = threading.Event()
    tries = begin(connector, runs.ONE, runs.TWO)
    # Then who waits for the second learns that it is not needed
    outcome = tries.wait(runs.TWO, soon())
    assert (outcome.path, outcome.error) == (None, None)
    assert tries.wait(runs.ONE, soon()).path is not None
    answer.set()


def test_an_error_is_not_enough() -> None:
    # Given one that fails and one that goes on
    connector = runs.FakeConnector()
    connector.errors[runs.ONE] = OSError(5, 'Input/output error')
    release = connector.during[runs.TWO] = threading.Event()
    tries = begin(connector, runs.ONE, runs.TWO)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(tries.wait, runs.TWO, soon())
        assert tries.wait(runs.ONE, soon()).error is not None
        assert not waiting.done()
        release.set()
        assert waiting.result(runs.PATIENCE).path is not None


def test_as_many_as_were_wanted() -> None:
    # Given two paths that are wanted of three
    connector = runs.FakeConnector()
    last = connector.before[runs.THREE] = threading.Event()
    second = connector.during[runs.TWO] = threading.Event()
    tries = begin(connector, runs.ONE, runs.TWO, runs.THREE, wanted=2)
    assert tries.wait(runs.ONE, soon()).path is not None
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(tries.wait, runs.THREE, soon())
        # When one has come, then that is not enough; with the second it is
        assert not waiting.done()
        second.set()
        assert waiting.result(runs.PATIENCE).path is None
    assert tries.wait(runs.TWO, soon()).path is not None
    last.set()


def test_a_wait_ends_with_the_deadline() -> None:
    connector = runs.FakeConnector()
    release = connector.during[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE)
    outcome = tries.wait(runs.ONE, over())
    assert (outcome.path, outcome.error) == (None, None)
    release.set()
    # and the outcome can be learned still
    assert tries.wait(runs.ONE, soon()).path is not None


def test_what_has_changed_something_is_abandoned_once_it_has_returned() -> (
    None
):
    # Given an attempt in the middle of its work
    connector = runs.FakeConnector()
    release = connector.during[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE)
    assert connector.begun[runs.ONE].wait(runs.PATIENCE)
    # Then it is not abandoned before it has returned, and it does so soon
    assert tries.abandon(runs.ONE, over()) is False
    release.set()
    assert tries.abandon(runs.ONE, soon()) is True
    outcome = tries.wait(runs.ONE, over())
    assert isinstance(outcome.error, exception.OperationCancelled)


def test_what_has_changed_nothing_is_abandoned_at_once() -> None:
    # Given an attempt that waits for an answer
    connector = runs.FakeConnector()
    answer = connector.before[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE)
    # Then it is given up at once, and will never change anything
    assert tries.abandon(runs.ONE, over()) is True
    answer.set()
    outcome = tries.wait(runs.ONE, soon())
    assert isinstance(outcome.error, exception.OperationCancelled)
    assert not connector.begun[runs.ONE].is_set()


def test_what_never_began_needs_no_stop() -> None:
    assert attempts.Attempts(1, True).abandon(runs.ONE, over()) is True


def test_one_device_after_another() -> None:
    """multipathd would take two devices of one volume for itself."""
    # Given an attempt that is about to fetch its device
    connector = runs.FakeConnector()
    fetch = connector.after_turn[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE, together=False)
    assert connector.took_turn[runs.ONE].wait(runs.PATIENCE)
    # When another one has got as far
    run = runs.make()
    start(tries, connector, run, runs.TWO, run.deadline)
    assert connector.begun[runs.TWO].wait(runs.PATIENCE)
    # Then it waits, and is not needed once the first has succeeded
    assert not connector.took_turn[runs.TWO].wait(0.1)
    fetch.set()
    assert tries.wait(runs.ONE, soon()).path is not None
    tries.wait_for_all(soon())
    error = tries.outcome(runs.TWO).error
    assert isinstance(error, exception.OperationCancelled)
    assert runs.TWO not in connector.connected


def test_the_next_one_s_turn_when_one_has_failed() -> None:
    connector = runs.FakeConnector()
    fetch = connector.after_turn[runs.ONE] = threading.Event()
    connector.errors[runs.ONE] = exception.AuthFailed(target='t', portal='p')
    tries = begin(connector, runs.ONE, together=False)
    assert connector.took_turn[runs.ONE].wait(runs.PATIENCE)
    run = runs.make()
    start(tries, connector, run, runs.TWO, run.deadline)
    fetch.set()
    assert tries.wait(runs.TWO, soon()).path is not None


def test_a_device_that_does_not_come_lets_the_next_ones_try() -> None:
    # Given two ways whose devices do not come
    connector = runs.FakeConnector()
    first = connector.after_turn[runs.ONE] = threading.Event()
    second = connector.after_turn[runs.TWO] = threading.Event()
    tries = begin(connector, runs.ONE, together=False, turn=0.1)
    assert connector.took_turn[runs.ONE].wait(runs.PATIENCE)
    run = runs.make()
    start(tries, connector, run, runs.TWO, run.deadline)
    assert connector.took_turn[runs.TWO].wait(runs.PATIENCE)
    # Then the third is tried beside them, and is enough
    start(tries, connector, run, runs.THREE, run.deadline)
    assert tries.wait(runs.THREE, soon()).path is not None
    assert tries.wait(runs.ONE, soon()) == base.PathOutcome(runs.ONE)
    # And what comes of the others is known when they end
    first.set()
    second.set()
    tries.wait_for_all(soon())
    assert [path.target for path in tries.paths()][0] == runs.THREE
    assert tries.outcome(runs.ONE).path is not None


def test_a_turn_is_over_before_the_deadline_is() -> None:
    # Given an attempt that has its turn for longer than there is time
    connector = runs.FakeConnector()
    fetch = connector.after_turn[runs.ONE] = threading.Event()
    limit = deadlines.Deadline.after(1.0)
    run = runs.make()
    tries = attempts.Attempts(1, together=False, turn=runs.PATIENCE)
    start(tries, connector, run, runs.ONE, limit)
    assert connector.took_turn[runs.ONE].wait(runs.PATIENCE)
    # Then another one has its turn even so
    start(tries, connector, run, runs.TWO, limit)
    assert tries.wait(runs.TWO, soon()).path is not None
    fetch.set()


def test_who_waits_for_its_turn_can_be_abandoned() -> None:
    connector = runs.FakeConnector()
    fetch = connector.after_turn[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE, together=False)
    assert connector.took_turn[runs.ONE].wait(runs.PATIENCE)
    run = runs.make()
    start(tries, connector, run, runs.TWO, run.deadline)
    assert connector.begun[runs.TWO].wait(runs.PATIENCE)
    assert tries.abandon(runs.TWO, soon()) is True
    fetch.set()
    assert tries.wait(runs.ONE, soon()).path is not None
    assert runs.TWO not in connector.connected


def test_who_is_in_a_hurry_does_not_wait() -> None:
    connector = runs.FakeConnector()
    answer = connector.during[runs.ONE] = threading.Event()
    tries = begin(connector, runs.ONE)
    tries.wrap_up()
    assert tries.settle(runs.ONE, soon()) == base.PathOutcome(runs.ONE)
    answer.set()
    assert tries.wait(runs.ONE, soon()).path is not None


def test_a_path_that_turns_out_useless() -> None:
    tries = begin(runs.FakeConnector(), runs.ONE)
    path = tries.wait(runs.ONE, soon()).path
    assert path is not None
    error = exception.DeviceNotFound(volume='LUN 0 of t at p')
    tries.reject(path, error)
    assert tries.paths() == []
    assert tries.outcome(runs.ONE).error is error
