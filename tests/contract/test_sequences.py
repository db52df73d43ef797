# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Random sequences of what callers, storage and other programs do.

After each step: a device holds its own volume's data or an error is reported;
the worker lists what is attached; nothing is left of what is not; and what
somebody else has attached stays as it is.
"""

import contextlib
import os
from typing import Any
import uuid

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st
import pytest

from attachworker import objects
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds

ON_KERNEL = os.environ.get('ATTACHWORKER_BED') == 'kernel'
SEQUENCES, STEPS = (20, 4) if ON_KERNEL else (200, 6)
#: So many others, new ones in each run; see the page about testing.
RANDOM = int(os.environ.get('ATTACHWORKER_SEQUENCES', '0'))
#: Seconds that an operation gets if it may wait for a path that is dead.
BRIEFLY = 12 if ON_KERNEL else 3
#: Bytes that a volume grows by.
GROWTH = 1 << 20

SLOTS = st.integers(0, 2)
PORTALS = st.integers(0, 1)
PRESENT = {'attached', 'degraded', 'missing'}


class Sequences(stateful.RuleBasedStateMachine):
    """Does one step after another and keeps a model of what must be."""

    def __init__(
        self, worker: harness.Harness, storage: actors.Storage
    ) -> None:
        super().__init__()
        self.failures = storage.failures
        assert not self.failures
        self.bed = worker.bed
        self.worker = worker
        self.slots = storage.slots
        self.portals = storage.portals
        self.somebody = storage.somebody
        self.dead: set[str] = set()
        #: Portals that trouble came to since their target was unused.
        self.touched: set[str] = set()
        self.steps: list[str] = []
        self.before = self.bed.snapshot()

    # -- what callers do

    @stateful.initialize(number=SLOTS, multipath=st.booleans())
    def begin(self, number: int, multipath: bool) -> None:
        self._attach(self.slots[number], multipath)
        self._check()

    @stateful.rule(number=SLOTS, multipath=st.booleans())
    def attach(self, number: int, multipath: bool) -> None:
        self._attach(self.slots[number], multipath)
        self._check()

    # No preconditions: hypothesis wants the same ones to hold when it does
    # the same steps again, and what an attach in trouble ends in may differ.

    @stateful.rule(number=SLOTS)
    def attach_again(self, number: int) -> None:
        for slot in self._one_attached(number):
            self._attach(slot, slot.attached.multipath)
            self._check()

    @stateful.rule(number=SLOTS, force=st.booleans())
    def detach(self, number: int, force: bool) -> None:
        for slot in self._one_attached(number):
            self._detach(slot, force)
            self._check()

    @stateful.rule(number=SLOTS)
    def extend(self, number: int) -> None:
        slot = self.slots[number]
        size = slot.content.size + GROWTH
        slot.resize(self.bed, size)
        request = objects.ExtendRequest(
            request_id=str(uuid.uuid4()),
            attachment_id=slot.name,
            deadline_seconds=self._deadline(slot),
        )
        result = self.worker.api.extend_volume({}, self.worker.name, request)
        self._did(f'extend {slot.name}', result)
        if slot.attached is None:
            code = result.error.code if result.error else None
            self._must(code == 'attachment_not_found')
        elif result.status == 'failed':
            self._must(self._may_fail(slot))
            self._must(result.error.code != 'internal')
        else:
            self._must(not slot.stale)
            self._must(result.device.size == size)
        self._check()

    # -- what happens

    @stateful.rule(number=PORTALS)
    def kill_or_restore_a_path(self, number: int) -> None:
        portal = self.portals[number]
        if portal in self.dead:
            self.bed.restore_path(self.slots[0].volume, portal)
            self._trouble(f'restore portal {number}', portal)
            self.dead.remove(portal)
        else:
            self.bed.kill_path(self.slots[0].volume, portal)
            self._trouble(f'kill portal {number}', portal)
            self.dead.add(portal)
        self._check()

    @stateful.rule(number=PORTALS)
    def somebody_logs_out(self, number: int) -> None:
        portal = self.portals[number]
        self.bed.drop_session(self.slots[0].volume, portal)
        for slot in self.slots[:2]:
            if slot.attached:
                slot.attached.lost.add(portal)
        self._trouble(f'log out of portal {number}', portal)
        self._check()

    @stateful.rule(number=SLOTS)
    def remap(self, number: int) -> None:
        slot = self.slots[number]
        slot.remap(self.bed)
        if slot.attached:
            slot.attached.seen.add(slot.content.wwn)
        self.steps.append(f'remap {slot.name}')
        self._check()

    def _attach(self, slot: actors.Slot, multipath: bool) -> None:
        result = self.worker.attach(
            slot.volume,
            slot.name,
            connection_info=slot.volume.connection_info(multipath),
            multipath=multipath,
            deadline_seconds=self._deadline(slot),
        )
        self._did(f'attach {slot.name} multipath={multipath}', result)
        known = slot.attached
        if result.status != 'failed':
            self._must(not slot.stale)
            device = result.device
            self._must(device.scsi_wwn == f'3{slot.content.wwn}')
            self._must(multipath or device.multipath_id is None)
            slot.attached = actors.Attached(
                multipath, device, slot.content, seen={slot.content.wwn}
            )
        elif known is not None and known.multipath != multipath:
            self._must(result.error.code == 'attachment_conflict')
        else:
            self._must(self._may_fail(slot))
            self._must(result.error.code != 'internal')

    def _detach(self, slot: actors.Slot, force: bool) -> None:
        result = self.worker.detach(
            slot.name, force=force, deadline_seconds=self._deadline(slot)
        )
        self._did(f'detach {slot.name} force={force}', result)
        if result.status == 'detached':
            self._must(result.leftovers == [])
            slot.attached = None
            return
        self._must(slot.attached)
        self._must(not force)
        self._must(self._may_fail(slot))
        self._must(result.error.code != 'internal')
        slot.attached.broken = True

    def _attached(self) -> list[actors.Slot]:
        return [slot for slot in self.slots if slot.attached]

    def _one_attached(self, number: int) -> list[actors.Slot]:
        """One of those that are attached, if any is."""
        attached = self._attached()
        return [attached[number % len(attached)]] if attached else []

    # -- what must be

    def _check(self) -> None:
        self.somebody.check()
        for slot in self.slots:
            self._check_data(slot)
        self._check_list()
        snapshot: dict[str, Any] = {}

        def nothing_is_left() -> bool:
            nonlocal snapshot
            snapshot = self.bed.snapshot()
            return not self._strangers(snapshot)

        self._must(
            actors.until(nothing_is_left), f'left: {self._strangers(snapshot)}'
        )
        self._forgive()

    def _check_data(self, slot: actors.Slot) -> None:
        """The device of an attachment leads to its volume, or fails."""
        if slot.attached is None or slot.stale or slot.attached.broken:
            return
        if not slot.attached.portals - self.dead - slot.attached.lost:
            return  # I/O may wait for them
        try:
            found = self.bed.read(slot.attached.device.path)
        except OSError:
            self._must(
                slot.attached.portals & self.touched,
                f'no data from {slot.name}',
            )
            return
        self._must(
            found == slot.content.pattern, f'wrong data from {slot.name}'
        )

    def _check_list(self) -> None:
        wrong: list[str] = []

        def agrees() -> bool:
            nonlocal wrong
            listed = dict(
                one.split(' ', 1) for one in self.worker.attachments()
            )
            wrong = [
                f'{slot.name} is {listed.get(slot.name)}'
                for slot in self.slots
                if listed.get(slot.name) not in _states(slot)
            ]
            return not wrong

        self._must(actors.until(agrees), f'the list does not agree: {wrong}')

    def _strangers(self, snapshot: dict[str, Any]) -> list[Any]:
        """What is there, and belongs to no attachment or is missing."""
        used = self._attached()
        if not used:
            return [
                {key: value}
                for key, value in snapshot.items()
                if value != self.before[key]
            ]
        targets = {slot.volume.target for slot in used}
        wrong = [
            session
            for session in snapshot['sessions']
            if session not in self.before['sessions']
            and session[0] not in targets
        ]
        for kind in ('scsi_devices', 'block_devices'):
            wrong += [
                device
                for device in snapshot[kind]
                if device not in self.before[kind]
                and not any(slot.owns(device) for slot in used)
            ]
            wrong += [
                ('missing', device)
                for device in self.before[kind]
                if device not in snapshot[kind]
            ]
        wrong += [
            ('missing', place)
            for slot in used
            for place in slot.places()
            if place
            not in [
                device[:2] + device[3:4]
                for device in snapshot['block_devices']
            ]
        ]
        known = {wwn for slot in used for wwn in slot.attached.seen}
        wrong += [
            name
            for kind in ('maps', 'wwids')
            for name in snapshot[kind]
            if not any(wwn in name for wwn in known)
        ]
        return wrong

    def _may_fail(self, slot: actors.Slot) -> bool:
        """Whether there was trouble that an error can come from."""
        if slot.stale or (slot.attached and slot.attached.broken):
            return True
        if slot.attached is not None:
            return bool(slot.attached.portals & self.touched)
        # One portal that nothing has happened to is enough.
        return self.touched >= set(slot.volume.portals)

    def _deadline(self, slot: actors.Slot) -> int | None:
        return BRIEFLY if self._may_fail(slot) else None

    def _trouble(self, what: str, portal: str) -> None:
        self.steps.append(what)
        self.touched.add(portal)

    def _forgive(self) -> None:
        """Trouble is over with the last attachment that it could touch."""
        if not any(slot.attached for slot in self.slots[:2]):
            self.touched &= self.dead

    def _did(self, what: str, result: objects.OperationResult) -> None:
        end = result.status
        if result.error:
            end = (
                f'{result.error.code} in {result.error.step}: '
                f'{result.error.message}'
            )
        elif result.device:
            end += f' {result.device.as_dict()}'
        self.steps.append(f'{what}: {end}')

    def _must(self, holds: object, what: str = '') -> None:
        """Keep the story of the first failure.

        hypothesis would do the steps again to see whether they fail again;
        but a host that something went wrong on is no place for that.
        """
        if not holds:
            story = '\n  '.join(['it fails after', *self.steps, what])
            self.failures.append(story)
            raise AssertionError(story)

    def teardown(self) -> None:
        """Mend everything; then all can be detached, and nothing is left."""
        if self.failures:
            return
        for portal in self.portals:
            if portal in self.dead:
                self.bed.restore_path(self.slots[0].volume, portal)
                self.dead.remove(portal)
        for slot in self._attached():
            self._detach(slot, force=True)
        self._check()


def _states(slot: actors.Slot) -> set[str | None]:
    if slot.attached is None:
        return {None}
    return PRESENT | ({'failed'} if slot.attached.broken else set())


@pytest.mark.slow
@pytest.mark.timeout(3000 if RANDOM else 1200)
def test_random_sequences(bed: beds.Bed, worker: harness.Harness) -> None:
    with contextlib.closing(actors.Storage(bed)) as storage:
        try:
            stateful.run_state_machine_as_test(
                lambda: Sequences(worker, storage),
                settings=hypothesis.settings(
                    max_examples=RANDOM or SEQUENCES,
                    stateful_step_count=STEPS,
                    # The same commit must give the same verdict.
                    derandomize=not RANDOM,
                    database=None,
                    deadline=None,
                    phases=[hypothesis.Phase.generate],
                    suppress_health_check=list(hypothesis.HealthCheck),
                ),
            )
        except Exception:
            # What hypothesis makes of a failure is of no use here.
            if not storage.failures:
                raise
    assert not storage.failures, storage.failures[0]
