# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Points at which a worker can be killed, found by letting it pass them.

Nobody lists them: they are the tasks of the flows, the privileged verbs and
the writes of the journal that a run really comes to.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import os
import pathlib
import signal
import sys
import threading
from typing import Any

from attachworker.journal import database
from attachworker.tasks import base
from tests.simulator import verbs as verb_names

#: Has a verb begin; returns once it has, and before it has ended.
Begin = Callable[[str, Callable[[], Any]], None]


class Points:
    """Writes down what is passed, and kills this process at one of them.

    :param log: a line for each point, on the disk before anything follows
    :param fatal: where to die; None: nowhere
    :param names: what differs between runs, and what stands for it
    """

    def __init__(
        self, log: pathlib.Path, fatal: str | None, names: dict[str, str]
    ) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._fatal = fatal
        self._names = names
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._counting = False

    def begin(self) -> None:
        """What is passed from now on counts."""
        self._counting = True

    def passed(self, label: str) -> None:
        if not self._counting:
            return
        for text, name in self._names.items():
            label = label.replace(text, name)
        with self._lock:
            self._counts[label] += 1
            point = f'{label} #{self._counts[label]}'
            os.write(self._log, f'{point}\n'.encode())
            if point == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def is_next(self, label: str) -> bool:
        """Whether this process dies when it passes this now."""
        with self._lock:
            point = f'{label} #{self._counts[label] + 1}'
            return self._counting and point == self._fatal


class Verbs:
    """The same verbs, each with a point before, during and after it.

    One that changes nothing has a point before it.
    """

    def __init__(self, verbs: Any, points: Points, begin: Begin) -> None:
        names = verb_names.SIGNATURES
        for group in {name.partition('.')[0] for name in names}:
            setattr(self, group, _Group(verbs, points, begin, group))


class _Group:
    def __init__(
        self,
        verbs: Any,
        points: Points,
        begin: Begin,
        name: str,
    ) -> None:
        self._verbs = verbs
        self._points = points
        self._begin = begin
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = f'{self._name}.{name}'
        if verb not in verb_names.SIGNATURES:
            raise AttributeError(name)
        return functools.partial(self._call, verb)

    def _call(self, verb: str, /, *positional: Any, **keywords: Any) -> Any:
        points = self._points
        function = verb_names.function(self._verbs, verb)
        points.passed(f'{verb} before')
        if verb in verb_names.READ_ONLY:
            # killed after it, one finds what it finds before
            return function(*positional, **keywords)
        if points.is_next(f'{verb} during'):
            self._begin(
                verb, functools.partial(function, *positional, **keywords)
            )
        points.passed(f'{verb} during')
        result = function(*positional, **keywords)
        points.passed(f'{verb} after')
        return result


def install(points: Points) -> None:
    """Have the tasks and the journal of this process pass points, for good."""
    for task in _subclasses(base.Task):
        for name in ('execute', 'revert'):
            if name in vars(task):
                setattr(task, name, _around(vars(task)[name], points))
    database.Database.transaction = _transaction(points)


def _subclasses(of: type) -> Iterator[type]:
    for each in of.__subclasses__():
        yield each
        yield from _subclasses(each)


def _around(function: Any, points: Points) -> Any:
    # TaskFlow looks through to the arguments of the function itself.
    @functools.wraps(function)
    def wrapper(self: base.Task, *args: Any, **kwargs: Any) -> Any:
        step = f'{self.name} {function.__name__}'
        points.passed(f'{step} before')
        result = function(self, *args, **kwargs)
        points.passed(f'{step} after')
        return result

    return wrapper


def _transaction(points: Points) -> Any:
    original = database.Database.transaction

    def transaction(self: database.Database, lasting: bool = True) -> Any:
        caller = sys._getframe(1)
        if caller.f_code.co_name.startswith('_') and caller.f_back is not None:
            caller = caller.f_back
        return written(self, lasting, caller.f_code.co_qualname)

    @contextlib.contextmanager
    def written(
        self: database.Database, lasting: bool, name: str
    ) -> Iterator[Any]:
        with original(self, lasting) as connection:
            yield connection
            points.passed(f'journal {name} before commit')
        points.passed(f'journal {name} after commit')

    return transaction
