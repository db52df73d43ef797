# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""One schedule while it runs."""

import contextlib
import dataclasses
import os
import threading
import time
from typing import Any
from typing import NoReturn
import uuid

from tests.contract import bed as beds
from tests.properties import checks
from tests.properties import schedule as schedules
from tests.properties import turns
from tests.properties.workers import Violation
from tests.properties.workers import WorkerKilled

_SIZE = 1 << 20


class Play:
    """One schedule while it runs."""

    def __init__(self, world: Any, schedule: schedules.Schedule) -> None:
        self._world = world
        self._bed = world.bed
        self._turns = world.turns
        self._schedule = schedule
        self._lock = threading.RLock()
        self._violation: Violation | None = None
        self._requests: dict[str, dict[str, Any]] = {}
        run = uuid.uuid4().hex[:6]
        self._volumes = self._make_volumes()
        self._sizes = {0: _SIZE, 1: _SIZE}
        self.actors = [
            checks.Actor(
                letter,
                f'{run}.{letter}',
                plan,
                dataclasses.replace(
                    self._volumes[plan.volume, plan.target],
                    portals=tuple(
                        world.targets[plan.target].portals[number]
                        for number in plan.portals
                    ),
                ),
            )
            for letter, plan in zip('ABCD', schedule.attachments, strict=False)
        ]

        self._checks = checks.Checks(
            world.bed,
            lambda *arguments: world.worker.call(*arguments),
            self.actors,
            self._lock,
            any(one.multipath for one in schedule.attachments),
            world.state,
        )

    def _make_volumes(self) -> dict[tuple[int, int], beds.Volume]:
        """By number and target."""
        made = {}
        first, second = self._world.targets
        for number in {one.volume for one in self._schedule.attachments}:
            volume = self._bed.create_volume(on=first, size=_SIZE)
            made[number, 0] = volume
            if any(one.target for one in self._schedule.attachments):
                made[number, 1] = self._bed.export_volume(volume, second)
        return made

    def story(self) -> list[str]:
        """What has gone on, with names that are the same in each run."""
        text = '\n'.join(self._turns.story)
        for number, target in enumerate(self._world.targets):
            for index, portal in enumerate(target.portals):
                text = text.replace(portal, f'portal{number}{index}')
                address, _, port = portal.rpartition(':')
                text = text.replace(
                    f'{address}, {port}', f'portal{number}{index}'
                )
            text = text.replace(target.target, f'target{number}')
        for (number, _), volume in self._volumes.items():
            text = text.replace(volume.wwn, f'WWN{number}')
        return text.split('\n')

    # -- the course of it

    def run(self) -> None:
        before = self._bed.snapshot()
        self._turns.open()
        for actor in self.actors:
            if actor.plan.attached:
                self._act(actor, 'attach')
        self._checks.at_rest()
        self._world.turns = self._turns = turns.Turns()
        self._turns.story.append('-- begin')
        self._world.worker.stop_at_points(True)
        threads = [
            threading.Thread(target=self._perform, args=(actor,), daemon=True)
            for actor in self.actors
        ]
        for thread in threads:
            thread.start()
        for letter, points in self._schedule.turns:
            self._turns.give(letter, points, self._look)
        self._turns.story.append('-- all go on')
        with contextlib.suppress(WorkerKilled):
            self._world.worker.stop_at_points(False)
        self._turns.open()
        late = self._turns.wait_for_ends(
            {actor.letter for actor in self.actors}, 60.0
        )
        if self._violation is None and late:
            _fail('hangs', f'{late} have no answer')
        self._look()
        self._checks.at_rest()
        self._checks.results(self._requests)
        self._turns.story.append('-- the end')
        for actor in self.actors:
            self._close(actor)
        for actor in self.actors:
            if actor.path is not None:
                self._act(actor, 'detach')
        self._checks.end(before)

    def _perform(self, actor: checks.Actor) -> None:
        try:
            for what in actor.plan.does:
                self._turns.wait(actor.letter, f'asks to {what}')
                self._act(actor, what)
        except Violation as error:
            with self._lock:
                self._violation = self._violation or error
        except Exception as error:
            with self._lock:
                self._violation = self._violation or Violation(
                    'test', repr(error)
                )
        finally:
            self._turns.end(actor.letter)

    def _act(self, actor: checks.Actor, what: str) -> None:
        {
            'attach': self._attach,
            'detach': self._detach,
            'force': self._detach,
            'foreign': self._foreign,
            'foreign-force': self._foreign,
            'extend': self._extend,
            'open': lambda actor, what: self._open(actor),
            'close': lambda actor, what: self._close(actor),
            'cancel': lambda actor, what: self._cancel(actor),
            'kill': lambda actor, what: self._kill(),
        }[what](actor, what)

    def _look(self) -> None:
        with self._lock:
            if self._violation is not None:
                raise self._violation
            self._checks.look()

    # -- what callers do

    def _ask(
        self, actor: checks.Actor, method: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        """Ask until there is an answer: a worker may be killed meanwhile."""
        request_id = str(uuid.uuid4())
        values = {'request_id': request_id, 'deadline_seconds': 60, **values}
        with self._lock:
            actor.request, actor.running = request_id, True
            actor.was_open = actor.guest is not None
        while True:
            worker = self._world.worker
            try:
                result = worker.call(f'{method}_volume', values)
                break
            except WorkerKilled:
                while self._world.worker is worker:
                    time.sleep(0.005)
                self._world.worker.wait_until_ready()
        with self._lock:
            actor.running = False
            self._requests[request_id] = result
        error = result['error'] or {}
        self._turns.tell(
            f'{actor.letter}: {method} -> {result["status"]}'
            f' {(result["device"] or {}).get("path", "")}'
            f' {error.get("code", "")} {error.get("step", "")}'
            f' {error.get("message", "")} {result["leftovers"] or ""}'
            f' {result["warnings"] or ""}'
        )
        return result

    def _attach(self, actor: checks.Actor, what: str) -> None:
        result = self._ask(
            actor,
            'attach',
            {
                'attachment_id': actor.name,
                'connection_info': actor.volume.connection_info(
                    actor.plan.multipath
                ),
                'multipath': actor.plan.multipath,
            },
        )
        if result['status'] == 'attached':
            path = result['device']['path']
            with self._lock:
                known, actor.path = actor.path, path
                actor.told = path
            if known not in (None, path):
                _fail('moved', f'{actor.letter}: {known} -> {path}')
            self._checks.data(actor)
            if actor.request in actor.cancelled:
                return
            return
        if result['leftovers']:
            _fail('leftovers', f'{actor.letter}: {result["leftovers"]}')
        if result['error']['code'] != 'cancelled':
            _fail(
                f'attach {result["error"]["code"]}',
                f'{actor.letter}: {result["error"]}',
            )

    def _detach(self, actor: checks.Actor, what: str) -> None:
        force = what == 'force'
        with self._lock:
            path, actor.path = actor.path, None
            actor.forces = force
            if any(other.forces for other in self.actors):
                # What guests have open of what they do not hold may go.
                for other in self._without_device():
                    other.opened = None
        result = self._ask(
            actor, 'detach', {'attachment_id': actor.name, 'force': force}
        )
        actor.forces = False
        if result['status'] == 'detached':
            actor.told = None
            return
        code = result['error']['code']
        open_somewhere = any(
            other.was_open or other.guest is not None for other in self.actors
        )
        if code == 'in_use' and open_somewhere:
            with self._lock:
                actor.path = path
            return
        if code == 'host_tool_failed' and force and open_somewhere:
            # An open map cannot be taken away, and is not said to be gone.
            for other in self._without_device():
                self._close(other)
                other.was_open = False
            return self._detach(actor, what)
        _fail(f'detach {code}', f'{actor.letter}: {result["error"]}')

    def _without_device(self) -> list[checks.Actor]:
        return [other for other in self.actors if other.path is None]

    def _foreign(self, actor: checks.Actor, what: str) -> None:
        """Whatever it answers: nobody's device may suffer."""
        self._ask(
            actor,
            'detach',
            {
                'connection_info': actor.volume.connection_info(
                    actor.plan.multipath
                ),
                'force': what == 'foreign-force',
            },
        )

    def _extend(self, actor: checks.Actor, what: str) -> None:
        number = actor.plan.volume
        with self._lock:
            size = self._sizes[number] = self._sizes[number] + _SIZE
            self._bed.resize_volume(actor.volume, size)
            attached = actor.path is not None
        result = self._ask(
            actor,
            'extend',
            {'attachment_id': actor.name, 'expected_size': size},
        )
        if result['status'] == 'extended':
            if result['device']['size'] < size:
                _fail('size', f'{actor.letter}: {result["device"]}')
        elif attached:
            _fail(
                f'extend {result["error"]["code"]}',
                f'{actor.letter}: {result["error"]}',
            )

    def _open(self, actor: checks.Actor) -> None:
        with self._lock:
            if actor.path is None or actor.guest is not None:
                return
            actor.guest = os.open(
                self._bed.node(actor.path), os.O_RDONLY | os.O_CLOEXEC
            )
            actor.opened = actor.path

    def _close(self, actor: checks.Actor) -> None:
        with self._lock:
            if actor.guest is not None:
                os.close(actor.guest)
            actor.guest = actor.opened = None

    def _cancel(self, actor: checks.Actor) -> None:
        others = [
            other
            for other in self.actors
            if other is not actor and other.running
        ]
        if others:
            self._turns.tell(f'{actor.letter}: cancels {others[0].letter}')
            others[0].cancelled.add(others[0].request)
            with contextlib.suppress(WorkerKilled):
                self._world.worker.call('cancel', others[0].request)

    def _kill(self) -> None:
        self._turns.tell('kill -9')
        worker = self._world.worker
        worker.kill()
        self._turns.forget()
        fresh = self._world.start_worker()
        fresh.wait_until_ready()
        fresh.stop_at_points(not self._turns.is_open)
        self._world.worker = fresh


def _fail(kind: str, text: str) -> NoReturn:
    raise Violation(kind, text)
