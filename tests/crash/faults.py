# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Runs that fail at a chosen step, one of four ways."""

import enum
import threading

from attachworker.tasks.run import Run


class Mode(enum.Enum):
    """How a step goes wrong."""

    RAISES_BEFORE = 'raises before its side effect'
    RAISES_AFTER = 'raises after its side effect'
    HANGS = 'hangs past the deadline'
    EXPIRES = 'ends when the deadline has passed'


class InjectedError(RuntimeError):
    """No error of ours: what a bug in a step would raise."""


class FailingRun(Run):
    """Base of the runs made here."""

    step: str | None = None

    @classmethod
    def arm(cls, step: str) -> None:
        """The next atom of this class goes wrong, and no other."""
        cls.step = step


def failing(mode: Mode) -> type[FailingRun]:
    """A Run in which the step that is armed goes wrong."""
    lock = threading.Lock()

    class Failing(FailingRun):
        def _is_it(self, name: str) -> bool:
            cls = type(self)
            with lock:
                found = name.partition(':')[0] == cls.step
                if found:
                    cls.step = None
                return found

        def _overrun(self) -> None:
            # However slow the machine is, no earlier step runs out of time.
            self.deadline = self.deadline.sooner(0.0)

        def before(self, name: str) -> None:
            if mode is Mode.HANGS and self._is_it(name):
                self._overrun()
            if mode is Mode.RAISES_BEFORE and self._is_it(name):
                raise InjectedError(name)
            super().before(name)

        def after(self, name: str) -> None:
            if mode is Mode.EXPIRES and self._is_it(name):
                self._overrun()
            if mode is Mode.RAISES_AFTER and self._is_it(name):
                raise InjectedError(name)
            super().after(name)

    return Failing
