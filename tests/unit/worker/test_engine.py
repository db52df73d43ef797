# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How a flow ended, and which step decided it."""

import threading
from typing import Any

import pytest
from taskflow.exceptions import Duplicate
from taskflow.flow import Flow
from taskflow.patterns import linear_flow
from taskflow.patterns import unordered_flow

from attachworker.tasks import base
from tests.unit.tasks import runs


class Step(base.Task):
    """Reversion strategy: calls what it was given."""

    def __init__(
        self, run: runs.Watched, of: object, act: Any = None, undo: Any = None
    ) -> None:
        super().__init__(run, of)
        self._act = act
        self._undo = undo

    def execute(self) -> Any:
        return self._act() if self._act else None

    def revert(self, **kwargs: Any) -> None:
        if self._undo:
            self._undo()


def fail(error: BaseException) -> Any:
    def act() -> None:
        raise error

    return act


def linear(*steps: base.Task) -> Flow:
    return linear_flow.Flow('test').add(*steps)


def unordered(*steps: base.Task) -> Flow:
    return unordered_flow.Flow('test').add(*steps)


def test_success() -> None:
    run = runs.make()
    steps = runs.Steps()

    class Other(Step):
        default_provides = 'other'

    class Value(Step):
        default_provides = 'value'

    flow = linear(Value(run, 1, lambda: 'one'), Other(run, 2, lambda: 'two'))
    outcome = runs.drive(flow, steps)
    assert (outcome.error, outcome.step) == (None, None)
    assert outcome.results == {'value': 'one', 'other': 'two'}
    assert steps.started == ['Value:1', 'Other:2']
    assert steps.ended == [('Value:1', 'ok'), ('Other:2', 'ok')]


def test_the_step_that_raised_decides() -> None:
    run = runs.make()
    steps = runs.Steps()
    error = LookupError('the cause')
    flow = linear(Step(run, 1), Step(run, 2, fail(error)), Step(run, 3))
    outcome = runs.drive(flow, steps)
    assert outcome.error is error
    assert outcome.step == 'Step:2'
    assert outcome.results == {}
    assert steps.started == ['Step:1', 'Step:2']
    assert steps.ended == [('Step:1', 'ok'), ('Step:2', 'LookupError')]


def test_all_is_undone_when_it_returns() -> None:
    run = runs.make()
    undone: list[str] = []
    flow = linear(
        Step(run, 1, undo=lambda: undone.append('1')),
        Step(run, 2, undo=lambda: undone.append('2')),
        Step(run, 3, fail(LookupError()), lambda: undone.append('3')),
        Step(run, 4, undo=lambda: undone.append('4')),
    )
    runs.drive(flow)
    assert undone == ['3', '2', '1']


@pytest.mark.parametrize('first', [0, 1])
def test_of_two_failures_the_first_decides(first: int) -> None:
    # Given two steps at the same time; one fails while the other one goes on
    run = runs.make()
    errors = [LookupError('zero'), LookupError('one')]
    begun = threading.Barrier(2)
    noted = threading.Event()

    def act(number: int) -> None:
        begun.wait(runs.PATIENCE)
        if number != first:
            assert noted.wait(runs.PATIENCE)
        raise errors[number]

    class Steps(runs.Steps):
        def step_ended(
            self, step: str, elapsed: float, error: BaseException | None
        ) -> None:
            super().step_ended(step, elapsed, error)
            noted.set()

    steps = Steps()
    flow = unordered(
        Step(run, 0, lambda: act(0)), Step(run, 1, lambda: act(1))
    )
    outcome = runs.drive(flow, steps)
    # Then that one is the cause, and both have been noted
    assert outcome.error is errors[first]
    assert outcome.step == f'Step:{first}'
    assert len(steps.ended) == 2


def test_timings_are_of_each_step() -> None:
    run = runs.make()
    gate = threading.Event()

    class Steps(runs.Steps):
        def step_started(self, step: str) -> None:
            super().step_started(step)
            if step == 'Step:2':
                threading.Timer(0.05, gate.set).start()

    flow = linear(
        Step(run, 1),
        Step(run, 2, lambda: gate.wait(runs.PATIENCE)),
        Step(run, 3, fail(LookupError())),
        Step(run, 4),
    )
    outcome = runs.drive(flow, Steps())
    # failed ones count too, those that never began do not
    assert sorted(outcome.timings) == ['Step:1', 'Step:2', 'Step:3']
    assert outcome.timings['Step:2'] >= 0.05
    assert outcome.timings['Step:1'] < outcome.timings['Step:2']
    assert all(0 <= one < runs.PATIENCE for one in outcome.timings.values())


def test_an_observer_that_breaks_down_harms_nothing() -> None:
    class Broken:
        def step_started(self, step: str) -> None:
            raise RuntimeError('started')

        def step_ended(self, *arguments: Any) -> None:
            raise RuntimeError('ended')

    run = runs.make()
    assert runs.drive(linear(Step(run, 1)), Broken()).error is None
    error = LookupError('the cause')
    outcome = runs.drive(linear(Step(run, 1, fail(error))), Broken())
    assert (outcome.error, outcome.step) == (error, 'Step:1')


def test_a_flow_that_cannot_be_run_is_told_by_its_name() -> None:
    # Given one with two steps of the same name
    run = runs.make()
    outcome = runs.drive(linear(Step(run, 1), Step(run, 1)))
    assert isinstance(outcome.error, Duplicate)
    assert outcome.step == 'test'
