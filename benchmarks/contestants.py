# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who is measured: each connects a volume and disconnects it again."""

import abc
import dataclasses
import time
from typing import Any
import uuid

from attachworker import objects
from benchmarks import floor
from tests import harness
from tests.contract import bed as beds
from tests.peer import process


class WrongResult(Exception):
    """A contestant did not do what was measured: the figure means nothing."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured.

    :ivar new: the session is made and ended, not found and left
    """

    name: str
    portals: int
    new: bool

    @property
    def multipath(self) -> bool:
        return self.portals > 1


CASES = (
    Case('new session', 1, True),
    Case('existing session', 1, False),
    Case('map of two paths', 2, True),
)


@dataclasses.dataclass
class Measured:
    """One connect or disconnect.

    :ivar seconds: as the caller sees it
    :ivar steps: where the time went, as far as it is known
    """

    seconds: float
    device: dict[str, Any] | None = None
    steps: dict[str, float] = dataclasses.field(default_factory=dict)


class Contestant(abc.ABC):
    name: str

    @abc.abstractmethod
    def connect(self, volume: beds.Volume, case: Case) -> Measured:
        """Return when the device takes I/O."""

    @abc.abstractmethod
    def disconnect(
        self, volume: beds.Volume, case: Case, device: dict[str, Any]
    ) -> Measured:
        """Return when nothing is left."""


class Floor(Contestant):
    name = 'floor'

    def connect(self, volume: beds.Volume, case: Case) -> Measured:
        started = time.monotonic()
        if case.multipath:
            path = floor.connect_map(volume)
        else:
            path = floor.connect_single(volume, case.new)
        return Measured(time.monotonic() - started, {'path': path})

    def disconnect(
        self, volume: beds.Volume, case: Case, device: dict[str, Any]
    ) -> Measured:
        started = time.monotonic()
        if case.multipath:
            floor.disconnect_map(volume, device['path'])
        else:
            floor.disconnect_single(volume, device['path'], case.new)
        return Measured(time.monotonic() - started)


class OSBrick(Contestant):
    """Called directly; the way to its process is not counted."""

    name = 'os-brick'

    def __init__(self, peer: process.Peer) -> None:
        self._peer = peer

    def connect(self, volume: beds.Volume, case: Case) -> Measured:
        data = volume.connection_info(case.multipath)['data']
        return self._measured(self._peer.connect(data, case.multipath))

    def disconnect(
        self, volume: beds.Volume, case: Case, device: dict[str, Any]
    ) -> Measured:
        data = volume.connection_info(case.multipath)['data']
        return self._measured(
            self._peer.disconnect(data, device, case.multipath)
        )

    def _measured(self, answer: process.Answer) -> Measured:
        if answer.error:
            raise WrongResult(f'os-brick: {answer.error}: {answer.message}')
        return Measured(answer.elapsed, answer.result)


class AttachWorker(Contestant):
    """In full: bus, journal and flow."""

    name = 'attachworker'

    def __init__(self, worker: harness.Harness) -> None:
        self._worker = worker

    def connect(self, volume: beds.Volume, case: Case) -> Measured:
        request = harness.attach_request(
            volume,
            connection_info=volume.connection_info(case.multipath),
            multipath=case.multipath,
            enforce_multipath=case.multipath,
        )
        started = time.monotonic()
        result = self._worker.api.attach_volume({}, self._worker.name, request)
        return self._measured(started, result)

    def disconnect(
        self, volume: beds.Volume, case: Case, device: dict[str, Any]
    ) -> Measured:
        request = objects.DetachRequest(
            request_id=str(uuid.uuid4()),
            attachment_id=volume.name,
            deadline_seconds=60,
        )
        started = time.monotonic()
        result = self._worker.api.detach_volume({}, self._worker.name, request)
        return self._measured(started, result)

    def _measured(
        self, started: float, result: objects.OperationResult
    ) -> Measured:
        seconds = time.monotonic() - started
        if result.error is not None:
            raise WrongResult(
                f'attachworker: {result.error.code} in {result.error.step}: '
                f'{result.error.message}'
            )
        device = result.device.to_brick() if result.device else None
        return Measured(seconds, device, _steps(result.timings, seconds))


def _steps(timings: dict[str, float], seconds: float) -> dict[str, float]:
    """Seconds by kind of step; those of several targets go on at once."""
    steps: dict[str, float] = {}
    for atom, taken in timings.items():
        kind = atom.partition(':')[0]
        steps[kind] = max(steps.get(kind, 0.0), taken)
    steps['bus and journal'] = seconds - sum(steps.values())
    return steps
