# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Signs of life for callers that wait, all from one thread.

Who calls with monitoring gives a worker up that is silent for longer than the
call says. oslo.messaging has a thread for each such call.
"""

import dataclasses
import heapq
import itertools
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines

LOG = logging.getLogger(__name__)

#: Seconds. Whoever wants them more often does not get any.
_SHORTEST = 2
#: Signs above which those of answered calls are looked for and dropped.
_MANY = 1024


@dataclasses.dataclass(eq=False)
class Sign:
    """That of one call; it is told until it is ended.

    :ivar message: an AMQPIncomingMessage of oslo.messaging; None once it is
        ended
    """

    message: Any
    interval: float

    def end(self) -> None:
        """The call has its answer."""
        self.message = None


class SignsOfLife:
    """Sends them in time; a call that has its answer costs nothing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._due: list[tuple[float, int, Sign]] = []
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name='signs of life', daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def begin(self, message: Any) -> Sign:
        """Tell who has sent a message that it is being worked on.

        Its ``client_timeout`` is, as the sender has put it, within how many
        seconds a sign is expected; None: none is.
        """
        if not message.client_timeout:
            return Sign(None, 0.0)
        try:
            timeout = int(message.client_timeout)
        except (TypeError, ValueError, OverflowError):
            timeout = 0
        if timeout < _SHORTEST:
            LOG.warning('A caller wants signs of life at no possible interval')
            return Sign(None, 0.0)
        # Half of the time: the bus takes some, too.
        sign = Sign(message, timeout / 2)
        with self._changed:
            if len(self._due) >= _MANY:
                self._due = [one for one in self._due if one[2].message]
                heapq.heapify(self._due)
            self._push(sign)
            if self._due[0][2] is sign:
                self._changed.notify()
        return sign

    def _push(self, sign: Sign) -> None:
        due = deadlines.now() + sign.interval
        heapq.heappush(self._due, (due, next(self._order), sign))

    def _run(self) -> None:
        while (sign := self._next()) is not None:
            message = sign.message
            if message is None:
                continue
            try:
                message.heartbeat()
            except Exception as error:
                # Nobody is there any more, or will hear of the broker first.
                LOG.debug('A sign of life was not sent: %s', error)
                continue
            with self._changed:
                self._push(sign)

    def _next(self) -> Sign | None:
        """The next one once it is due; None: stopped."""
        with self._changed:
            while not self._stopped:
                if not self._due:
                    self._changed.wait()
                    continue
                remaining = self._due[0][0] - deadlines.now()
                if remaining <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(min(remaining, threading.TIMEOUT_MAX))
        return None
