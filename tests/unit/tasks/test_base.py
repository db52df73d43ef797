# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The rules that every task follows."""

from collections.abc import Iterator
import inspect
import types
from typing import Any

import pytest
from taskflow.flow import Flow
from taskflow.patterns import linear_flow

from attachworker import exception
from attachworker import flows
from attachworker.tasks import attach
from attachworker.tasks import base
from attachworker.tasks import detach
from tests.unit.tasks import runs

TASKS = [
    task
    for module in (attach, detach)
    for _, task in inspect.getmembers(module, inspect.isclass)
    if issubclass(task, base.Task)
]


class Fails(base.Task):
    """Reversion strategy: says that it was undone."""

    def execute(self) -> None:
        raise LookupError('the cause')

    def revert(self, **kwargs: Any) -> None:
        self.run.warnings.append(f'{self.name} undone')


class Works(base.Task):
    """Reversion strategy: says that it was undone."""

    def execute(self) -> None:
        self.run.warnings.append(f'{self.name} done')

    def revert(self, **kwargs: Any) -> None:
        self.run.warnings.append(f'{self.name} undone')


class CannotUndo(Works):
    """Reversion strategy: raises."""

    def revert(self, **kwargs: Any) -> None:
        raise OSError(5, 'it is stuck')


def atoms(of: Flow) -> Iterator[base.Task]:
    """All tasks of a flow, those of flows in it too."""
    for child, _ in of.iter_nodes():
        if isinstance(child, Flow):
            yield from atoms(child)
        else:
            yield child


def flow(*tasks: base.Task) -> Flow:
    return linear_flow.Flow('test').add(*tasks)


@pytest.mark.parametrize('task', TASKS, ids=lambda task: task.__name__)
def test_docstrings_say_how_a_task_is_undone(task: type[base.Task]) -> None:
    text = inspect.getdoc(task) or ''
    assert text.split('\n\n')[-1].startswith('Reversion strategy: ')
    reverts = 'revert' in vars(task)
    assert ('nothing to undo' in text) != reverts


@pytest.mark.parametrize('build', [flows.attach, flows.detach])
def test_names_are_unique_and_do_not_change(build: Any) -> None:
    """Callers see them as error.step."""
    run = types.SimpleNamespace(
        targets=[runs.ONE, runs.TWO], encryption='luks'
    )

    def names() -> list[str]:
        return [task.name for task in atoms(build(run))]

    assert names() == names()
    assert len(set(names())) == len(names())
    assert any(name.endswith(f':{runs.TWO}') for name in names())


class Takes(base.Task):
    """Reversion strategy: takes what it was given, and what came of it."""

    def execute(self, connector: str, wwn: str = '') -> None:
        raise NotImplementedError

    def revert(self, result: Any, connector: str, **kwargs: Any) -> None:
        raise NotImplementedError


class TakesOthers(base.Task):
    """Reversion strategy: nothing to undo."""

    def execute(self, disks: list[str], wwn: str) -> None:
        raise NotImplementedError


def test_each_class_of_tasks_is_given_what_its_functions_take() -> None:
    run = runs.make()
    for _ in range(2):
        one, other = Takes(run, 1), TakesOthers(run, 2)
        assert one.requires == {'connector'}
        assert one.optional == {'wwn'}
        assert dict(one.rebind) == {'connector': 'connector', 'wwn': 'wwn'}
        assert dict(one.revert_rebind) == {'connector': 'connector'}
        assert other.requires == {'disks', 'wwn'}
        assert other.optional == set()
        assert dict(other.revert_rebind) == {}


def test_a_revert_that_raises_stops_nothing() -> None:
    # Given three steps; the second cannot be undone, the third fails
    run = runs.make()
    tasks = flow(Works(run, 1), CannotUndo(run, 2), Fails(run, 3))
    # When they are run
    outcome = runs.drive(tasks)
    # Then the first is undone all the same, and the cause is the third's
    assert 'Works:1 undone' in run.warnings
    assert isinstance(outcome.error, LookupError)
    assert outcome.step == 'Fails:3'
    # And what could not be undone is known
    (left,) = run.leftovers
    assert left.startswith('CannotUndo:2: ')
    assert 'it is stuck' in left


def test_a_task_that_failed_is_undone_too() -> None:
    """It may have done a part of its change."""
    run = runs.make()
    runs.drive(flow(Fails(run)))
    assert run.warnings == ['Fails undone']


def test_no_step_starts_after_the_deadline() -> None:
    run = runs.make(seconds=-1.0)
    outcome = runs.drive(flow(Works(run)))
    assert isinstance(outcome.error, exception.DeadlineExceeded)
    assert outcome.step == 'Works'
    assert 'Works done' not in run.warnings


def test_a_step_that_ends_too_late_has_not_succeeded() -> None:
    # Given a step during which the deadline passes
    run = runs.make()

    def pass_deadline() -> None:
        run.deadline.at = 0.0

    run.hooks['after', 'Works:1'] = pass_deadline
    outcome = runs.drive(flow(Works(run, 1), Works(run, 2)))
    # Then it is the one that failed, and it is undone; no other starts
    assert isinstance(outcome.error, exception.DeadlineExceeded)
    assert outcome.step == 'Works:1'
    assert run.warnings == ['Works:1 done', 'Works:1 undone']


def test_a_subclass_inherits_the_rules() -> None:
    run = runs.make()
    outcome = runs.drive(flow(CannotUndo(run, 1), Fails(run)))
    assert outcome.step == 'Fails'
    assert 'CannotUndo:1 done' in run.warnings
    assert len(run.leftovers) == 1


def test_arguments_and_results_pass_the_wrapper() -> None:
    """TaskFlow reads the signature of what the subclass has written."""

    class Gives(base.Task):
        default_provides = 'thing'

        def execute(self) -> int:
            return 20

    class Takes(base.Task):
        default_provides = 'sum'

        def execute(self, thing: int, more: int = 1) -> int:
            return thing + more

        def revert(self, result: Any, flow_failures: Any) -> None:
            self.run.warnings.append(f'{result} of {len(flow_failures)}')

    run = runs.make()
    outcome = runs.drive(flow(Gives(run), Takes(run)))
    assert outcome.error is None
    assert outcome.results['sum'] == 21
    runs.drive(flow(Gives(run), Takes(run), Fails(run)))
    assert '21 of 1' in run.warnings
