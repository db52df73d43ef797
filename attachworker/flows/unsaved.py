# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""TaskFlow's engines, for flows that are not stored.

What must survive is in the journal, so what an engine knows of its flow need
neither be saved nor read by anybody but its own thread. As TaskFlow has it,
every change of a state is copied, tried again should it fail, and locked,
which took most of the time of a flow.
"""

import contextlib
from typing import Any

from taskflow import storage
from taskflow.engines.action_engine import engine
from taskflow.persistence import models
from taskflow.utils import misc


class _Unlocked:
    """A lock for readers and writers of which there is one."""

    def read_lock(self) -> contextlib.AbstractContextManager[None]:
        return _NOTHING

    write_lock = read_lock


_NOTHING = contextlib.nullcontext()


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


class Serial(_Unsaved, engine.SerialActionEngine):
    """Runs one task after the other in the thread that runs the flow."""


class Parallel(_Unsaved, engine.ParallelActionEngine):
    """Runs tasks in the threads of an executor."""
