# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Something that goes wrong once, or for a while, at a chosen time."""

from collections.abc import Iterator
import contextlib
import sqlite3
import threading
from typing import Any

from attachworker.journal import Database


class Once:
    """Counts what is passed, and has one of that go wrong.

    :param times: how many one after another go wrong, from that one on
    :ivar passed: names, in their order, since it was armed
    """

    def __init__(self, times: int = 1) -> None:
        self._lock = threading.Lock()
        self._times = times
        self._number: int | None = None
        self._armed = False
        self.passed: list[str] = []

    def arm(self, number: int | None) -> None:
        """:param number: which one goes wrong, from 1; None: none, yet"""
        with self._lock:
            self._number, self.passed, self._armed = number, [], True

    def disarm(self) -> None:
        with self._lock:
            self._armed = False

    def strikes(self, name: str) -> bool:
        """Whether it is this one that goes wrong."""
        with self._lock:
            if not self._armed:
                return False
            self.passed.append(name)
            number = self._number
            return (
                number is not None
                and 0 <= len(self.passed) - number < self._times
            )

    @property
    def has_struck(self) -> bool:
        with self._lock:
            return (
                self._number is not None and len(self.passed) >= self._number
            )


@contextlib.contextmanager
def writes(times: int = 1) -> Iterator[Once]:
    """A write of the journal that fails, of whichever journal there is."""
    once = Once(times)
    original = Database.transaction

    @contextlib.contextmanager
    def transaction(self: Database, lasting: bool = True) -> Iterator[Any]:
        strikes = once.strikes('write')
        with original(self, lasting) as connection:
            yield connection
            if strikes:
                raise sqlite3.OperationalError('disk I/O error')

    Database.transaction = transaction
    try:
        yield once
    finally:
        Database.transaction = original


@contextlib.contextmanager
def threads() -> Iterator[Once]:
    """A thread that cannot be started."""
    once = Once()
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if once.strikes(self.name):
            raise RuntimeError("can't start new thread")
        original(self)

    threading.Thread.start = start
    try:
        yield once
    finally:
        threading.Thread.start = original
