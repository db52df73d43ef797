# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs one flow to its end and says how that was.

What must survive is in the journal, so what TaskFlow's engine knows of its
flow need neither be saved nor read by anybody but its own thread. As TaskFlow
has it, every change of a state is copied, tried again should it fail, and
locked, which took most of the time of a flow.
"""

import contextlib
import dataclasses
from typing import Any

from oslo_utils import uuidutils
from taskflow import states
from taskflow import storage
from taskflow.engines.action_engine import engine
from taskflow.flow import Flow
from taskflow.listeners import base
from taskflow.persistence import models
from taskflow.types import failure
from taskflow.types import notifier
from taskflow.utils import misc

from attachworker import deadline as deadlines
from attachworker.host import threads
from attachworker.telemetry.progress import Progress

#: Threads for steps that go on at the same time, shared by all flows.
_EXECUTOR = threads.Executor()
_NOTHING = contextlib.nullcontext()


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


def run(flow: Flow, progress: Progress, several: bool) -> Outcome:
    """Run a flow; a failed one has been undone on return.

    :param progress: is told of each step
    :param several: whether there are steps that go on at the same time
    """
    # Handing each step to another thread costs more than most steps do.
    kind = _Parallel if several else _Serial
    made = kind(
        flow,
        models.FlowDetail(flow.name, uuidutils.generate_uuid()),
        None,
        {'executor': _EXECUTOR, 'gather_statistics': False},
    )
    with _Listener(made, progress) as listener:
        try:
            made.run()
        except Exception as error:
            step, cause = listener.first or (flow.name, error)
            return Outcome({}, cause, step, listener.timings)
    return Outcome(made.storage.fetch_all(), None, None, listener.timings)


class _Listener(base.Listener):
    """Notes the time of each step and the first failure."""

    def __init__(self, made: Any, progress: Progress) -> None:
        super().__init__(
            made,
            task_listen_for=(notifier.Notifier.ANY,),
            flow_listen_for=(),
        )
        self._progress = progress
        self._started: dict[str, float] = {}
        self.timings: dict[str, float] = {}
        self.first: tuple[str, BaseException] | None = None

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        step = details['task_name']
        if state == states.RUNNING:
            self._started[step] = deadlines.now()
            self._progress.step_started(step)
        elif state in (states.SUCCESS, states.FAILURE):
            elapsed = deadlines.now() - self._started[step]
            self.timings[step] = round(elapsed, 6)
            error = None
            if isinstance(details.get('result'), failure.Failure):
                error = details['result'].exception
                self.first = self.first or (step, error)
            self._progress.step_ended(step, elapsed, error)


class _Unlocked:
    """A lock for readers and writers of which there is one."""

    def read_lock(self) -> contextlib.AbstractContextManager[None]:
        return _NOTHING

    write_lock = read_lock


class _Storage(storage.Storage):
    """The states of one flow, in memory."""

    def __init__(
        self, flow_detail: models.FlowDetail, scope_fetcher: Any
    ) -> None:
        super().__init__(
            flow_detail, backend=_NOTHING, scope_fetcher=scope_fetcher
        )
        self._lock = _Unlocked()

    def _with_connection(self, functor: Any, *args: Any) -> Any:
        return functor(None, *args)

    def _save_atom_detail(self, connection: Any, old: Any, new: Any) -> Any:
        return old.update(new)

    _save_flow_detail = _save_atom_detail

    def set_task_progress(self, *args: Any, **kwargs: Any) -> None:
        """Nobody asks how far a task is."""


class _Unsaved:
    """What both engines have in common."""

    _compiled: bool
    _flow_detail: models.FlowDetail
    _runtime: Any

    @misc.cachedproperty
    def storage(self) -> _Storage:
        return _Storage(self._flow_detail, self._scopes)

    def _scopes(self, atom_name: str) -> Any:
        if not self._compiled:
            return None
        return self._runtime.fetch_scopes_for(atom_name)


class _Serial(_Unsaved, engine.SerialActionEngine):
    """Runs one task after the other in the thread that runs the flow."""


class _Parallel(_Unsaved, engine.ParallelActionEngine):
    """Runs tasks in the threads of an executor."""
