# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""An attach that is cancelled, at any of its steps."""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import threading
from typing import ClassVar

import pytest

from attachworker import deadline as deadlines
from attachworker import flows
from attachworker.connectors import base
from attachworker.tasks import attempts
from attachworker.tasks import takedown
from attachworker.tasks.run import Run
from tests import harness
from tests.contract import bed as beds
from tests.crash.test_steps import steps

PATIENCE = 30.0

STEPS = steps(flows.attach)


class WatchedAttempts(attempts.Attempts):
    """Tells when somebody begins to wait for the outcome of one."""

    def wait(
        self, target: base.Target, deadline: deadlines.Deadline
    ) -> base.PathOutcome:
        CancelledRun.waits.set()
        return super().wait(target, deadline)


class CancelledRun(Run):
    """Somebody cancels the request as a step begins, or when all is done.

    :cvar step: where; None: nowhere
    :cvar waits: set once an attach waits for a target
    """

    step: ClassVar[str | None] = None
    cancel: ClassVar[Callable[[], None]]
    waits: ClassVar[threading.Event] = threading.Event()
    lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def arm(cls, step: str, cancel: Callable[[], None]) -> None:
        cls.step, cls.cancel = step, staticmethod(cancel)

    @functools.cached_property
    def attempts(self) -> attempts.Attempts:
        # As in Run.
        wanted = self.min_paths if self.multipath else 1
        return WatchedAttempts(wanted, together=self.multipath)

    def _strike(self, point: str) -> None:
        cls = type(self)
        with cls.lock:
            if cls.step != point:
                return
            cls.step = None
        cls.cancel()

    def take_down(
        self, deadline: deadlines.Deadline, undo: bool
    ) -> takedown.Takedown:
        self._strike('take down')
        return super().take_down(deadline, undo)

    def before(self, step: str) -> None:
        super().before(step)
        self._strike(step.partition(':')[0])

    def after(self, step: str) -> None:
        super().after(step)
        self._strike(f'after {step}')


@pytest.fixture(scope='module')
def cancelling(shared_bed: beds.Bed) -> Iterator[harness.Harness]:
    with harness.Harness(
        shared_bed, run_class=CancelledRun, iscsi={'login_timeout': 5}
    ) as running:
        yield running


@pytest.mark.parametrize(
    ('portals', 'multipath'),
    [(1, False), (2, False), (2, True)],
    ids=['1', '2', 'map'],
)
@pytest.mark.parametrize('step', [*STEPS, 'after VerifyDevice'])
def test_cancelled_attach_is_undone(
    bed: beds.Bed,
    cancelling: harness.Harness,
    step: str,
    portals: int,
    multipath: bool,
) -> None:
    # Given a neighbour on the same target
    worker = cancelling
    neighbour = bed.create_volume()
    path = worker.attach(neighbour).device.path
    volume = bed.create_volume(portals=portals)
    before = bed.snapshot()
    # When an attach is cancelled in a step, or between the last one and its
    # result
    request = harness.attach_request(volume, multipath=multipath)
    told: list[bool] = []

    def cancel() -> None:
        told.append(worker.api.cancel({}, worker.name, request.request_id))

    CancelledRun.arm(step, cancel)
    result = worker.api.attach_volume({}, worker.name, request)
    # Then who has cancelled it was told so, and that is its one result
    assert told == [True]
    assert result.status == 'failed', result.as_dict()
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.leftovers == []
    stored = worker.api.get_result({}, worker.name, request.request_id)
    assert stored.as_dict() == result.as_dict()
    # And the host is as it was
    assert bed.snapshot() == before
    assert worker.attachments() == [f'{neighbour.name} attached']
    assert bed.read(path) == neighbour.pattern
    # And it can be attached after all
    again = worker.attach(volume, multipath=multipath)
    assert again.status == 'attached', again.as_dict()
    assert worker.detach(volume.name).status == 'detached'
    assert worker.detach(neighbour.name).status == 'detached'


@pytest.mark.parametrize('step', ['ConnectTarget', 'after VerifyDevice'])
def test_cancelled_repeat_leaves_the_attachment(
    bed: beds.Bed, cancelling: harness.Harness, step: str
) -> None:
    # Given an attachment
    worker = cancelling
    volume = bed.create_volume()
    path = worker.attach(volume).device.path
    before = bed.snapshot()
    # When it is asked for again, and that is cancelled
    request = harness.attach_request(volume)
    CancelledRun.arm(
        step,
        lambda: worker.api.cancel({}, worker.name, request.request_id),
    )
    result = worker.api.attach_volume({}, worker.name, request)
    # Then it is as it was
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
    assert bed.read(path) == volume.pattern
    assert worker.attachments() == [f'{volume.name} attached']
    assert worker.detach(volume.name).status == 'detached'


def test_what_is_decided_cannot_be_cancelled(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    attach = harness.attach_request(volume)
    result = worker.api.attach_volume({}, worker.name, attach)
    cancel = worker.api.cancel
    assert cancel({}, worker.name, attach.request_id) is False
    assert cancel({}, worker.name, 'no-such-request') is False
    assert bed.read(result.device.path) == volume.pattern
    detach = harness.detach_request(volume.name)
    worker.api.detach_volume({}, worker.name, detach)
    assert cancel({}, worker.name, detach.request_id) is False


def test_a_portal_that_hangs_holds_up_no_cancel(
    bed: beds.Bed, cancelling: harness.Harness
) -> None:
    # Given an attach that waits for a portal
    worker = cancelling
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.hang_portal(volume.portals[0])
    request = harness.attach_request(volume)
    told: list[bool] = []

    def cancel() -> None:
        assert CancelledRun.waits.wait(PATIENCE)
        told.append(worker.api.cancel({}, worker.name, request.request_id))

    try:
        # When it is cancelled while its only step is to wait
        CancelledRun.waits.clear()
        canceller = threading.Thread(target=cancel)
        canceller.start()
        result = worker.api.attach_volume({}, worker.name, request)
        canceller.join(PATIENCE)
    finally:
        bed.start_portal(volume.portals[0])
    # Then it ends as cancelled, not when the portal is given up
    assert told == [True]
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.error.step == f'ConnectTarget:{_target(volume)}'
    assert result.leftovers == []
    assert bed.snapshot() == before


def test_a_device_that_cannot_be_read_goes_also_when_it_is_cancelled(
    bed: beds.Bed, cancelling: harness.Harness
) -> None:
    # Given a volume that none of its ports lets be read
    worker = cancelling
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    for portal in volume.portals:
        bed.set_access(volume, portal, 'standby')
    # When an attach is cancelled as it takes the first device away again
    request = harness.attach_request(volume)
    CancelledRun.arm(
        'take down',
        lambda: worker.api.cancel({}, worker.name, request.request_id),
    )
    result = worker.api.attach_volume({}, worker.name, request)
    # Then that is no reason to leave it
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before


def _target(volume: beds.Volume) -> str:
    return f'{volume.portals[0]},{volume.target},{volume.lun}'
