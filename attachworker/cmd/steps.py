# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What workers notify of, live."""

from collections.abc import Callable
from collections.abc import Mapping
import json
import shutil
import threading
import time
from typing import Any
from typing import Self
from typing import TextIO
import uuid

from oslo_log import log

from attachworker import exception
from attachworker.bus import transport as bus
from attachworker.cmd import tables

LOG = log.getLogger(__name__)

#: Seconds that the first step may wait for this listener.
_START_TIMEOUT = 2.0
#: Seconds in which a broker that is there is reached.
_CONNECT_TIMEOUT = 10.0
#: Seconds between looks at whether to stop: more than a worker takes to notice
#: that somebody listens.
_TICK = 0.4
#: Seconds after which the broker forgets the queue of a watcher that died.
_QUEUE_EXPIRES = 60
#: Has a terminal clear the line that it is at, to its end.
_CLEAR_LINE = '\033[K'


def step(payload: Mapping[str, Any]) -> str:
    """A line for one step: how long it took, what it was, how it ended."""
    elapsed = payload.get('elapsed')
    seconds = f'{elapsed:8.3f} s' if isinstance(elapsed, float) else ' ' * 10
    parts = (payload.get(name) for name in ('step', 'status', 'error'))
    return ' '.join(
        [seconds, *(tables.one_line(part) for part in parts if part)]
    )


class Screen:
    """Shows lines on a terminal, each in the place of the one before.

    :param keep: below each other instead
    """

    def __init__(self, output: TextIO, keep: bool) -> None:
        self._output = output
        self._keep = keep
        self._lock = threading.Lock()
        self._shown = False

    def show(self, line: str) -> None:
        with self._lock:
            if self._keep:
                print(line, file=self._output, flush=True)
                return
            most = shutil.get_terminal_size().columns - 1
            print(
                f'\r{_CLEAR_LINE}{line[:most]}',
                end='',
                file=self._output,
                flush=True,
            )
            self._shown = True

    def clear(self) -> None:
        """Take away what is shown, for what comes next."""
        with self._lock:
            if self._shown:
                print(
                    f'\r{_CLEAR_LINE}', end='', file=self._output, flush=True
                )
                self._shown = False


def watch(
    transport: Any, host: str | None, as_json: bool, timeout: float | None
) -> None:
    """Print notifications, a line each, as they come.

    :param host: of whose worker; None: of all.
    :param timeout: seconds; None: for ever.
    :raises BusUnavailable: there is no broker.
    """

    def show(event: str, payload: Mapping[str, Any]) -> None:
        if host is not None and payload.get('host') != host:
            return
        if as_json:
            print(json.dumps({'event_type': event, **payload}), flush=True)
            return
        names = [] if host else [payload.get('host')]
        words = [*names, payload.get('attachment_id') or '-', event]
        print(
            time.strftime('%H:%M:%S'),
            *map(tables.one_line, words),
            step(payload).strip(),
            flush=True,
        )

    with StepWatcher(transport, show) as watcher:
        if not watcher.listens(_CONNECT_TIMEOUT):
            raise exception.BusUnavailable(
                f'the broker at {bus.addresses(transport)} is not reached '
                f'({watcher.failed or "no answer"})'
            )
        watcher.wait(timeout)


class StepWatcher:
    """Passes on all notifications, while in use.

    oslo.messaging's own listener shares one queue with all other listeners,
    or leaves one behind that fills up for ever. This one has a queue that
    goes away with it. Without a broker there are no steps, and no error.

    :param transport: any transport of the bus.
    :param show: called with each event_type and payload (request_id,
        attachment_id, host, step, elapsed, status, error), from a thread of
        its own.
    :ivar failed: why nothing is passed on, if so.
    """

    def __init__(
        self, transport: Any, show: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        self._transport = transport
        self._show = show
        self.failed: Exception | None = None
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='steps', daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(_START_TIMEOUT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(_START_TIMEOUT)

    def listens(self, timeout: float) -> bool:
        """Whether it does, after so many seconds at most."""
        return self._ready.wait(timeout) and self.failed is None

    def wait(self, timeout: float | None) -> None:
        """Go on for so many seconds; None: for ever."""
        self._stop.wait(timeout)

    def _run(self) -> None:
        try:
            with bus.notifications(
                self._transport,
                f'attachctl_{uuid.uuid4()}',
                _QUEUE_EXPIRES,
                self._receive,
            ) as wait:
                # The queue exists: nothing is missed from here on.
                self._ready.set()
                self._consume(wait)
        except Exception as error:  # no steps is no reason to fail
            LOG.debug('No live steps.', exc_info=True)
            self.failed = error
        finally:
            self._ready.set()

    def _consume(self, wait: Callable[[float], bool]) -> None:
        stopping = False
        while True:
            if not wait(_TICK):
                if stopping:
                    return
                # One more turn: the last steps may be on their way.
                stopping = self._stop.is_set()

    def _receive(self, message: Any) -> None:
        message.acknowledge()
        payload = message.get('payload')
        if isinstance(payload, Mapping):
            self._show(str(message.get('event_type')), payload)
