# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A source of uevents that a test feeds."""

import collections
import os


class FakeSource:
    """Hands over what was put in, in order; exceptions are raised."""

    def __init__(self) -> None:
        self._waiting: collections.deque[dict[str, str] | Exception] = (
            collections.deque()
        )
        self._event = os.eventfd(0, os.EFD_NONBLOCK)
        self.closed = False

    def put(self, *things: dict[str, str] | Exception) -> None:
        self._waiting.extend(things)
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def receive(self) -> dict[str, str] | None:
        if not self._waiting:
            try:
                os.eventfd_read(self._event)
            except BlockingIOError:
                return None
            if not self._waiting:
                return None
        found = self._waiting.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.closed = True
        os.close(self._event)
