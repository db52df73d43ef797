# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Wait for what the kernel reports, with no polling and nothing missed."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os
import select
import threading
from typing import Protocol
from typing import TypeVar

from oslo_log import log as logging

from attachworker import deadline as deadlines

LOG = logging.getLogger(__name__)

T = TypeVar('T')
Uevent = dict[str, str]


class UeventSource(Protocol):
    """Where uevents come from: the kernel, or a simulated one."""

    def fileno(self) -> int:
        """Readable when there is something to receive."""

    def receive(self) -> Uevent | None:
        """The next uevent; None when there is no more for now.

        :raises OSError: ENOBUFS when uevents were lost
        """

    def close(self) -> None: ...


class UeventMonitor:
    """One thread that receives uevents and wakes whoever waits for them.

    :param fallback_interval: seconds after which a waiter looks again even
        without an event, should one have been lost
    """

    def __init__(
        self, source: UeventSource, fallback_interval: float = 1.0
    ) -> None:
        self._source = source
        self._fallback_interval = fallback_interval
        self._lock = threading.Lock()
        #: What is set for each waiter, and which uevents matter to it.
        self._waiters: dict[threading.Event, Callable[[Uevent], bool]] = {}
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._run, name='uevents', daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._source.close()
        os.close(self._stop)

    def wait_for(
        self,
        look: Callable[[], T | None],
        relevant: Callable[[Uevent], bool],
        deadline: deadlines.Deadline,
    ) -> T | None:
        """What ``look`` finds, as soon as it finds something but None.

        ``look`` is asked at once, after each relevant uevent, and now and
        then in case one was lost. It is the truth; uevents are only hints.

        :returns: None when the deadline has passed
        """
        with self._subscribed(relevant) as signal:
            while True:
                found = look()
                if found is not None or deadline.passed:
                    return found
                signal.wait(min(self._fallback_interval, deadline.remaining()))
                signal.clear()

    @contextlib.contextmanager
    def _subscribed(
        self, relevant: Callable[[Uevent], bool]
    ) -> Iterator[threading.Event]:
        signal = threading.Event()
        with self._lock:
            self._waiters[signal] = relevant
        try:
            yield signal
        finally:
            with self._lock:
                del self._waiters[signal]

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._source.fileno(), select.POLLIN)
        stopped = select.poll()
        stopped.register(self._stop, select.POLLIN)
        told = ''
        while True:
            ready = dict(poll.poll())
            if self._stop in ready:
                return
            try:
                self._receive_all()
                told = ''
            except Exception as error:
                # Whatever it is may pass: the next one is received again.
                if told != str(error):
                    self._report(error)
                told = str(error)
                self._wake(None)
                if stopped.poll(self._fallback_interval * 1000):
                    return

    def _report(self, error: Exception) -> None:
        LOG.error(
            'Uevents cannot be received (%s); meanwhile devices are looked '
            'for every %.1f s',
            error,
            self._fallback_interval,
            exc_info=not isinstance(error, OSError),
        )

    def _receive_all(self) -> None:
        """Drain the source; after an overrun everybody looks again.

        The overrun shows as POLLERR and as one failing receive; the socket
        goes on working after that, which pyudev's own observer misses.
        """
        while True:
            try:
                event = self._source.receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                LOG.info('Uevents were lost; looking at everything again')
                self._wake(None)
                continue
            if event is None:
                return
            self._wake(event)

    def _wake(self, event: Uevent | None) -> None:
        """Wake who waits for an event; None: whoever waits."""
        with self._lock:
            for signal, relevant in self._waiters.items():
                if event is None or relevant(event):
                    signal.set()
