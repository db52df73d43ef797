# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is asked of the workers on simulated hosts, and what that costs."""

import abc
from collections.abc import Callable
from collections.abc import Sequence
import concurrent.futures
import contextlib
import pathlib
from typing import Any

from benchmarks import hosts
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller

#: By case and by who was measured: one cost for each time.
Samples = dict[tuple[str, str], list[hosts.Cost]]

ECHO = 'echo'
ATTACH = 'attach, nothing to do'
DETACH = 'detach, nothing to undo'
ATTACH_SESSION = 'attach, new session'
DETACH_SESSION = 'detach, new session'
ATTACH_BURST = 'attach, 64 at once'
DETACH_BURST = 'detach, 64 at once'
SESSION = 'attach, new session beside none'
SESSION_BESIDE_SESSIONS = 'attach, new session beside 300'
SESSION_BESIDE_LUNS = 'attach, new session beside 1000 attachments'
LUN = 'attach, new LUN on a session with none'
LUN_BESIDE_LUNS = 'attach, new LUN on a session with 1000'
LIST = 'list of 1000 attachments'
AUDIT = 'audit of 1000 attachments'

#: What a case is compared with, that is measured right before it.
COMPARED = {
    SESSION_BESIDE_SESSIONS: SESSION,
    SESSION_BESIDE_LUNS: SESSION,
    LUN_BESIDE_LUNS: LUN,
}

#: Operations of a kind in a row, whose cost is divided among them.
_IN_A_ROW = 20
#: Volumes of a kind of attach that takes longer.
_REPEATED = 5
BURST = 64
_TARGETS = 16
_SESSIONS = 300
_ATTACHMENTS = 1000


class Load(abc.ABC):
    """One kind of load on the workers of several checkouts, in turn.

    :param url: of the broker
    :param checkouts: by name; their workers are measured
    :ivar samples: of all rounds
    """

    #: For the command line.
    name: str

    def __init__(self, url: str, checkouts: dict[str, pathlib.Path]) -> None:
        self.url = url
        self.samples: Samples = {}
        self._ends = contextlib.ExitStack()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self._prepared = [
                self._prepare(name, checkout)
                for name, checkout in checkouts.items()
            ]
            on_error.pop_all()

    def close(self) -> None:
        self._ends.close()

    def round(self, number: int) -> None:
        """Measure everything once; who begins changes."""
        first = number % len(self._prepared)
        for each in self._prepared[first:] + self._prepared[:first]:
            self._measure(each)

    @abc.abstractmethod
    def _prepare(self, name: str, checkout: pathlib.Path) -> Any:
        """Make what :meth:`_measure` measures."""

    @abc.abstractmethod
    def _measure(self, prepared: Any) -> None:
        """Measure it once."""

    def _host(self, name: str, checkout: pathlib.Path) -> hosts.Host:
        host = hosts.Host(self.url, name, checkout)
        self._ends.callback(host.close)
        return host

    def _note(self, case: str, who: str, cost: hosts.Cost) -> None:
        self.samples.setdefault((case, who), []).append(cost)


class OneByOne(Load):
    """One operation after the other, and an echo beside them."""

    name = 'bus'

    def __init__(self, url: str, checkouts: dict[str, pathlib.Path]) -> None:
        super().__init__(url, checkouts)
        self._echo = hosts.Echo(url)
        self._ends.callback(self._echo.close)

    def round(self, number: int) -> None:
        request = harness.attach_request(self._prepared[0][1][0])
        primitive = request.obj_to_primitive()
        with self._echo.measured as measured:
            for _ in range(_IN_A_ROW):
                self._echo(primitive)
        self._note(ECHO, 'oslo.messaging', measured.cost.each(_IN_A_ROW))
        super().round(number)

    def _prepare(self, name: str, checkout: pathlib.Path) -> Any:
        host = self._host(name, checkout)
        # Somebody else's session, and further down devices, are there.
        there = volumes(host, 1, _IN_A_ROW)
        host.log_in(there[0])
        return host, there, volumes(host, _REPEATED, 1)

    def _measure(self, prepared: Any) -> None:
        host, there, new = prepared
        # The detach of the round before has removed the devices.
        for volume in there:
            host.scan(volume)
        caller.until(lambda: len(host.disks()) == _IN_A_ROW)
        for found, attach, detach in (
            (there, ATTACH, DETACH),
            (new, ATTACH_SESSION, DETACH_SESSION),
        ):
            requests = [harness.attach_request(volume) for volume in found]
            with host.measured as measured:
                for request in requests:
                    host.attach(request)
            self._note(attach, host.name, measured.cost.each(len(found)))
            with host.measured as measured:
                for volume in found:
                    host.detach(volume.name)
            self._note(detach, host.name, measured.cost.each(len(found)))


