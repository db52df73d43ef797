# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Calls of privileged verbs that cannot hold up the caller for ever."""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import queue
import threading
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import privileged
from attachworker.host import threads as pools

LOG = logging.getLogger(__name__)

#: Seconds in which a verb that is merely slow returns after all: what undoes
#: an operation comes right after its deadline.
SLOW_RETURN = 1.0
#: Of the helper's threads, so many for one storage, and so many that only
#: those get who have none.
_SHARE = 32
_RESERVE = 64


@dataclasses.dataclass(eq=False)
class Call:
    """A verb that has not returned.

    :ivar name: the verb
    :ivar about: what it acts on: a target or a device
    :ivar since: when it was called, in seconds since boot
    :ivar backend: the storage that it has to do with
    :ivar stuck: whether its caller has given it up
    """

    name: str
    about: str
    since: float
    backend: str = ''
    stuck: bool = False

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return deadlines.now() - self.since


class Verbs:
    """Runs each verb in a thread that may be lost, up to a deadline.

    A verb that is stuck in the kernel costs a thread here and one in the
    privileged helper, which has a number of them. Until it does return it is
    not started again for the same thing, where it would only be stuck as well,
    and :meth:`check` keeps new requests away. However many are stuck at one
    storage, there are threads for the others. What the helper of an earlier
    worker has not ended yet is stuck, too.

    :param backend_of: which storage a verb has to do with, by what it acts on
    :param threads: that the helper has
    :param share: of these, for one storage
    :ivar written_down: entered while a verb runs, for the next worker to know
        of it; see :mod:`attachworker.host.succession`
    """

    def __init__(
        self,
        backend_of: Callable[[str], str] = str,
        threads: int = privileged.THREADS,
        share: int = _SHARE,
    ) -> None:
        self._backend_of = backend_of
        self._limit = threads - _RESERVE
        self._share = share
        self._threads = pools.Threads()
        self._changed = threading.Condition()
        self._running: list[Call] = []
        self.written_down: Callable[
            [Call], contextlib.AbstractContextManager[None]
        ] = lambda call: contextlib.nullcontext()

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
            is stuck there, or too many at the same storage
        :raises HostToolFailed: it was not started, because there is no
            thread, or because it cannot be written down
        """
        deadline.check(f'{name} of {about}')
        if about:
            self._refuse(
                lambda call: (call.name, call.about) == (name, about),
                deadline.sooner(SLOW_RETURN),
            )
        # Unlike an Event it is one lock, and wakes its waiter once.
        answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = (
            queue.SimpleQueue()
        )
        call = self._admit(name, about, deadline)

        def body() -> None:
            outcome, error = None, None
            try:
                with self.written_down(call):
                    outcome = verb(*arguments)
            except BaseException as raised:
                error = raised
            self._returned(call)
            answer.put((outcome, error))

        try:
            self._threads.run(body, name)
        except (RuntimeError, MemoryError) as no_thread:
            self._returned(call)
            raise exception.HostToolFailed(
                what=f'{name} of {about}', reason=str(no_thread)
            ) from no_thread
        # A cancel that comes now starts nothing new, and is no reason to
        # leave what runs.
        until = deadline.extended(0.0)
        try:
            outcome, error = answer.get(timeout=until.remaining())
        except queue.Empty:
            if self._give_up(call):
                raise exception.DeadlineExceeded(
                    step=f'{name} of {about}'
                ) from None
            outcome, error = answer.get()  # it has returned just now
        if error is not None:
            raise error
        return outcome

    def _admit(
        self, name: str, about: str, deadline: deadlines.Deadline
    ) -> Call:
        """Have a verb count as running, once its storage has a place for it.

        :raises TargetQuarantined: what has the places does not return
        """
        backend = self._backend_of(about)
        with self._changed:
            while not self._has_place(backend):
                stuck = [
                    one
                    for one in self._running
                    if one.backend == backend and one.stuck
                ]
                if len(stuck) >= self._share:
                    raise _quarantined(stuck[0])
                deadline.check(f'{name} of {about}')
                self._changed.wait(deadline.remaining())
            call = Call(name, about, deadlines.now(), backend)
            self._running.append(call)
            return call

    def _has_place(self, backend: str) -> bool:
        """The last places are for those that have none."""
        running = sum(one.backend == backend for one in self._running)
        if running >= self._share:
            return False
        return not running or len(self._running) < self._limit

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

    def adopt(self, calls: Sequence[Call]) -> Callable[[], None]:
        """Have the verbs of an earlier worker count as stuck.

        :returns: to be called once they have returned
        """
        for call in calls:
            call.stuck = True
            call.backend = self._backend_of(call.about)
        with self._changed:
            self._running += calls

        def returned() -> None:
            for call in calls:
                self._returned(call)

        return returned

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
            raise _quarantined(call)

    @property
    def idle(self) -> bool:
        """Whether none is running."""
        with self._changed:
            return not self._running

    def stuck(self) -> list[Call]:
        """All verbs that were given up and have not returned."""
        with self._changed:
            return [call for call in self._running if call.stuck]

    def unfinished(self, about: str) -> list[str]:
        """The names of the verbs that still act on something."""
        with self._changed:
            return [call.name for call in self._running if call.about == about]


def _quarantined(call: Call) -> exception.TargetQuarantined:
    return exception.TargetQuarantined(
        verb=call.name, about=call.about, seconds=f'{call.seconds:.0f}'
    )
