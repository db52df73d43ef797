# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker in a process of its own, which dies as it is told.

It is forked off a server that has imported everything, so that one costs
milliseconds.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import gc
import multiprocessing
import os
import pathlib
import signal
import sqlite3
from typing import Any

from attachworker import host as hosts
from tests import harness
from tests.crash import kill_points

#: Seconds until a worker that is not killed has ended by itself.
_PATIENCE = 60.0

#: Forked off a server that has imported all that a worker needs.
PROCESSES = multiprocessing.get_context('forkserver')
#: What a worker, and libraries that it uses, import only when it runs
_LATE_IMPORTS = [
    'attachworker.connectors.fibre_channel',
    'attachworker.connectors.iscsi',
    'attachworker.connectors.local',
    'attachworker.connectors.mounts',
    'attachworker.connectors.nvmeof',
    'attachworker.connectors.rbd',
    'concurrent.futures.thread',
    'kombu.transport.memory',
    'oslo_messaging.notify.messaging',
    'taskflow.engines.action_engine.engine',
    'taskflow.persistence.backends.impl_memory',
]
PROCESSES.set_forkserver_preload(['pytest', __name__, *_LATE_IMPORTS])


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker is to do; goes to another process.

    :ivar make_host: the machine, with these points around its verbs
    :ivar state: its state directory
    :ivar act: asks it for something, and returns when it is done
    :ivar recovers: whether the start of the worker counts, too
    :ivar names: see :class:`tests.crash.kill_points.Points`
    """

    make_host: Callable[[kill_points.Points], hosts.Host]
    state: pathlib.Path
    act: Callable[[harness.Harness], Any]
    recovers: bool = False
    names: dict[str, str] = dataclasses.field(default_factory=dict)


def run(order: Order, fatal: str | None = None) -> tuple[bool, list[str]]:
    """Have a worker do something, and be killed on the way.

    :returns: whether it was killed, and the points that it passed
    :raises AssertionError: it ended otherwise than it should
    """
    log = order.state / 'points'
    process = PROCESSES.Process(target=_work, args=(order, log, fatal))
    process.start()
    process.join(_PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f'the worker hangs\n{_words(order)}')
    killed = process.exitcode == -signal.SIGKILL
    assert killed or process.exitcode == 0, _words(order)
    return killed, log.read_text().splitlines()


def _words(order: Order) -> str:
    return (order.state / 'stderr').read_text()[-4000:]


def _work(order: Order, log: pathlib.Path, fatal: str | None) -> None:
    output = os.open(
        order.state / 'stderr', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    os.dup2(output, 2)
    # The collector would touch, and so copy, all memory of the server.
    gc.freeze()
    points = kill_points.Points(log, fatal, order.names)
    kill_points.install(points)
    worker = make_worker(order.make_host(points), order.state)
    if order.recovers:
        points.begin()
    with worker:
        points.begin()
        order.act(worker)


def make_worker(host: hosts.Host, state: pathlib.Path) -> harness.Harness:
    """A worker, made and not yet started."""
    iscsi = {'login_timeout': 5, 'scan_attempts': 2, 'device_timeout': 10}
    return harness.Harness(None, host=host, state_path=state, iscsi=iscsi)


def journal(state: pathlib.Path, query: str, *values: str) -> list[Any]:
    """Rows of the journal of a worker, which may be running."""
    path = state / 'journal.sqlite'
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, values).fetchall()
