# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The calls that are in progress, and the disks that they have open."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
from typing import Any


class Running:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[str, Mapping[str, Any]]] = []
        self._ended = threading.Condition()
        self._connections = 0

    def connected(self) -> None:
        """A call has come; what it is, nobody has read yet."""
        with self._ended:
            self._connections += 1

    def disconnected(self) -> None:
        """The same call has ended."""
        with self._ended:
            self._connections -= 1
            self._ended.notify_all()

    def wait_for_others(self, hurry: Callable[[], None]) -> None:
        """Return when the call that asks is the only one in progress.

        :param hurry: lets go what hangs; what another call has armed
            meanwhile, too
        """
        with self._ended:
            hurry()
            while self._connections > 1:
                self._ended.wait()
                hurry()

    @contextlib.contextmanager
    def counted(
        self, verb: str, arguments: Mapping[str, Any]
    ) -> Iterator[None]:
        call = (verb, arguments)
        with self._lock:
            self._calls.append(call)
        try:
            yield
        finally:
            with self._lock:
                self._calls.remove(call)

    def verbs(self) -> list[str]:
        with self._lock:
            return sorted(verb for verb, _ in self._calls)

    def about(self, device: str) -> bool:
        """Whether one of them has a device open."""
        with self._lock:
            return any(
                arguments.get('device') == device
                for _, arguments in self._calls
            )
