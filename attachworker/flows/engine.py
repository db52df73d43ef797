# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Runs one flow to its end and says how that was."""

import dataclasses
from typing import Any
from typing import Protocol

from taskflow import engines
from taskflow import flow as flows
from taskflow import states
from taskflow.listeners import base
from taskflow.persistence import models
from taskflow.types import failure
from taskflow.types import notifier

from attachworker import deadline as deadlines
from attachworker.flows import unsaved

_UNSAVED = unsaved.Unsaved()


class Observer(Protocol):
    """Is told of each step; must not block."""

    def step_started(self, step: str) -> None: ...

    def step_ended(
        self, step: str, elapsed: float, error: BaseException | None
    ) -> None: ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a flow ended.

    :ivar results: the store, if it succeeded
    :ivar error: the first cause, if it failed
    :ivar step: the atom that raised it
    :ivar timings: seconds by atom name
    """

    results: dict[str, Any]
    error: BaseException | None
    step: str | None
    timings: dict[str, float]


class _Listener(base.Listener):
    """Notes the time of each step and the first failure."""

    def __init__(self, engine: Any, observer: Observer) -> None:
        super().__init__(
            engine,
            task_listen_for=(notifier.Notifier.ANY,),
            flow_listen_for=(),
        )
        self._observer = observer
        self._started: dict[str, float] = {}
        self.timings: dict[str, float] = {}
        self.first: tuple[str, BaseException] | None = None

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        step = details['task_name']
        if state == states.RUNNING:
            self._started[step] = deadlines.now()
            self._observer.step_started(step)
        elif state in (states.SUCCESS, states.FAILURE):
            elapsed = deadlines.now() - self._started[step]
            self.timings[step] = round(elapsed, 6)
            error = None
            if isinstance(details.get('result'), failure.Failure):
                error = details['result'].exception
                self.first = self.first or (step, error)
            self._observer.step_ended(step, elapsed, error)


def run(flow: flows.Flow, observer: Observer) -> Outcome:
    """Run a flow; a failed one has been undone on return.

    The flow lives in memory: what must survive is in the journal. It runs in
    the thread of the caller: what goes on at the same time has threads of its
    own, and no flow waits for those of another.
    """
    engine = engines.load(
        flow,
        book=models.LogBook(flow.name),
        backend=_UNSAVED,
        engine='serial',
    )
    with _Listener(engine, observer) as listener:
        try:
            engine.run()
        except Exception as error:
            step, cause = listener.first or (flow.name, error)
            return Outcome({}, cause, step, listener.timings)
    return Outcome(engine.storage.fetch_all(), None, None, listener.timings)
