# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Uevents to every socket in a directory, like the kernel's netlink."""

import collections
import itertools
import pathlib
import queue
import socket
import stat
import threading
import time

from tests.simulator import faults
from tests.simulator import wire

#: Uevents that wait for one receiver before there is an overrun, about as
#: many as fit a netlink socket's default buffer.
_BUFFER = 256


class _Receiver:
    """Sends to one socket, in a thread that may block for its sake.

    A Unix socket takes no more than ten unread datagrams by default.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._waiting: collections.deque[bytes | None] = collections.deque()
        self.gone = False
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        with self._changed:
            self._waiting.append(None)
            self._changed.notify()

    def put(self, data: bytes) -> None:
        with self._changed:
            if len(self._waiting) < _BUFFER:
                self._waiting.append(data)
            else:
                self._waiting[-1] = wire.dump({wire.OVERRUN: '1'})
            self._changed.notify()

    def _run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    data = self._waiting.popleft()
                if data is None:
                    return
                try:
                    sender.sendto(data, str(self._path))
                except OSError:
                    # closed, or its process was killed
                    self.gone = True
                    self._path.unlink(missing_ok=True)
                    return


class Uevents:
    """The sender; never blocks, keeps the order.

    :param directory: where receivers put their sockets
    """

    def __init__(
        self, directory: pathlib.Path, plan: faults.FaultPlan
    ) -> None:
        self._directory = directory
        self._plan = plan
        self._lock = threading.Lock()
        self._numbers = itertools.count(1000)
        self._receivers: dict[str, _Receiver] = {}
        self._late: queue.SimpleQueue[tuple[float, bytes]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._deliver_late, daemon=True).start()

    def emit(
        self, action: str, subsystem: str, devpath: str, **more: str
    ) -> None:
        """Send a uevent to whoever listens now.

        :param devpath: below /sys, as the kernel gives it
        """
        event = {
            'ACTION': action,
            'DEVPATH': devpath,
            'SUBSYSTEM': subsystem,
            **more,
            'SEQNUM': str(next(self._numbers)),
        }
        data = wire.dump(event)
        fault = self._plan.take(faults.EVENTS, '', event)
        if fault is None:
            self._send(data)
        elif fault.kind is faults.Fault.OVERRUN:
            self._send(wire.dump({wire.OVERRUN: '1'}))
        elif fault.kind is faults.Fault.LATE_EVENTS:
            self._late.put((time.monotonic() + fault.seconds, data))

    def _deliver_late(self) -> None:
        while True:
            due, data = self._late.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._send(data)

    def _send(self, data: bytes) -> None:
        with self._lock:
            paths = list(filter(self._is_socket, self._directory.iterdir()))
            for path in paths:
                receiver = self._receivers.get(path.name)
                if receiver is None or receiver.gone:
                    receiver = self._receivers[path.name] = _Receiver(path)
                receiver.put(data)
            for name in self._receivers.keys() - {p.name for p in paths}:
                self._receivers.pop(name).close()

    @staticmethod
    def _is_socket(path: pathlib.Path) -> bool:
        try:
            return stat.S_ISSOCK(path.stat().st_mode)
        except FileNotFoundError:
            return False