class AtOnce(Load):
    """Many operations at once, on several targets."""

    name = 'concurrency'

    def _prepare(self, name: str, checkout: pathlib.Path) -> Any:
        host = self._host(name, checkout)
        return host, volumes(host, _TARGETS, BURST // _TARGETS)

    def _measure(self, prepared: Any) -> None:
        host, found = prepared
        requests = [harness.attach_request(volume) for volume in found]
        with host.measured as measured:
            at_once(BURST, host.attach, requests)
        self._note(ATTACH_BURST, host.name, measured.cost.each(BURST))
        with host.measured as measured:
            at_once(BURST, host.detach, [volume.name for volume in found])
        self._note(DETACH_BURST, host.name, measured.cost.each(BURST))


class Growth(Load):
    """The same attach on a host that has nothing, and on ones that have."""

    name = 'growth'

    def _prepare(self, name: str, checkout: pathlib.Path) -> Any:
        alone, sessions, attachments = (
            self._host(name, checkout) for _ in range(3)
        )
        for volume in volumes(sessions, _SESSIONS, 1):
            sessions.log_in(volume)
        first, *few = volumes(alone, 1, _REPEATED + 1)
        alone.log_in(first)
        many = volumes(attachments, 1, _ATTACHMENTS + _REPEATED)
        at_once(
            _TARGETS,
            attachments.attach,
            [harness.attach_request(volume) for volume in many[_REPEATED:]],
        )
        return [
            (SESSION, alone, volumes(alone, _REPEATED, 1)),
            (
                SESSION_BESIDE_SESSIONS,
                sessions,
                volumes(sessions, _REPEATED, 1),
            ),
            (
                SESSION_BESIDE_LUNS,
                attachments,
                volumes(attachments, _REPEATED, 1),
            ),
            (LUN, alone, few),
            (LUN_BESIDE_LUNS, attachments, many[:_REPEATED]),
        ]

    def _measure(self, prepared: Any) -> None:
        for number in range(_REPEATED):
            for case, host, found in prepared:
                request = harness.attach_request(found[number])
                with host.measured as measured:
                    host.attach(request)
                self._note(case, host.name, measured.cost)
                host.detach(found[number].name)
        host = prepared[-1][1]
        api, name = host.worker.api, host.worker.name
        with host.measured as measured:
            listed = api.list_attachments({}, name)
        self._note(LIST, host.name, measured.cost)
        with host.measured as measured:
            audited = api.audit({}, name)
        self._note(AUDIT, host.name, measured.cost)
        if (len(listed), len(audited.attachments), audited.findings) != (
            _ATTACHMENTS,
            _ATTACHMENTS,
            [],
        ):
            raise hosts.WrongResult('not all are attached, or more is')


LOADS: tuple[type[Load], ...] = (OneByOne, AtOnce, Growth)


def volumes(host: hosts.Host, targets: int, each: int) -> list[beds.Volume]:
    """New volumes on new targets."""
    made = []
    for _ in range(targets):
        first = host.bed.create_volume()
        made.append(first)
        made += [host.bed.create_volume(on=first) for _ in range(each - 1)]
    return made


def at_once(
    threads: int, call: Callable[[Any], None], arguments: Sequence[Any]
) -> None:
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, arguments))
