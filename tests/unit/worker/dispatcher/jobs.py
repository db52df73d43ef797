# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Jobs that run until they are told to end."""

from collections.abc import Callable
import math
import threading

from attachworker import context
from attachworker.worker import dispatcher as dispatchers

PATIENCE = 10.0

Make = Callable[..., dispatchers.Dispatcher]


class Job:
    """Runs until it is told to end."""

    context = context.NOBODYS

    def __init__(
        self,
        attachment_id: str,
        backend: str = 'backend',
        act: Callable[[], None] | None = None,
        expires: float = math.inf,
        keys: str = '',
        knows_volume: bool = True,
    ) -> None:
        self.attachment_id = attachment_id
        self.keys = frozenset({attachment_id, *keys})
        self.knows_volume = knows_volume
        self.expires = expires
        self.expired = threading.Event()
        self.backend = backend
        self._act = act
        self._begun = threading.Event()
        self._end = threading.Event()
        self.ended = threading.Event()
        self.wrapping_up = threading.Event()

    def wrap_up(self) -> None:
        self.wrapping_up.set()

    def expire(self) -> bool:
        assert self.waits
        self.expired.set()
        return True

    def run(self) -> None:
        self._begun.set()
        try:
            if self._act is not None:
                self._act()
            else:
                assert self._end.wait(PATIENCE)
        finally:
            self.ended.set()

    def begun(self) -> None:
        """Wait until it runs."""
        assert self._begun.wait(PATIENCE)

    @property
    def waits(self) -> bool:
        return not self._begun.is_set()

    def end(self) -> None:
        self._end.set()
        assert self.ended.wait(PATIENCE)


def add(dispatcher: dispatchers.Dispatcher, *jobs: Job) -> None:
    for job in jobs:
        dispatcher.add(job)


def settle(dispatcher: dispatchers.Dispatcher) -> None:
    """Return when every job that was added before and may run does so.

    A witness that has been added later runs after all of them.
    """
    witness = Job(f'witness-{id(object())}', 'witness', lambda: None)
    dispatcher.add(witness)
    assert witness.ended.wait(PATIENCE)
