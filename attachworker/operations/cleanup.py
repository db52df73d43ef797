# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Goes on with what a failed attach could not put back in time."""

from collections.abc import Callable
import dataclasses
import math
import threading

from attachworker import deadline as deadlines
from attachworker.dispatcher import Dispatcher

#: Seconds before the second attempt; doubled after each.
_FIRST = 1.0
_LONGEST = 60.0


@dataclasses.dataclass
class _Job:
    attachment_id: str
    run: Callable[[], None]
    backend: str = 'cleanup'
    expires: float = math.inf

    def expire(self) -> None:
        """It has no deadline."""

    def hurry(self) -> None:
        """It waits for nothing that it could leave out."""


class Cleanup:
    """Tries again with growing pauses until nothing is left.

    Attempts run as jobs of the attachment, never beside its operations.

    :param clean: puts back what is left of an attachment; True once there is
        nothing to do any more
    """

    def __init__(
        self, dispatcher: Dispatcher, clean: Callable[[str], bool]
    ) -> None:
        self._dispatcher = dispatcher
        self._clean = clean
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name='cleanup', daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def later(self, attachment_id: str) -> None:
        """Have an attachment cleaned up, soon and then ever less often."""
        with self._changed:
            pause = self._pauses.get(attachment_id, _FIRST)
            self._pauses[attachment_id] = min(2 * pause, _LONGEST)
            self._due[attachment_id] = deadlines.now() + pause
            self._changed.notify_all()

    def pending(self) -> int:
        """How many attachments are not clean yet."""
        with self._changed:
            return len(self._pauses)

    def _run(self) -> None:
        while (attachment_id := self._next()) is not None:
            self._dispatcher.add(self._job(attachment_id))

    def _next(self) -> str | None:
        with self._changed:
            while not self._stopped:
                first = min(self._due, key=self._due.__getitem__, default=None)
                if first is None:
                    self._changed.wait()
                elif (pause := self._due[first] - deadlines.now()) > 0:
                    self._changed.wait(pause)
                else:
                    del self._due[first]
                    return first
        return None

    def _job(self, attachment_id: str) -> _Job:
        def run() -> None:
            if self._clean(attachment_id):
                with self._changed:
                    self._pauses.pop(attachment_id, None)
            else:
                self.later(attachment_id)

        return _Job(attachment_id, run)
