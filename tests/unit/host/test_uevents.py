# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Waiting for what the kernel reports."""

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import errno
import threading

import pytest

from attachworker import deadline as deadlines
from attachworker.host import uevents
from tests.unit.host import fake_uevents

#: Far longer than anything here takes; only failures wait that long.
PATIENCE = 10.0
ADD = {'ACTION': 'add', 'SUBSYSTEM': 'block', 'DEVPATH': '/devices/sda'}
OTHER = {'ACTION': 'add', 'SUBSYSTEM': 'net', 'DEVPATH': '/devices/eth0'}


class Sight:
    """Something to look for, and a count of the looks."""

    def __init__(self) -> None:
        self.found: str | None = None
        self._looks = 0
        self._changed = threading.Condition()

    def look(self) -> str | None:
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
            return self.found

    def looked(self, times: int) -> None:
        """Wait until somebody has looked so often."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self._looks >= times, PATIENCE
            )

    @property
    def looks(self) -> int:
        return self._looks


Wait = Callable[..., 'concurrent.futures.Future[str | None]']


@pytest.fixture
def source() -> fake_uevents.FakeSource:
    return fake_uevents.FakeSource()


@pytest.fixture
def monitor(
    source: fake_uevents.FakeSource,
) -> Iterator[uevents.UeventMonitor]:
    """One that does not look again by itself while a test runs."""
    made = uevents.UeventMonitor(source, fallback_interval=60.0)
    yield made
    made.close()
    assert source.closed


@pytest.fixture
def wait(monitor: uevents.UeventMonitor) -> Iterator[Wait]:
    with concurrent.futures.ThreadPoolExecutor() as threads:

        def start(
            sight: Sight, seconds: float = 3 * PATIENCE
        ) -> 'concurrent.futures.Future[str | None]':
            return threads.submit(
                monitor.wait_for,
                sight.look,
                lambda event: event['SUBSYSTEM'] == 'block',
                deadlines.Deadline.after(seconds),
            )

        yield start


def test_what_is_there_already_is_found_at_once(wait: Wait) -> None:
    sight = Sight()
    sight.found = 'sda'
    assert wait(sight).result(PATIENCE) == 'sda'
    assert sight.looks == 1


def test_a_relevant_event_makes_it_look_again(
    source: fake_uevents.FakeSource, wait: Wait
) -> None:
    # Given somebody who waits for a disk that is not there
    sight = Sight()
    waiting = wait(sight)
    sight.looked(1)
    # When it comes and the kernel says so
    sight.found = 'sda'
    source.put(ADD)
    # Then it is found
    assert waiting.result(PATIENCE) == 'sda'
    assert sight.looks == 2


def test_an_event_is_a_hint_and_not_the_truth(
    source: fake_uevents.FakeSource, wait: Wait
) -> None:
    sight = Sight()
    waiting = wait(sight)
    sight.looked(1)
    # Given an event, but nothing to see
    source.put(ADD)
    sight.looked(2)
    assert not waiting.done()
    # When the next event comes, and there is
    sight.found = 'sda'
    source.put(ADD)
    assert waiting.result(PATIENCE) == 'sda'


def test_other_events_wake_nobody(
    source: fake_uevents.FakeSource,
    monitor: uevents.UeventMonitor,
    wait: Wait,
) -> None:
    # Given one who waits for disks, and one who waits for anything
    disks, anything = Sight(), Sight()
    waiting = wait(disks)
    disks.looked(1)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        witness = threads.submit(
            monitor.wait_for,
            anything.look,
            lambda event: True,
            deadlines.Deadline.after(3 * PATIENCE),
        )
        anything.looked(1)
        # When an event about something else has come
        anything.found = 'eth0'
        source.put(OTHER)
        assert witness.result(PATIENCE) == 'eth0'
    # Then the first has not looked again
    assert disks.looks == 1
    disks.found = 'sda'
    source.put(ADD)
    assert waiting.result(PATIENCE) == 'sda'


def test_after_an_overrun_everybody_looks_again(
    source: fake_uevents.FakeSource, wait: Wait
) -> None:
    # Given two who wait
    sights = [Sight(), Sight()]
    waiting = [wait(sight) for sight in sights]
    for sight in sights:
        sight.looked(1)
        sight.found = 'sda'
    # When events are lost, theirs among them
    source.put(OSError(errno.ENOBUFS, 'No buffer space available'))
    # Then both find what they wait for
    assert [one.result(PATIENCE) for one in waiting] == ['sda', 'sda']


def test_events_go_on_after_an_overrun(
    source: fake_uevents.FakeSource, wait: Wait
) -> None:
    sight = Sight()
    waiting = wait(sight)
    sight.looked(1)
    source.put(OSError(errno.ENOBUFS, 'No buffer space available'), ADD)
    sight.looked(2)
    sight.found = 'sda'
    source.put(ADD)
    assert waiting.result(PATIENCE) == 'sda'


def test_nothing_comes_before_the_deadline(
    wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a deadline that passes with the second look, however busy the
    # machine is
    sight = Sight()
    monkeypatch.setattr(deadlines, 'now', lambda: float(sight.looks > 1))
    # Then somebody looks at first, and a last time
    assert wait(sight, 0.05).result(PATIENCE) is None
    assert sight.looks == 2


def test_a_passed_deadline_still_allows_one_look(wait: Wait) -> None:
    sight = Sight()
    sight.found = 'sda'
    assert wait(sight, -1.0).result(PATIENCE) == 'sda'


def test_a_lost_event_costs_one_interval() -> None:
    # Given a monitor that looks again by itself
    source = fake_uevents.FakeSource()
    monitor = uevents.UeventMonitor(source, fallback_interval=0.02)
    found = iter([None, None, 'sda'])
    # When no event comes at all, then the disk is found nevertheless
    try:
        assert (
            monitor.wait_for(
                lambda: next(found),
                lambda event: True,
                deadlines.Deadline.after(PATIENCE),
            )
            == 'sda'
        )
    finally:
        monitor.close()


def test_a_broken_source_leaves_the_interval() -> None:
    # Given a source that fails for good
    source = fake_uevents.FakeSource()
    source.put(OSError(errno.EBADF, 'Bad file descriptor'))
    monitor = uevents.UeventMonitor(source, fallback_interval=0.02)
    found = iter([None, None, 'sda'])
    # Then waiting works still, and so does the end
    try:
        assert (
            monitor.wait_for(
                lambda: next(found),
                lambda event: False,
                deadlines.Deadline.after(PATIENCE),
            )
            == 'sda'
        )
    finally:
        monitor.close()


@pytest.mark.parametrize(
    'error',
    [OSError(errno.ENOMEM, 'Cannot allocate memory'), KeyError('DEVPATH')],
)
def test_events_come_again_when_what_kept_them_is_over(
    error: Exception,
) -> None:
    # Given a source that has failed
    source = fake_uevents.FakeSource()
    source.put(error)
    monitor = uevents.UeventMonitor(source, fallback_interval=0.2)
    sight = Sight()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(
            monitor.wait_for,
            sight.look,
            lambda event: event['SUBSYSTEM'] == 'block',
            deadlines.Deadline.after(3 * PATIENCE),
        )
        # When it works again
        while not waiting.done():
            looks = sight.looks
            source.put(ADD)
            sight.looked(looks + 1)
            sight.found = 'sda'
        # Then its events are received
        assert waiting.result(PATIENCE) == 'sda'
    assert monitor._thread.is_alive()
    monitor.close()


def test_the_first_error_of_a_look_reaches_the_caller(
    monitor: uevents.UeventMonitor,
) -> None:
    def look() -> None:
        raise LookupError('sysfs')

    with pytest.raises(LookupError, match='sysfs'):
        monitor.wait_for(
            look, lambda event: True, deadlines.Deadline.after(PATIENCE)
        )
