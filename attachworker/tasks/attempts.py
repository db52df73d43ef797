# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Connecting several targets at once, and leaving when enough have come."""

from collections.abc import Callable
import threading

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base
from attachworker.host import threads

LOG = logging.getLogger(__name__)

#: Shared by the attempts of all attaches.
_THREADS = threads.Threads()


class Attempts:
    """The attempts of one attach; each has a thread for itself.

    An attempt may outlive the wait for it: a portal that does not answer
    delays nobody once enough others have.

    :param wanted: how many paths are enough
    :param together: whether the host may have more than one of their devices
    :param turn: otherwise, seconds that one of them gets to come to the host
        before the next one is tried, too; half of what is left of the deadline
        if that is less
    """

    def __init__(
        self, wanted: int, together: bool, turn: float = 10.0
    ) -> None:
        self._wanted = wanted
        self._together = together
        self._seconds = turn
        self._turn: base.Target | None = None
        self._turn_ends = 0.0
        self._changed = threading.Condition()
        self._outcomes: dict[base.Target, base.PathOutcome] = {}
        self._interests: dict[base.Target, base.Interest] = {}
        self._wrapping_up = False
        self._stopped = False

    def start(
        self,
        target: base.Target,
        connect: Callable[[base.Interest], base.Path],
        deadline: deadlines.Deadline,
    ) -> None:
        """Begin to connect a target.

        :param connect: does it, and says how it went
        """
        interest = self._interests[target] = base.Interest(
            lambda step: self._take_turn(target, step, deadline)
        )

        def body() -> None:
            outcome = base.PathOutcome(
                target, error=exception.AttachWorkerError()
            )
            try:
                outcome = base.PathOutcome(target, path=connect(interest))
            except exception.AttachWorkerError as error:
                outcome = base.PathOutcome(target, error=error)
            except OSError as error:
                failure = exception.HostToolFailed.from_os_error(
                    error, f'Connecting {target}'
                )
                outcome = base.PathOutcome(target, error=failure)
            except BaseException:
                LOG.exception('Connecting %s', target)
            finally:
                self._end(outcome)

        try:
            _THREADS.run(body, f'connect {target}')
        except (RuntimeError, MemoryError) as no_thread:
            failure = exception.HostToolFailed(
                what=f'Connecting {target}', reason=str(no_thread)
            )
            self._end(base.PathOutcome(target, error=failure))

    def _end(self, outcome: base.PathOutcome) -> None:
        """An attempt has its outcome."""
        with self._changed:
            self._outcomes[outcome.target] = outcome
            if self._turn == outcome.target:
                self._turn = None
            self._changed.notify_all()

    def wait(
        self, target: base.Target, deadline: deadlines.Deadline
    ) -> base.PathOutcome:
        """The outcome of one attempt, or that it is not needed any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    target in self._outcomes or self._enough() or self._stopped
                ),
                deadline.remaining(),
            )
            return self._outcomes.get(target, base.PathOutcome(target))

    def wait_for_all(self, deadline: deadlines.Deadline) -> None:
        """Wait until each attempt has an outcome."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    len(self._outcomes) == len(self._interests)
                    or self._stopped
                ),
                deadline.remaining(),
            )

    def settle(
        self, target: base.Target, deadline: deadlines.Deadline
    ) -> base.PathOutcome:
        """The outcome of one attempt, unless it is to be wrapped up."""
        with self._changed:
            self._changed.wait_for(
                lambda: target in self._outcomes or self._wrapping_up,
                deadline.remaining(),
            )
            return self._outcomes.get(target, base.PathOutcome(target))

    def wrapping_up(self) -> bool:
        return self._wrapping_up

    def wrap_up(self) -> None:
        """End every :meth:`settle`."""
        with self._changed:
            self._wrapping_up = True
            self._changed.notify_all()

    def stop_waiting(self) -> None:
        """End every wait but that of :meth:`abandon`: it is cancelled."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def outcome(self, target: base.Target) -> base.PathOutcome:
        """How an attempt stands now."""
        with self._changed:
            return self._outcomes.get(target, base.PathOutcome(target))

    def paths(self) -> list[base.Path]:
        """The paths that are connected by now."""
        with self._changed:
            return [one.path for one in self._outcomes.values() if one.path]

    def abandon(
        self, target: base.Target, deadline: deadlines.Deadline
    ) -> bool:
        """Stop an attempt; True once nothing of it goes on."""
        interest = self._interests.get(target)
        if interest is None or interest.withdraw():
            return True
        with self._changed:
            self._changed.notify_all()  # it may be waiting for its turn
            return self._changed.wait_for(
                lambda: target in self._outcomes, deadline.remaining()
            )

    def refused(self, target: base.Target) -> bool:
        """Whether nothing was done, because of what is stuck there."""
        interest = self._interests.get(target)
        error = self.outcome(target).error
        return (
            interest is not None
            and not interest.committed
            and isinstance(error, exception.TargetQuarantined)
        )

    def reject(
        self, path: base.Path, error: exception.AttachWorkerError
    ) -> None:
        """A path that was connected cannot be used."""
        with self._changed:
            self._outcomes[path.target] = base.PathOutcome(
                path.target, error=error
            )

    def adopt(self, path: base.Path) -> None:
        """Use a path that somebody else has connected, and no other."""
        with self._changed:
            for target in self._outcomes:
                self._outcomes[target] = base.PathOutcome(
                    target, error=exception.OperationCancelled(step='its use')
                )
            self._outcomes[path.target] = base.PathOutcome(path.target, path)

    def _take_turn(
        self, target: base.Target, step: str, deadline: deadlines.Deadline
    ) -> None:
        """Without a map only one device may come to the host at a time.

        multipathd would take two of the same volume for itself, the one in
        use too. One that does not come is no reason not to try the next: if
        it comes after all, it is taken away.
        """
        if self._together:
            return
        interest = self._interests[target]
        with self._changed:
            while True:
                if self._enough() or interest.withdrawn or self._stopped:
                    raise exception.OperationCancelled(step=step)
                left = self._turn_ends - deadlines.now()
                if self._turn is None or left <= 0:
                    break
                if deadline.passed:
                    raise exception.DeadlineExceeded(step=step)
                self._changed.wait(min(left, deadline.remaining()))
            if self._turn is not None:
                LOG.warning(
                    'The device of %s has not come yet: trying %s',
                    self._turn,
                    target,
                )
            self._turn = target
            seconds = min(self._seconds, deadline.remaining() / 2)
            self._turn_ends = deadlines.now() + seconds

    def _enough(self) -> bool:
        good = [one for one in self._outcomes.values() if one.path]
        return len(good) >= self._wanted
