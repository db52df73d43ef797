# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every look of this process at the host passes here, and one of them fails.

The looks are the system calls that name something below the root of the
host, and the privileged verbs. Nobody lists them: they are what a run makes.
"""

import builtins
import collections
from collections.abc import Callable
import functools
import io
import os
import pathlib
import re
import threading
from typing import Any

from tests.simulator import verbs as verb_names

#: What may go wrong with any of them.
NUMBERS = ('EMFILE', 'EIO', 'ENOMEM', 'EACCES')

_CALLS = ('open', 'stat', 'lstat', 'listdir', 'scandir', 'readlink')
#: What differs between two runs that do the same.
_CHANGING = (
    (re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'), 'UUID'),
    (re.compile(r'\bsd[a-z]+'), 'sdX'),
    (re.compile(r'\d+'), 'N'),
)


class Reads:
    """The looks of this process.

    :param root: of the host
    """

    def __init__(self, root: pathlib.Path) -> None:
        self._root = f'{root}/'
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._passed: list[str] = []
        self._counting = False
        self._fatal: str | None = None
        self._number = 0
        self._struck = False

    def begin(self, fatal: str | None, number: int) -> None:
        """Looks count from now on.

        :param fatal: the one that fails; None: none does
        :param number: its errno
        """
        with self._lock:
            self._counts.clear()
            self._passed = []
            self._fatal, self._number = fatal, number
            self._struck = False
            self._counting = True

    def end(self) -> tuple[bool, list[str]]:
        """Whether one has failed, and all that there were."""
        with self._lock:
            self._counting = False
            return self._struck, self._passed

    def passed(self, label: str) -> None:
        """:raises OSError: this is the one"""
        if not self._counting:
            return
        for pattern, name in _CHANGING:
            label = pattern.sub(name, label)
        with self._lock:
            self._counts[label] += 1
            point = f'{label} #{self._counts[label]}'
            self._passed.append(point)
            if point != self._fatal or self._struck:
                return
            self._struck = True
        raise OSError(self._number, f'{os.strerror(self._number)} (injected)')

    def install(self) -> None:
        """Have the system calls of this process pass, for good."""
        for name in _CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        io.open = builtins.open = self._around('open', builtins.open)

    def _around(self, name: str, function: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if self._counting and arguments:
                place = arguments[0]
                if isinstance(place, str | bytes | os.PathLike):
                    path = os.fsdecode(place)
                    if path.startswith(self._root):
                        self.passed(f'{name} {path[len(self._root) :]}')
            return function(*arguments, **options)

        return wrapper


class ReadVerbs:
    """The same verbs; each passes before it begins."""

    def __init__(self, verbs: Any, reads: Reads) -> None:
        for group in {one.partition('.')[0] for one in verb_names.SIGNATURES}:
            setattr(self, group, _Group(group, verbs, reads))


class _Group:
    def __init__(self, name: str, verbs: Any, reads: Reads) -> None:
        self._name = name
        self._verbs = verbs
        self._reads = reads

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = f'{self._name}.{name}'
        if verb not in verb_names.SIGNATURES:
            raise AttributeError(name)
        function = verb_names.function(self._verbs, verb)

        def call(*arguments: Any) -> Any:
            self._reads.passed(f'verb {verb}')
            return function(*arguments)

        return call
