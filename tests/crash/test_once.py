# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every write of the journal fails once, and every start of a thread.

Whichever it is: each request that was accepted has one final result, what is
left of it goes without a restart, nothing stays taken, and the next request
works. A story is told once to count, and then once for each that is to fail.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import pathlib
import time
from typing import Any
import uuid

import pytest

from attachworker import exception
from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.crash import faults
from tests.crash import once as faulty
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault
from tests.unit.earlier import Earlier

#: A story is told as often as there is something that may fail in it.
pytestmark = pytest.mark.timeout(900)

PATIENCE = 30.0
_FAULTS = {
    'write': faulty.writes,
    # a disk that is full for a while
    'writes': functools.partial(faulty.writes, 3),
    'thread': faulty.threads,
}

FailingRun = faults.failing(faults.Mode.RAISES_AFTER)


@pytest.fixture(scope='module')
def bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    bed.set_multipathd()
    yield bed
    bed.close()


@pytest.fixture(params=_FAULTS)
def once(request: pytest.FixtureRequest) -> Iterator[faulty.Once]:
    with _FAULTS[request.param]() as made:
        yield made


@pytest.fixture
def worker(bed: SimulatedBed) -> Iterator[harness.Harness]:
    with start(bed) as running:
        yield running


def start(
    bed: SimulatedBed, state: pathlib.Path | None = None
) -> harness.Harness:
    iscsi = {'login_timeout': 2, 'scan_attempts': 2, 'device_timeout': 5}
    return harness.Harness(
        bed, state_path=state, iscsi=iscsi, run_class=FailingRun
    )


def started(bed: SimulatedBed, state: pathlib.Path) -> harness.Harness:
    """What starts a worker starts it again while it cannot start."""
    for _ in range(4):
        running = None
        try:
            running = start(bed, state)
            return running.__enter__()
        except (exception.JournalUnavailable, RuntimeError):
            if running is not None:
                running.__exit__(None, None, None)
    raise AssertionError('it does not start')


