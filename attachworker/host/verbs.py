# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Calls of privileged verbs that cannot hold up the caller for ever."""

from collections.abc import Callable
import dataclasses
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception

LOG = logging.getLogger(__name__)

#: Seconds in which a verb that is merely slow returns after all: what undoes
#: an operation comes right after its deadline.
MOMENT = 1.0


@dataclasses.dataclass(eq=False)
class Call:
    """A verb that has not returned.

    :ivar name: the verb
    :ivar about: what it acts on: a target or a device
    :ivar since: when it was called, in seconds since boot
    :ivar stuck: whether its caller has given it up
    """

    name: str
    about: str
    since: float
    stuck: bool = False

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return deadlines.now() - self.since


class Verbs:
    """Runs each verb in a thread of its own and waits up to a deadline.

    A verb that is stuck in the kernel costs that thread, nothing else. Until
    it does return it is not started again for the same thing, where it would
    only be stuck as well, and :meth:`check` keeps new requests away.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: list[Call] = []

    def call(
        self,
        verb: Callable[..., Any],
        *arguments: Any,
        name: str,
        about: str,
        deadline: deadlines.Deadline,
    ) -> Any:
        """The verb's result, or whatever it raised.

        :param name: the verb, for messages
        :param about: what it acts on: a target or a device; empty: nothing
            that could be quarantined
        :raises DeadlineExceeded: it has not returned in time; after the
            deadline it is not even started
        :raises OperationCancelled: likewise; one that runs is waited for
        :raises TargetQuarantined: it was not started, because an earlier one
            is stuck there
        :raises HostToolFailed: it was not started, because there is no thread
        """
        deadline.check(f'{name} of {about}')
        if about:
            self._refuse(
                lambda call: (call.name, call.about) == (name, about),
                deadline.sooner(MOMENT),
            )
        outcome: list[Any] = []
        error: list[BaseException] = []
        done = threading.Event()
        call = Call(name, about, deadlines.now())
        with self._changed:
            self._running.append(call)

        def body() -> None:
            try:
                outcome.append(verb(*arguments))
            except BaseException as raised:
                error.append(raised)
            self._returned(call)
            done.set()

        try:
            threading.Thread(target=body, name=name, daemon=True).start()
        except (RuntimeError, MemoryError) as no_thread:
            self._returned(call)
            raise exception.HostToolFailed(
                tool=f'{name} of {about}', reason=str(no_thread)
            ) from no_thread
        # A cancel that comes now starts nothing new, and is no reason to
        # leave what runs.
        until = deadline.extended(0.0)
        if not done.wait(until.remaining()) and self._give_up(call):
            raise exception.DeadlineExceeded(step=f'{name} of {about}')
        if error:
            raise error[0]
        return outcome[0]

    def _give_up(self, call: Call) -> bool:
        """False if it has returned just now."""
        with self._changed:
            call.stuck = call in self._running
        if call.stuck:
            LOG.warning(
                '%s of %s has not returned after %.0f s and cannot be '
                'stopped: requests that need it are refused until it has',
                call.name,
                call.about,
                call.seconds,
            )
        return call.stuck

    def _returned(self, call: Call) -> None:
        with self._changed:
            self._running.remove(call)
            self._changed.notify_all()
        if call.stuck:
            LOG.warning(
                '%s of %s has returned after %.0f s',
                call.name,
                call.about,
                call.seconds,
            )

    def check(self, *abouts: str, patience: float = 0.0) -> None:
        """Refuse what would be stuck as well.

        :param abouts: all that is needed: targets and devices
        :param patience: seconds that what is stuck there gets to return
        :raises TargetQuarantined: it has not
        """
        self._refuse(
            lambda call: call.about in abouts,
            deadlines.Deadline.after(patience),
        )

    def _refuse(
        self, hinders: Callable[[Call], bool], deadline: deadlines.Deadline
    ) -> None:
        def found() -> Call | None:
            return next(
                (one for one in self._running if one.stuck and hinders(one)),
                None,
            )

        with self._changed:
            self._changed.wait_for(
                lambda: found() is None, deadline.remaining()
            )
            call = found()
        if call is not None:
            raise exception.TargetQuarantined(
                verb=call.name, about=call.about, seconds=f'{call.seconds:.0f}'
            )

    def stuck(self) -> list[Call]:
        """All verbs that were given up and have not returned."""
        with self._changed:
            return [call for call in self._running if call.stuck]

    def unfinished(self, about: str) -> list[str]:
        """The names of the verbs that still act on something."""
        with self._changed:
            return [call.name for call in self._running if call.about == about]
