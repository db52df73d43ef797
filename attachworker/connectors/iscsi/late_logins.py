# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Logins of which nobody tells any more how they end."""

import threading

from attachworker import deadline as deadlines


class LateLogins:
    """What iscsid may be at still, without an iscsiadm that waits for it.

    It goes on when iscsiadm is killed, and so does it when the worker is;
    nobody can ask it what it is at. All that is known then is when it must
    have given up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._since: dict[str, float] = {}

    def begin(self, key: str) -> None:
        """Whoever begins a login from now on waits for it.

        :param key: portal and target
        """
        with self._lock:
            self._told.add(key)

    def expect(self, key: str) -> None:
        """Nobody waits for it any more, and it may go on."""
        with self._lock:
            self._told.discard(key)
            self._since[key] = deadlines.now()

    def forget(self, key: str) -> None:
        """It is known how it ended."""
        with self._lock:
            self._told.discard(key)
            self._since.pop(key, None)

    def possible(self, key: str, patience: float) -> bool:
        """Whether a login that somebody has begun may end yet.

        What another process began counts from the first question.

        :param patience: seconds until iscsid must have given up
        """
        with self._lock:
            if key in self._told:
                return False
            now = deadlines.now()
            return now - self._since.setdefault(key, now) < patience
