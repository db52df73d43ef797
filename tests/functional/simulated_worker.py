# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The daemon on a simulated host that runs already.

``python -m tests.functional.simulated_worker ROOT [OPTIONS OF THE DAEMON]``
"""

import datetime
import os
import pathlib
import signal
import sys
import threading
import types
from typing import Any

from attachworker.bus import server
from attachworker.cmd import worker
from attachworker.host import Host
from attachworker.journal import database
from attachworker.worker import dispatcher
from attachworker.worker import intake
from attachworker.worker import service
from tests.simulator import client

_accept = server.RequestAcceptance.accept


def _accept_and_die(*arguments: Any) -> Any:
    outcome = _accept(*arguments)
    if outcome is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome


class _Clock(datetime.datetime):
    """Is off by so many seconds as a file says."""

    path: pathlib.Path

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        off = datetime.timedelta(seconds=int(cls.path.read_text() or '0'))
        return super().now(tz) + off


class _HangingDispatcher(dispatcher.Dispatcher):
    """Holds its lock for ever once there is something to do."""

    def add(self, job: dispatcher.Job) -> None:
        with self._lock:
            threading.Event().wait()


def main(root: pathlib.Path, arguments: list[str]) -> int:
    """Run the daemon; only what it knows of the machine is not real."""

    def simulated() -> Host:
        return Host(root, client.Verbs(root), client.UeventSource(root))

    if 'DIES_BEFORE_ACKNOWLEDGING' in os.environ:
        server.RequestAcceptance.accept = _accept_and_die
    if 'CLOCK' in os.environ:
        _Clock.path = pathlib.Path(os.environ['CLOCK'])
        wrong = types.SimpleNamespace(**vars(datetime) | {'datetime': _Clock})
        database.datetime = intake.datetime = wrong
    if 'DISPATCHER_HANGS' in os.environ:
        service.Dispatcher = _HangingDispatcher
    service.start_helper = lambda conf: None
    service.this_host = simulated
    return worker.main(arguments)


if __name__ == '__main__':
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
