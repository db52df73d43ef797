# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 of iscsid or multipathd while a worker carries out a request.

The daemon is started again at once, as systemd does it, and takes its time to
be there. The points are the boundaries of the tasks that a run passes.
"""

import contextlib
import pathlib
import threading
import time
from typing import Any
import uuid

from attachworker import objects
from attachworker.tasks.run import Run
from tests import harness
from tests.crash.scene import Scenario
from tests.crash.scene import picture
from tests.kernel import daemons
from tests.kernel.bed import KernelBed

_STEP = 1024 * 1024
#: Seconds until the host is what the result says.
_PATIENCE = 60.0
#: Seconds that a request may take: its deadline and the grace.
_LONGEST = 60 + 30


class Dying(Run):
    """Notes the boundaries of tasks; at one of them a daemon dies.

    :cvar fatal: where; None: nowhere
    :cvar daemon: which
    :cvar passed: in the order of their coming
    """

    fatal: str | None = None
    daemon = ''
    passed: list[str]
    lock = threading.Lock()

    def before(self, name: str) -> None:
        self._pass(f'{name} before')
        super().before(name)

    def after(self, name: str) -> None:
        self._pass(f'{name} after')
        super().after(name)

    @classmethod
    def arm(cls, daemon: str, fatal: str | None) -> None:
        cls.passed, cls.daemon, cls.fatal = [], daemon, fatal

    @classmethod
    def _pass(cls, point: str) -> None:
        with cls.lock:
            cls.passed.append(point)
            if point == cls.fatal:
                cls.fatal = None
                daemons.kill(cls.daemon)
                daemons.start(cls.daemon)


class Scene:
    """A neighbour that must not be harmed, and one volume, on one worker."""

    def __init__(
        self, bed: KernelBed, state: pathlib.Path, scenario: Scenario
    ) -> None:
        self._bed = bed
        self._scenario = scenario
        self._neighbour = bed.create_volume(portals=scenario.portals)
        self._volume = bed.create_volume(
            portals=scenario.portals,
            chap=('user', 'password-of-it'),
            resizable=scenario.kind == 'extend',
        )
        self._size = self._volume.size
        self._names = {self._volume.target: 'target'}
        for number, portal in enumerate(self._volume.portals):
            self._names[portal] = f'portal {number}'
        self._passed: list[str] = []
        Dying.arm('', None)
        with contextlib.ExitStack() as stack:
            self._worker = stack.enter_context(
                harness.Harness(
                    bed,
                    run_class=Dying,
                    state_path=state,
                    iscsi={'login_timeout': 5, 'scan_attempts': 2},
                )
            )
            found = self._worker.attach(
                self._neighbour, multipath=scenario.multipath
            )
            assert found.status == 'attached', found.as_dict()
            self._neighbour_path = found.device.path
            self._before = self._picture()
            self._attach()
            self._attached = self._picture()
            if scenario.kind == 'attach':
                self._detach()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Detach what is attached, and stop the worker."""
        with self._stack:
            for line in self._worker.attachments():
                self._worker.detach(line.partition(' ')[0], force=True)
            assert self._worker.attachments() == []

    def points(self) -> list[str]:
        """What a request passes while nothing dies."""
        self._run('', None)
        return [self._named(point) for point in self._passed]

    def strike(self, daemon: str, point: str) -> str:
        """Have a daemon die there.

        :returns: how the request ended
        :raises AssertionError: that is not what the host is
        """
        wanted = point
        for text, name in self._names.items():
            wanted = wanted.replace(name, text)
        try:
            return self._run(daemon, wanted)
        except Exception as error:
            raise AssertionError(
                f'{self._scenario}, {daemon} killed at {point}'
            ) from error

    def _named(self, point: str) -> str:
        for text, name in self._names.items():
            point = point.replace(text, name)
        return point

    def _run(self, daemon: str, point: str | None) -> str:
        worker, kind = self._worker, self._scenario.kind
        Dying.arm(daemon, point)
        started = time.monotonic()
        result = self._ask()
        took = time.monotonic() - started
        self._passed = list(Dying.passed)
        assert Dying.fatal is None, 'it was not passed'
        assert took < _LONGEST
        again = worker.api.get_result({}, worker.name, result.request_id)
        assert again.as_dict() == result.as_dict()
        self._check_end(result)
        # And the next ones are as if nothing had been
        if worker.attachments() == [f'{self._neighbour.name} attached']:
            self._attach()
        self._until(self._attached)
        if kind == 'attach':
            self._detach()
            self._until(self._before)
        outcome = result.status
        if result.error is not None:
            outcome += f' ({result.error.code} in {result.error.step})'
        return f'{outcome}, {took:.1f} s'

    def _ask(self) -> objects.OperationResult:
        worker, name = self._worker, self._volume.name
        if self._scenario.kind == 'attach':
            return worker.attach(
                self._volume, multipath=self._scenario.multipath
            )
        if self._scenario.kind == 'detach':
            return worker.detach(name, deadline_seconds=60)
        self._size += _STEP
        self._bed.resize_volume(self._volume, self._size)
        request = objects.ExtendRequest(
            request_id=str(uuid.uuid4()),
            attachment_id=name,
            expected_size=self._size,
            deadline_seconds=60,
        )
        found: objects.OperationResult = worker.api.extend_volume(
            {}, worker.name, request
        )
        return found

    def _check_end(self, result: objects.OperationResult) -> None:
        kind = self._scenario.kind
        done = result.error is None
        assert result.leftovers == [], result.as_dict()
        there = done if kind == 'attach' else kind == 'extend' or not done
        self._until(self._attached if there else self._before)
        shown = [f'{self._neighbour.name} attached']
        shown += [f'{self._volume.name} attached'] * there
        found = self._worker.attachments()
        assert found == sorted(shown), f'{found} after {result.as_dict()}'
        assert self._reads(self._neighbour_path, self._neighbour)
        if there and kind != 'detach':
            record = self._worker.api.get_attachment(
                {}, self._worker.name, self._volume.name
            )
            assert self._reads(record.device.path, self._volume)
            if kind == 'extend' and done:
                assert result.device.size == self._size

    def _attach(self) -> None:
        found = self._worker.attach(
            self._volume, multipath=self._scenario.multipath
        )
        assert found.status == 'attached', found.as_dict()

    def _detach(self) -> None:
        found = self._worker.detach(self._volume.name)
        assert found.status == 'detached', found.as_dict()

    def _reads(self, path: str, volume: Any) -> bool:
        return bool(self._bed.read(path) == volume.pattern)

    def _picture(self) -> str:
        portals = {*self._neighbour.portals, *self._volume.portals}
        return picture(
            self._bed, set() if self._scenario.multipath else portals
        )

    def _until(self, wanted: str) -> None:
        limit = time.monotonic() + _PATIENCE
        while (found := self._picture()) != wanted:
            assert time.monotonic() < limit, f'{found}\ninstead of\n{wanted}'
            time.sleep(0.05)
