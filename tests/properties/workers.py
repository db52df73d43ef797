# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Workers in processes of their own, and what must never be seen of them."""

from collections.abc import Callable
import contextlib
import itertools
import threading
from typing import Any

from tests.crash import victim
from tests.properties import stops

#: Seconds in which a worker starts.
_PATIENCE = 60.0


class Violation(AssertionError):
    """What must never be.

    :ivar kind: the same for the same rule
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f'{kind}: {text}')
        self.kind = kind


class WorkerKilled(Exception):
    """Whoever was to answer is dead."""


class Worker:
    """A worker in a process of its own; see :mod:`tests.properties.stops`.

    :param on_stop: is told of threads that have come to a point
    """

    def __init__(
        self,
        order: stops.Order,
        on_stop: Callable[[str, str, Callable[[], None]], None],
    ) -> None:
        self._connection, other = victim.PROCESSES.Pipe()
        self._process = victim.PROCESSES.Process(
            target=stops.serve, args=(other, order), daemon=True
        )
        self._process.start()
        other.close()
        self._on_stop = on_stop
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, Any] = {}
        self._ready = False
        self._dead = False
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_until_ready(self) -> None:
        """:raises WorkerKilled: it has ended by itself"""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready or self._dead, _PATIENCE
            )
            if self._dead:
                raise WorkerKilled
            if not self._ready:
                raise Violation('start', 'the worker does not start')

    def stop_at_points(self, stop: bool) -> None:
        self._send('close' if stop else 'open')

    def call(self, method: str, values: Any = None) -> Any:
        """:raises WorkerKilled: meanwhile"""
        number = next(self._numbers)
        self._send('call', number, method, values)
        with self._changed:
            self._changed.wait_for(
                lambda: number in self._answers or self._dead
            )
            if number not in self._answers:
                raise WorkerKilled
            answer = self._answers.pop(number)
        if isinstance(answer, stops.Raised):
            raise Violation('raised', f'{method}: {answer.kind} {answer.text}')
        return answer.result

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def _send(self, *message: Any) -> None:
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            raise WorkerKilled from None

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                break
            if isinstance(message, stops.Stopped):
                self._on_stop(
                    message.actor,
                    message.label,
                    lambda number=message.number: self._go(number),
                )
                continue
            with self._changed:
                if message == stops.READY:
                    self._ready = True
                else:
                    self._answers[message.number] = message
                self._changed.notify_all()
        with self._changed:
            self._dead = True
            self._changed.notify_all()

    def _go(self, number: int) -> None:
        with contextlib.suppress(WorkerKilled):
            self._send('go', number)
