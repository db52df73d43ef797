# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""How long an operation may go on, and whether it still should."""

import threading
import time

from attachworker import exception


def now() -> float:
    """Seconds since boot, suspend included: the clock of all deadlines."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Deadline:
    """A point in time that bounds every wait of one operation.

    :param at: seconds since boot, see :func:`now`
    :param cancelled: set by somebody who wants the operation to stop at its
        next step
    """

    def __init__(
        self, at: float, cancelled: threading.Event | None = None
    ) -> None:
        self.at = at
        self._cancelled = cancelled

    @classmethod
    def after(cls, seconds: float) -> 'Deadline':
        return cls(now() + seconds)

    def extended(self, seconds: float) -> 'Deadline':
        """A later deadline, for undoing; it cannot be cancelled."""
        return Deadline(max(self.at, now()) + seconds)

    def sooner(self, seconds: float) -> 'Deadline':
        """This one, or so many seconds from now if that is earlier."""
        return Deadline(min(self.at, now() + seconds), self._cancelled)

    def remaining(self) -> float:
        """Seconds that are left, never below zero; none if cancelled."""
        return 0.0 if self.cancelled else max(0.0, self.at - now())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.cancelled or now() >= self.at

    @property
    def cancelled(self) -> bool:
        return self._cancelled is not None and self._cancelled.is_set()

    def check(self, step: str) -> None:
        """Raise if the operation must not go on with ``step``.

        :raises OperationCancelled: somebody cancelled it
        :raises DeadlineExceeded: the time is over
        """
        if self.cancelled:
            raise exception.OperationCancelled(step=step)
        if now() >= self.at:
            raise exception.DeadlineExceeded(step=step)
