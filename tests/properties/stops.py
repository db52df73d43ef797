# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker in a process of its own, which stops wherever it is told to.

Its points are the beginning and the end of each step, and the beginning of
each privileged verb that changes the host. Whoever has started it is told of
each thread that has come to one, and lets it go on.
"""

from collections.abc import Callable
import dataclasses
import functools
import gc
import itertools
import logging
from multiprocessing import connection as connections
import os
import pathlib
import threading
from typing import Any

from attachworker import host as hosts
from attachworker import objects
from attachworker.tasks.run import Run
from tests import harness
from tests.properties import failing_reads
from tests.simulator import client
from tests.simulator import verbs as verb_names

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Stopped:
    """A thread has come to a point.

    :ivar actor: the attachment whose step it is; empty: a verb, of whomever
    """

    number: int
    actor: str
    label: str


@dataclasses.dataclass(frozen=True)
class Answered:
    """What a call has returned, as a dict where it is an object."""

    number: int
    result: Any


@dataclasses.dataclass(frozen=True)
class Raised:
    """What a call has raised: the name of its class, and its text."""

    number: int
    kind: str
    text: str


#: The worker takes requests.
READY = 'ready'


class Points:
    """The points of this process."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopped: dict[int, threading.Event] = {}
        self._closed = False

    def come(self, actor: str, label: str) -> None:
        """Stop here, if threads are to, until told to go on."""
        with self._changed:
            if not self._closed:
                return
            number = next(self._numbers)
            go = self._stopped[number] = threading.Event()
        self._tell(Stopped(number, actor, label))
        go.wait()

    def close(self) -> None:
        """From now on threads stop."""
        with self._changed:
            self._closed = True

    def open(self) -> None:
        """From now on they do not, and those that have stopped go on."""
        with self._changed:
            self._closed = False
            for go in self._stopped.values():
                go.set()
            self._stopped.clear()

    def go(self, number: int) -> None:
        with self._changed:
            go = self._stopped.pop(number, None)
        if go is not None:
            go.set()


class StoppingVerbs:
    """The verbs of a machine; those that change it begin at a point."""

    def __init__(self, verbs: Any, points: Points) -> None:
        for group in {
            name.partition('.')[0] for name in verb_names.SIGNATURES
        }:
            setattr(self, group, _Group(group, verbs, points))


class _Group:
    def __init__(self, name: str, verbs: Any, points: Points) -> None:
        self._name = name
        self._verbs = verbs
        self._points = points

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = f'{self._name}.{name}'
        if verb not in verb_names.SIGNATURES:
            raise AttributeError(name)
        function = verb_names.function(self._verbs, verb)
        if verb in verb_names.READ_ONLY:
            return function
        return functools.partial(self._call, verb, function)

    def _call(self, verb: str, function: Any, /, *arguments: Any) -> Any:
        shown = [str(one) for one in arguments if isinstance(one, str | int)]
        self._points.come('', f'{verb}({", ".join(shown)})')
        return function(*arguments)


def stopping_run(points: Points) -> type[Run]:
    class StoppingRun(Run):
        def before(self, step: str) -> None:
            points.come(self.name, f'{step} begins')
            super().before(step)

        def after(self, step: str) -> None:
            points.come(self.name, f'{step} ends')
            super().after(step)

    return StoppingRun


@dataclasses.dataclass(frozen=True)
class Order:
    """A worker; goes to another process.

    :ivar root: of the host
    :ivar state: directory of its journal
    :ivar closed: whether its threads stop at points while it starts
    :ivar fatal: the look at the host that fails while it starts, and with
        which errno; None: they are not counted
    :ivar options: of the group iscsi
    """

    root: pathlib.Path
    state: pathlib.Path
    closed: bool = False
    fatal: tuple[str | None, int] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def serve(connection: connections.Connection, order: Order) -> None:
    """Run a worker until the other end of the connection is closed."""
    lock = threading.Lock()

    def tell(message: Any) -> None:
        with lock:
            try:
                connection.send(message)
            except OSError:
                os._exit(0)

    output = os.open(
        order.state / 'log', os.O_WRONLY | os.O_CREAT | os.O_APPEND
    )
    os.dup2(output, 2)
    # The collector would touch, and so copy, all memory of the server.
    gc.freeze()
    points = Points(tell)
    if order.closed:
        points.close()
    reads = failing_reads.Reads(order.root)
    reads.install()
    _Server(tell, points, reads, order).serve(connection)


class _Server:
    def __init__(
        self,
        tell: Callable[[Any], None],
        points: Points,
        reads: failing_reads.Reads,
        order: Order,
    ) -> None:
        self._tell = tell
        self._points = points
        self._reads = reads
        self._order = order

    def serve(self, connection: connections.Connection) -> None:
        threading.Thread(target=self._start, daemon=True).start()
        while True:
            try:
                name, *arguments = connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if name == 'call':
                threading.Thread(
                    target=self._call, args=arguments, daemon=True
                ).start()
            else:
                getattr(self._points, name)(*arguments)

    def _start(self) -> None:
        try:
            self._make_worker()
        except Exception:
            LOG.exception('The worker does not start')
            os._exit(1)
        self._tell(READY)

    def _make_worker(self) -> None:
        order = self._order
        verbs = failing_reads.ReadVerbs(client.Verbs(order.root), self._reads)
        if order.fatal is not None:
            self._reads.begin(*order.fatal)
        host = hosts.Host(
            order.root,
            StoppingVerbs(verbs, self._points),
            client.UeventSource(order.root),
        )
        self._worker = harness.Harness(
            None,
            host=host,
            state_path=order.state,
            run_class=stopping_run(self._points),
            iscsi=order.options,
        )
        self._worker.__enter__()

    def _call(self, number: int, method: str, values: Any) -> None:
        try:
            result = self._result(method, values)
        except Exception as error:
            self._tell(Raised(number, type(error).__name__, str(error)))
        else:
            self._tell(Answered(number, _plain(result)))

    def _result(self, method: str, values: Any) -> Any:
        if method.startswith('reads.'):
            act = getattr(self._reads, method.removeprefix('reads.'))
            return act(*(values or ()))
        arguments = [values] if values is not None else []
        if isinstance(values, dict):
            kind = method.partition('_')[0].capitalize()
            arguments = [getattr(objects, f'{kind}Request')(**values)]
        api = self._worker.api
        return getattr(api, method)({}, self._worker.name, *arguments)


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(one) for one in result]
    return result.as_dict() if hasattr(result, 'as_dict') else result