def until(look: Callable[[], Any], about: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < limit, about()
        time.sleep(0.01)


class Teller:
    """Tells one story again and again, with another thing that fails."""

    def __init__(self, once: faulty.Once) -> None:
        self._once = once

    def numbers(self) -> Iterator[int | None]:
        number: int | None = None
        while True:
            yield number
            self._once.disarm()
            if number is not None and not self._once.has_struck:
                return
            number = (number or 0) + 1

    @contextlib.contextmanager
    def fault(self, number: int | None) -> Iterator[None]:
        self._once.arm(number)
        try:
            yield
        finally:
            self._once.disarm()


def ask(
    worker: harness.Harness, kind: str, request: Any
) -> objects.OperationResult | None:
    """The one final result; None if the request was not accepted."""
    api = worker.api
    with contextlib.suppress(exception.JournalUnavailable, RuntimeError):
        getattr(api, f'{kind}_volume')({}, worker.name, request)
    return ended(worker, request.request_id)


def ended(
    worker: harness.Harness, request_id: str
) -> objects.OperationResult | None:
    found: list[objects.OperationResult] = []

    def look() -> bool:
        # The thread that failed may be the caller's, who asks again.
        with contextlib.suppress(RuntimeError):
            one = worker.api.get_result({}, worker.name, request_id)
            found.extend([one] if one else [])
        return bool(found)

    try:
        until(look, lambda: f'{request_id} has no result')
    except exception.RequestNotFound:
        return None
    return found[0]


def at_rest(worker: harness.Harness) -> None:
    """Nothing runs, waits, is stuck or left over."""
    parts = worker.worker
    until(
        lambda: (
            parts._dispatcher.jobs() == ([], [])
            and parts._cleanup.pending() == 0
            and parts._host.verbs.stuck() == []
        ),
        lambda: (
            parts._dispatcher.jobs(),
            parts._cleanup.pending(),
            parts._host.verbs.stuck(),
        ),
    )


def attach_request(volume: beds.Volume, **values: Any) -> Any:
    return harness.attach_request(volume, **values)


def detached(
    bed: SimulatedBed,
    worker: harness.Harness,
    volume: beds.Volume,
    before: Any,
) -> None:
    """It can be detached, and then all is as before."""
    assert worker.detach(volume.name).status == 'detached'
    at_rest(worker)
    assert bed.snapshot() == before
    assert worker.attachments() == []


@pytest.mark.parametrize('multipath', [False, True], ids=['1', 'map'])
def test_attach(
    bed: SimulatedBed,
    worker: harness.Harness,
    once: faulty.Once,
    multipath: bool,
) -> None:
    teller = Teller(once)
    volume = bed.create_volume(portals=2 if multipath else 1)
    before = bed.snapshot()
    worker.api.ping({}, worker.name)
    for number in teller.numbers():
        with teller.fault(number):
            request = attach_request(volume, multipath=multipath)
            result = ask(worker, 'attach', request)
            at_rest(worker)
        if result is not None and result.status == 'attached':
            assert bed.read(result.device.path) == volume.pattern
            assert len(worker.attachments()) == 1
        else:
            assert bed.snapshot() == before, number
            assert worker.attachments() == []
            # And the next one works
            again = worker.attach(volume, multipath=multipath)
            assert again.status == 'attached', (number, again.as_dict())
            at_rest(worker)
        detached(bed, worker, volume, before)


@pytest.mark.parametrize('multipath', [False, True], ids=['1', 'map'])
def test_detach(
    bed: SimulatedBed,
    worker: harness.Harness,
    once: faulty.Once,
    multipath: bool,
) -> None:
    teller = Teller(once)
    volume = bed.create_volume(portals=2 if multipath else 1)
    before = bed.snapshot()
    for number in teller.numbers():
        attached = worker.attach(volume, multipath=multipath)
        assert attached.status == 'attached', attached.as_dict()
        at_rest(worker)
        with teller.fault(number):
            request = harness.detach_request(volume.name)
            result = ask(worker, 'detach', request)
            at_rest(worker)
        if result is None or result.status != 'detached':
            # The next one goes on from there
            detached(bed, worker, volume, before)
        assert bed.snapshot() == before, number
        assert worker.attachments() == []


def test_extend(
    bed: SimulatedBed, worker: harness.Harness, once: faulty.Once
) -> None:
    teller = Teller(once)
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    size = volume.size
    assert worker.attach(volume, multipath=True).status == 'attached'
    at_rest(worker)
    for number in teller.numbers():
        size += 1024 * 1024
        bed.resize_volume(volume, size)
        with teller.fault(number):
            request = objects.ExtendRequest(
                request_id=str(uuid.uuid4()),
                attachment_id=volume.name,
                expected_size=size,
            )
            result = ask(worker, 'extend', request)
            at_rest(worker)
        assert worker.attachments() == [f'{volume.name} attached']
        if result is None or result.status != 'extended':
            result = worker.extend(volume.name, size)
            assert result.status == 'extended', (number, result.as_dict())
        assert result.device.size == size
    detached(bed, worker, volume, before)


def test_what_is_left_is_cleaned_up(
    bed: SimulatedBed, worker: harness.Harness, once: faulty.Once
) -> None:
    teller = Teller(once)
    volume = bed.create_volume()
    before = bed.snapshot()
    worker.api.ping({}, worker.name)
    for number in teller.numbers():
        # Given an attach that fails and cannot put its disk back at once
        fault = bed.arm(Fault.FAIL_BEFORE, 'scsi.delete', times=1)
        FailingRun.arm('VerifyDevice')
        with teller.fault(number):
            result = ask(worker, 'attach', attach_request(volume))
            at_rest(worker)
        FailingRun.step = None
        bed.control('clear_faults')
        del fault
        # Then nothing is left in the end
        assert result is None or result.status == 'failed', number
        assert bed.snapshot() == before, number
        assert worker.attachments() == []


@pytest.mark.parametrize('kind', ['attach', 'detach'])
def test_recovery(
    bed: SimulatedBed, tmp_path: pathlib.Path, once: faulty.Once, kind: str
) -> None:
    teller = Teller(once)
    volume = bed.create_volume()
    before = bed.snapshot()
    for number in teller.numbers():
        # Given a worker that was killed in the middle of an attach, or when
        # it had taken a detach
        state = tmp_path / f'{number}'
        if kind == 'detach':
            with start(bed, state) as running:
                assert running.attach(volume).status == 'attached'
        earlier = Earlier(bed, state)
        if kind == 'attach':
            request = attach_request(volume, request_id='request')
            request.validate()
            earlier.accepts('attach', request)
            earlier.begins(volume, request)
        else:
            request = harness.detach_request(volume.name, request_id='request')
            earlier.accepts('detach', request)
        earlier.dies()
        # When the next one starts; whoever starts it does so again
        with teller.fault(number):
            running = started(bed, state)
            result = ended(running, 'request')
            at_rest(running)
        # Then the request has its result
        assert result is not None
        if result.status == 'attached':
            assert bed.read(result.device.path) == volume.pattern
        if running.attachments():
            detached(bed, running, volume, before)
        running.__exit__(None, None, None)
        assert bed.snapshot() == before, number
