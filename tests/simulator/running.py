# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs that run now, and the disks that they have open."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
from typing import Any


class Running:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[str, Mapping[str, Any]]] = []

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
