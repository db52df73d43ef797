# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Connecting several targets at once."""

import concurrent.futures
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base
from attachworker.tasks import attempts
from tests.unit.tasks import runs


def begin(
    connector: runs.FakeConnector, *targets: base.Target, wanted: int = 1
) -> attempts.Attempts:
    made = attempts.Attempts(wanted)
    run = runs.make()
    for target in targets:
        made.start(connector, run.info, target, run.claims, run.deadline)
    return made


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
    assert attempts.Attempts(1).abandon(runs.ONE, over()) is True
