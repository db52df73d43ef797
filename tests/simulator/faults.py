# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What can go wrong: a closed set of faults, armed by a test."""

from collections.abc import Collection
from collections.abc import Mapping
import enum
import errno
import os
import threading
from typing import Any

from tests.simulator import verbs


class Fault(enum.Enum):
    """Every fault there is; nothing else is ever injected."""

    #: The verb raises OSError and has done nothing.
    FAIL_BEFORE = 'fail_before'
    #: The verb has done its work and raises OSError all the same.
    FAIL_AFTER = 'fail_after'
    #: The verbs of iscsi: exit code, and nothing done.
    FAIL_EXIT = 'fail_exit'
    #: The verb does not begin until it is released.
    HANG_BEFORE = 'hang_before'
    #: The verb has done its work and does not return until released.
    HANG_AFTER = 'hang_after'
    #: The device, map or session that the verb was about is gone on return.
    VANISH = 'vanish'
    #: Uevents arrive ``seconds`` late, in order.
    LATE_EVENTS = 'late_events'
    #: Uevents that nobody receives.
    LOST_EVENTS = 'lost_events'
    #: A uevent is lost and every receiver is told so (ENOBUFS).
    OVERRUN = 'overrun'


#: At the seam: possible over the real verbs as well.
BEFORE = frozenset({Fault.FAIL_BEFORE, Fault.FAIL_EXIT, Fault.HANG_BEFORE})
AFTER = frozenset({Fault.FAIL_AFTER, Fault.HANG_AFTER})
#: Only in the simulator's server.
EVENTS = frozenset({Fault.LATE_EVENTS, Fault.LOST_EVENTS, Fault.OVERRUN})
SERVER_ONLY = EVENTS | {Fault.VANISH}

#: Verbs that are about no device, or have taken it away themselves.
_LEAVE_NOTHING = frozenset(
    {
        'iscsi.logout',
        'iscsi.discover',
        'iscsi.interface',
        'scsi.delete',
        'encryption.close',
        'block.claimed',
        'process.hold',
        'processes.users',
        'removals.carried',
        'multipath.running',
        'multipath.remove_map',
        'multipath.remember',
        'multipath.forget',
        'mounts.unmount',
    }
)


class ArmedFault:
    """One fault that lies in wait, and what became of it."""

    def __init__(
        self,
        kind: Fault,
        verb: str,
        *,
        times: int | None,
        match: Mapping[str, Any],
        exit_code: int,
        seconds: float,
        number: int,
    ) -> None:
        self.kind = kind
        self.verb = verb
        self.times = times
        self.match = dict(match)
        self.exit_code = exit_code
        self.seconds = seconds
        self.errno = number
        #: How often it has struck.
        self.fired = 0
        self._struck = threading.Event()
        self._released = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Until it has struck once; False if it did not in time."""
        return self._struck.wait(timeout)

    def release(self) -> None:
        """Let go what hangs on this fault, now and later."""
        self._released.set()

    def fits(self, verb: str, arguments: Mapping[str, Any]) -> bool:
        return (
            (self.times is None or self.fired < self.times)
            and self.verb == verb
            and all(
                key in arguments and arguments[key] == value
                for key, value in self.match.items()
            )
        )

    def strike(self) -> None:
        self.fired += 1
        self._struck.set()

    def hold(self) -> None:
        """Hang until released."""
        self._released.wait()

    def error(self) -> OSError:
        return OSError(self.errno, f'{os.strerror(self.errno)} (injected)')


class FaultPlan:
    """The faults armed in one process; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[ArmedFault] = []

    def arm(
        self,
        kind: Fault,
        verb: str = '',
        *,
        times: int | None = 1,
        match: Mapping[str, Any] | None = None,
        exit_code: int = verbs.LOGIN_TIMED_OUT,
        seconds: float = 0.0,
        number: int = errno.EIO,
    ) -> ArmedFault:
        """Arm a fault.

        :param verb: ``iscsi.login`` and so on; none for faults of events
        :param times: how often it strikes; None: always
        :param match: only where these arguments of the verb (or keys of the
            event) have these values
        :param exit_code: of FAIL_EXIT
        :param seconds: of LATE_EVENTS
        :param number: errno of FAIL_BEFORE and FAIL_AFTER
        :raises ValueError: it could never strike
        """
        if kind in EVENTS:
            if verb:
                raise ValueError('an event has no verb')
        elif verb not in verbs.SIGNATURES:
            raise ValueError(f'no such verb: {verb}')
        elif set(match or ()) - set(verbs.SIGNATURES[verb].parameters):
            raise ValueError(f'{verb} has no such argument')
        if kind is Fault.VANISH and verb in _LEAVE_NOTHING:
            raise ValueError(f'{verb} leaves nothing that could vanish')
        if kind is Fault.FAIL_EXIT and not verb.startswith('iscsi.'):
            raise ValueError(f'{verb} has no exit code')
        fault = ArmedFault(
            kind,
            verb,
            times=times,
            match=match or {},
            exit_code=exit_code,
            seconds=seconds,
            number=number,
        )
        with self._lock:
            self._armed.append(fault)
        return fault

    def take(
        self, kinds: Collection[Fault], verb: str, about: Mapping[str, Any]
    ) -> ArmedFault | None:
        """The first fault that strikes here; it counts as fired."""
        with self._lock:
            for fault in self._armed:
                if fault.kind in kinds and fault.fits(verb, about):
                    fault.strike()
                    return fault
        return None

    def release(self) -> None:
        """Let everything go that hangs, now and later."""
        with self._lock:
            for fault in self._armed:
                fault.release()

    def clear(self) -> None:
        """Release everything and forget all faults."""
        self.release()
        with self._lock:
            self._armed.clear()

    def unfired(self) -> list[ArmedFault]:
        """Faults that never struck: a test that armed them shows nothing."""
        with self._lock:
            return [fault for fault in self._armed if not fault.fired]
