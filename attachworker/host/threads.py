# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Threads that stay, for what may block each of them for ever."""

from collections.abc import Callable
import concurrent.futures
import queue
import threading
from typing import Any

from attachworker import context

_IDLE = 'idle'


class Threads:
    """As many as are busy, and a few that wait for the next one.

    A thread that is stuck is replaced when it is missed. None keeps the
    process from ending.

    :param kept: how many stay when there is nothing to do
    """

    def __init__(self, kept: int = 8) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: list[
            queue.SimpleQueue[tuple[Callable[[], None], str]]
        ] = []

    def run(self, body: Callable[[], None], name: str) -> None:
        """Have something run, and do not wait for it.

        :param body: raises nothing
        :param name: of the thread for as long
        :raises RuntimeError, MemoryError: there is no thread for it
        """
        body = context.bound(body)
        with self._lock:
            if self._idle:
                self._idle.pop().put((body, name))
                return
        threading.Thread(
            target=self._stay, args=(body, name), name=name, daemon=True
        ).start()

    def _stay(self, body: Callable[[], None], name: str) -> None:
        mine: queue.SimpleQueue[tuple[Callable[[], None], str]] = (
            queue.SimpleQueue()
        )
        thread = threading.current_thread()
        while True:
            thread.name = name
            body()
            del body  # what it holds may be large
            thread.name = _IDLE
            with self._lock:
                if len(self._idle) >= self._kept:
                    return
                self._idle.append(mine)
            body, name = mine.get()


class Executor(concurrent.futures.Executor):
    """Runs each thing in a thread of its own, and never queues one.

    In a pool with so many threads the operations that wait for dead storage
    would have all of them, and keep the others waiting.
    """

    def __init__(self) -> None:
        self._threads = Threads()

    def submit(
        self, act: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Begin ``act``; where there is no thread, it has ended on return."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def body() -> None:
            try:
                future.set_result(act(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        try:
            self._threads.run(body, 'flow')
        except (RuntimeError, MemoryError):
            body()
        return future
