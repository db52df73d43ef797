# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Threads that take turns, as a schedule says."""

from collections.abc import Callable
import dataclasses
import threading
import time

#: Seconds in which an actor that nobody stops comes to its next point. One
#: that does not waits for another, or is slow: then the others go on.
PATIENCE = 0.08


@dataclasses.dataclass(frozen=True, eq=False)
class _Stopped:
    actor: str
    label: str
    go: Callable[[], None]
    here: bool


class Turns:
    """Who has stopped where, and who goes on next.

    :ivar story: what has gone on, in this order
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped: list[_Stopped] = []
        self._ended: set[str] = set()
        self._current = ''
        self._open = False
        self._stirred = time.monotonic()
        self.story: list[str] = []

    def come(
        self,
        actor: str,
        label: str,
        go: Callable[[], None],
        here: bool = False,
    ) -> None:
        """Somebody has come to a point, and calls ``go`` to go on.

        :param actor: empty: whoever's turn it is
        :param here: whether it is a thread of this process
        """
        with self._changed:
            one = _Stopped(actor or self._current, label, go, here)
            self._stirred = time.monotonic()
            if not self._open:
                self._stopped.append(one)
                self._changed.notify_all()
                return
            self.tell(f'{one.actor}: {one.label}')
        go()

    def wait(self, actor: str, label: str) -> None:
        """Stop this thread at a point."""
        turn = threading.Event()
        self.come(actor, label, turn.set, here=True)
        turn.wait()

    def end(self, actor: str) -> None:
        """An actor has nothing more to do."""
        with self._changed:
            self._ended.add(actor)
            self._changed.notify_all()

    def forget(self) -> None:
        """Those who have stopped elsewhere than here have been killed."""
        with self._changed:
            self._stopped = [one for one in self._stopped if one.here]

    def give(self, actor: str, points: int, look: Callable[[], None]) -> None:
        """Let an actor go on until it has passed so many points.

        :param look: called as it has stopped at each of them
        """
        with self._changed:
            self._current = actor
        for _ in range(points):
            one = self._next(actor)
            look()
            if one is None:
                return
            self.tell(f'{actor}: {one.label}')
            one.go()
        self._next(actor, keep=True)
        look()

    def open(self) -> None:
        """Nobody stops any more."""
        with self._changed:
            self._open = True
            stopped, self._stopped = self._stopped, []
        for one in stopped:
            self.tell(f'{one.actor}: {one.label}')
            one.go()

    @property
    def is_open(self) -> bool:
        return self._open

    def wait_for_ends(self, actors: set[str], timeout: float) -> set[str]:
        """Those actors that have not come to an end in time."""
        with self._changed:
            self._changed.wait_for(lambda: actors <= self._ended, timeout)
            return actors - self._ended

    def tell(self, what: str) -> None:
        self.story.append(what)

    def _next(self, actor: str, keep: bool = False) -> _Stopped | None:
        """Where an actor has stopped; None if it waits or has ended."""
        with self._changed:
            self._stirred = time.monotonic()
            while True:
                for one in self._stopped:
                    if one.actor == actor:
                        if not keep:
                            self._stopped.remove(one)
                        return one
                left = self._stirred + PATIENCE - time.monotonic()
                if actor in self._ended or left <= 0:
                    return None
                self._changed.wait(left)
