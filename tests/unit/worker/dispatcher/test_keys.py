# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which jobs may not run at the same time."""

import threading

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from attachworker.worker import dispatcher as dispatchers
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Job
from tests.unit.worker.dispatcher.jobs import Make
from tests.unit.worker.dispatcher.jobs import add
from tests.unit.worker.dispatcher.jobs import settle


def test_jobs_with_a_key_in_common_run_one_after_another(make: Make) -> None:
    # Given jobs of three attachments, of which two share a volume
    dispatcher = make()
    first, second = Job('one', keys='v'), Job('two', keys='vw')
    other = Job('three', keys='x')
    add(dispatcher, first, second, other)
    first.begun()
    other.begun()
    # Then of those two one waits, and the first knows
    settle(dispatcher)
    assert second.waits
    assert first.wrapping_up.is_set()
    assert not other.wrapping_up.is_set()
    first.end()
    second.begun()
    second.end()
    other.end()


def test_who_comes_later_does_not_overtake_by_another_key(make: Make) -> None:
    # Given a job that waits for one of its two keys
    dispatcher = make()
    first, second = Job('one', keys='a'), Job('two', keys='ab')
    add(dispatcher, first, second)
    first.begun()
    # When one comes that needs only the other key, which nobody has
    third = Job('three', keys='b')
    add(dispatcher, third)
    # Then it waits for its turn, and the one before it wraps up
    settle(dispatcher)
    assert third.waits
    assert second.wrapping_up.is_set()
    first.end()
    second.begun()
    assert third.waits
    second.end()
    third.begun()
    third.end()


def detach_behind_attach() -> tuple[Job, Job]:
    """An attach, and a detach of it, which knows no volume before it ran."""
    attach = Job('one', 'dead', keys='v')
    detach = Job('one', '', knows_volume=False)
    return attach, detach


def test_a_detach_behind_its_attach_takes_a_place_of_its_backend(
    make: Make,
) -> None:
    # Given a backend that may have one place, and a detach behind its attach
    dispatcher = make(per_backend=1)
    attach, detach = detach_behind_attach()
    add(dispatcher, attach, detach)
    attach.begun()
    # When another attachment of that backend has the place
    other, last = Job('two', 'dead'), Job('one', '', knows_volume=False)
    dispatcher.remove(detach)
    add(dispatcher, other, detach, last)
    attach.end()
    other.begun()
    # Then the detach waits for it, and what comes behind the detach, too
    settle(dispatcher)
    assert detach.waits
    assert detach.backend == last.backend == 'dead'
    other.end()
    for job in detach, last:
        job.begun()
        job.end()


def test_a_detach_behind_its_attach_has_the_keys_of_its_volume(
    make: Make,
) -> None:
    # Given a detach of a volume whose attach has not run yet
    dispatcher = make(running=1)
    first = Job('three')
    attach, detach = detach_behind_attach()
    add(dispatcher, first, attach, detach)
    # When another attachment of the volume comes
    other = Job('two', 'dead', keys='v')
    add(dispatcher, other)
    # Then that waits until the volume is detached, and the detach knows
    assert detach.wrapping_up.is_set()
    assert detach.keys == attach.keys
    for job in first, attach, detach, other:
        job.begun()
        job.end()


def test_nobody_overtakes_what_waits_for_its_backend(make: Make) -> None:
    # Given a job whose backend has no place
    dispatcher = make(per_backend=1)
    first, second = Job('one', 'full'), Job('two', 'full')
    add(dispatcher, first, second)
    first.begun()
    # Then another job of the same attachment comes after it, though its own
    # backend has
    third = Job('two', 'empty')
    add(dispatcher, third)
    settle(dispatcher)
    assert (second.waits, third.waits) == (True, True)
    first.end()
    second.begun()
    second.end()
    third.begun()
    third.end()


def test_what_is_taken_out_hinders_nobody(make: Make) -> None:
    dispatcher = make()
    first, second = Job('one', keys='a'), Job('two', keys='ab')
    third = Job('three', keys='b')
    add(dispatcher, first, second, third)
    first.begun()
    settle(dispatcher)
    assert third.waits
    assert dispatcher.remove(second)
    third.begun()
    third.end()
    first.end()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.frozensets(st.sampled_from('abcd'), max_size=3), max_size=25),
    st.integers(1, 4),
)
def test_whatever_the_keys_are_each_runs_alone_and_in_order(
    wanted: list[frozenset[str]], running: int
) -> None:
    lock = threading.Lock()
    held: list[str] = []
    order: dict[str, list[int]] = {}
    broken: list[int] = []

    def act(number: int, keys: frozenset[str]) -> None:
        with lock:
            if not keys.isdisjoint(held):
                broken.append(number)
            held.extend(keys)
            for key in keys:
                order.setdefault(key, []).append(number)
        with lock:
            for key in keys:
                held.remove(key)

    dispatcher = dispatchers.Dispatcher(running, running, 100)
    dispatcher.start()
    jobs = [
        Job(
            str(number),
            act=lambda number=number, keys=keys: act(number, keys),
            keys=''.join(keys),
        )
        for number, keys in enumerate(wanted)
    ]
    add(dispatcher, *jobs)
    for job in jobs:
        assert job.ended.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert broken == []
    for found in order.values():
        assert found == sorted(found)
