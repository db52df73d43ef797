# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Goes on with what a failed attach could not put back in time."""

from collections.abc import Callable
import dataclasses
import math
import threading

from attachworker.dispatcher import Dispatcher

#: Seconds before the second attempt; doubled after each.
_FIRST = 1.0
_LONGEST = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    attachment_id: str
    run: Callable[[], None]
    backend: str = 'cleanup'
    expires: float = math.inf

    @property
    def keys(self) -> frozenset[str]:
        return frozenset({self.attachment_id})

    def expire(self) -> None:
        """It has no deadline."""

    def wrap_up(self) -> None:
        """It waits for nothing that it could leave out."""


class Cleanup:
    """Tries again with growing pauses until nothing is left.

    Attempts run as jobs of the attachment, never beside its operations.

    :param clean: puts back what is left of an attachment; True once there is
        nothing to do any more. Whatever it raises, it is called again
    """

    def __init__(
        self, dispatcher: Dispatcher, clean: Callable[[str], bool]
    ) -> None:
        self._dispatcher = dispatcher
        self._clean = clean
        self._lock = threading.Lock()
        self._pauses: dict[str, float] = {}

    def later(self, attachment_id: str) -> None:
        """Have an attachment cleaned up, soon and then ever less often."""
        with self._lock:
            known = attachment_id in self._pauses
            self._pauses[attachment_id] = _FIRST
        if not known:  # otherwise it is waiting for its turn already
            self._add(attachment_id, _FIRST)

    def now(self, attachment_id: str) -> None:
        """Have an attachment cleaned up, before what comes after."""
        self._dispatcher.add(self._job(attachment_id))

    def pending(self) -> int:
        """How many attachments are not clean yet."""
        with self._lock:
            return len(self._pauses)

    def _add(self, attachment_id: str, pause: float) -> None:
        self._dispatcher.add_later(self._job(attachment_id), pause)

    def _job(self, attachment_id: str) -> _Job:
        return _Job(attachment_id, lambda: self._attempt(attachment_id))

    def _attempt(self, attachment_id: str) -> None:
        clean = False
        try:
            clean = self._clean(attachment_id)
        finally:
            self._attempted(attachment_id, clean)

    def _attempted(self, attachment_id: str, clean: bool) -> None:
        with self._lock:
            pause = self._pauses.pop(attachment_id, _FIRST)
            if clean:
                return
            self._pauses[attachment_id] = min(2 * pause, _LONGEST)
        self._add(attachment_id, pause)
