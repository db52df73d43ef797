# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


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
