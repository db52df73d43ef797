# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""TaskFlow's storage of flow states, for flows that are not stored."""

from typing import Any

from taskflow.persistence import base


class Unsaved(base.Backend):
    """Saves nothing: what must survive is in the journal.

    The engine itself has all states in memory and gets back what it hands
    over. The backend that TaskFlow has for memory imitates a file system,
    which took as long as all the rest of the engine.
    """

    def __init__(self) -> None:
        super().__init__({})
        self._connection = _Unsaved(self)

    def get_connection(self) -> base.Connection:
        return self._connection

    def close(self) -> None:
        """There is nothing to close."""


class _Unsaved(base.Connection):
    def __init__(self, backend: Unsaved) -> None:
        self._backend = backend

    @property
    def backend(self) -> Unsaved:
        return self._backend

    def _nothing(self, *arguments: Any, **options: Any) -> None:
        """Nothing is there to change, and nobody reads."""

    def _as_given(self, detail: Any) -> Any:
        return detail

    update_atom_details = _as_given
    update_flow_details = _as_given
    save_logbook = _nothing
    close = _nothing
    upgrade = _nothing
    validate = _nothing
    clear_all = _nothing
    destroy_logbook = _nothing
    get_logbook = _nothing
    get_logbooks = _nothing
    get_flows_for_book = _nothing
    get_flow_details = _nothing
    get_atom_details = _nothing
    get_atoms_for_flow = _nothing
