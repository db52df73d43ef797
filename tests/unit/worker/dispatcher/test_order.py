# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which operation runs next, and how many run at once."""

import itertools
import threading

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from attachworker import exception
from attachworker.worker import dispatcher as dispatchers
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Job
from tests.unit.worker.dispatcher.jobs import Make
from tests.unit.worker.dispatcher.jobs import add
from tests.unit.worker.dispatcher.jobs import settle


def test_of_one_attachment_one_operation_runs(make: Make) -> None:
    # Given two operations of one attachment and one of another
    dispatcher = make()
    first, second, other = Job('one'), Job('one'), Job('two')
    add(dispatcher, first, second, other)
    # Then the first and the other run, and the second waits
    first.begun()
    other.begun()
    settle(dispatcher)
    assert second.waits
    # until the first has ended
    first.end()
    second.begun()
    second.end()
    other.end()


def test_operations_of_an_attachment_keep_their_order(make: Make) -> None:
    dispatcher = make(running=4)
    order: list[int] = []
    jobs = [
        Job('one', act=lambda number=number: order.append(number))
        for number in range(50)
    ]
    add(dispatcher, *jobs)
    for job in jobs:
        assert job.ended.wait(PATIENCE)
    assert order == list(range(50))


def test_no_more_run_than_there_are_places(make: Make) -> None:
    dispatcher = make(running=2)
    jobs = [Job(name) for name in 'abc']
    add(dispatcher, *jobs)
    jobs[0].begun()
    jobs[1].begun()
    assert jobs[2].waits
    jobs[1].end()
    jobs[2].begun()
    for job in jobs:
        job.end()


def test_a_dead_backend_does_not_take_all_places(make: Make) -> None:
    # Given a backend whose operations hang, in all places that it may take
    dispatcher = make(running=4, per_backend=2)
    dead = [Job(name, 'dead') for name in 'abcdef']
    add(dispatcher, *dead)
    dead[0].begun()
    dead[1].begun()
    # When another backend is used, then that is not delayed
    other = Job('other', 'alive')
    add(dispatcher, other)
    other.begun()
    assert [job.waits for job in dead] == [False, False, *[True] * 4]
    other.end()
    # And the places of the dead one are given on, oldest first
    dead[1].end()
    dead[2].begun()
    settle(dispatcher)
    assert dead[3].waits
    for job in (dead[0], *dead[2:]):
        job.begun()
        job.end()


def test_several_dead_backends_do_not_take_all_places(make: Make) -> None:
    # Given two backends whose operations hang, and more of them than places
    dispatcher = make(running=8, per_backend=4)
    dead = [Job(f'{of}{n}', of) for n in range(5) for of in ('one', 'two')]
    add(dispatcher, *dead)
    for job in dead[:6]:
        job.begun()
    # When others are used, then they are not delayed
    others = [Job(name, name) for name in ('three', 'four')]
    add(dispatcher, *others)
    for job in others:
        job.begun()
    assert all(job.waits for job in dead[6:])
    for job in (*others, *dead):
        job.begun()
        job.end()


def test_one_backend_alone_has_all_places_that_it_may_have(
    make: Make,
) -> None:
    for per_backend in (3, 4):
        dispatcher = make(running=4, per_backend=per_backend)
        jobs = [Job(f'{per_backend}{name}') for name in range(per_backend)]
        add(dispatcher, *jobs)
        for job in jobs:
            job.begun()
        for job in jobs:
            job.end()


def test_a_job_that_raises_harms_nobody(make: Make) -> None:
    # Given one place, and a job that breaks down
    dispatcher = make(running=1, per_backend=1)

    def act() -> None:
        raise RuntimeError('a bug')

    broken, after, same = Job('one', act=act), Job('two'), Job('one')
    add(dispatcher, broken, after, same)
    # Then the next ones run, of the same attachment too
    after.begun()
    after.end()
    same.begun()
    same.end()


def test_a_full_queue_refuses(make: Make) -> None:
    # Given a queue of two, with one
    dispatcher = make(running=1, queued=2)
    running, *waiting = [Job(name) for name in 'abc']
    add(dispatcher, running)
    running.begun()
    add(dispatcher, waiting[0])
    dispatcher.check_room()
    # When the last place is taken, then nothing more is accepted
    add(dispatcher, waiting[1])
    with pytest.raises(exception.WorkerBusy):
        dispatcher.check_room()
    # And when one has left the queue, then it is again
    running.end()
    waiting[0].begun()
    dispatcher.check_room()
    for job in waiting:
        job.begun()
        job.end()


def test_what_was_accepted_is_never_refused(make: Make) -> None:
    """After a restart there may be more than the queue holds."""
    dispatcher = make(running=1, queued=1)
    jobs = [Job(name, act=lambda: None) for name in 'abcdef']
    add(dispatcher, *jobs)
    for job in jobs:
        assert job.ended.wait(PATIENCE)


def test_stop_waits_for_what_runs_and_starts_no_more(make: Make) -> None:
    # Given an operation that runs and one that waits
    dispatcher = make(running=1)
    running, waiting = Job('one'), Job('two')
    add(dispatcher, running, waiting)
    running.begun()
    # When it is stopped, then it says that one still runs
    assert dispatcher.stop(0.01) is False
    with pytest.raises(exception.WorkerBusy):
        dispatcher.check_room()
    # And once that has ended, nothing does
    running.end()
    assert dispatcher.stop(PATIENCE) is True
    assert waiting.waits


def test_stop_of_one_that_was_never_started() -> None:
    dispatcher = dispatchers.Dispatcher(2, 2, 2)
    dispatcher.add(Job('one'))
    assert dispatcher.stop(0.0) is True


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_whatever_comes_the_limits_hold(
    wanted: list[tuple[int, int]], running: int, per_backend: int
) -> None:
    """Every job runs once; never too many, never two of one attachment."""
    lock = threading.Lock()
    now: list[tuple[int, int]] = []
    broken: list[str] = []
    counted = itertools.count(1)
    done = threading.Event()

    def act(attachment: int, backend: int) -> None:
        with lock:
            if attachment in [one for one, _ in now]:
                broken.append('two of one attachment')
            now.append((attachment, backend))
            if len(now) > running:
                broken.append('too many')
            if [one for _, one in now].count(backend) > per_backend:
                broken.append('too many of a backend')
        with lock:
            now.remove((attachment, backend))
            if next(counted) == len(wanted):
                done.set()

    dispatcher = dispatchers.Dispatcher(running, per_backend, 100)
    dispatcher.start()
    for attachment, backend in wanted:
        dispatcher.add(
            Job(
                str(attachment),
                str(backend),
                lambda one=attachment, two=backend: act(one, two),
            )
        )
    assert not wanted or done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert broken == []


def test_a_job_that_others_of_its_attachment_wait_for_is_asked_to_wrap_up(
    make: Make,
) -> None:
    # Given a job that runs, and one of another attachment
    dispatcher = make()
    first, other = Job('one'), Job('two')
    add(dispatcher, first, other)
    first.begun()
    other.begun()
    assert not first.wrapping_up.is_set()
    # When there is another one for the first attachment
    second = Job('one')
    add(dispatcher, second)
    # Then the first one knows, and nobody else
    assert first.wrapping_up.is_set()
    assert not other.wrapping_up.is_set()
    assert not second.wrapping_up.is_set()
    for job in (first, second, other):
        job.end()


def test_stop_has_what_runs_wrap_up(make: Make) -> None:
    dispatcher = make()
    job = Job('one')
    add(dispatcher, job)
    job.begun()
    assert dispatcher.stop(0.0) is False
    assert job.wrapping_up.is_set()
    job.end()


def test_a_job_that_waits_can_be_taken_out() -> None:
    # Given one job that runs and one that waits
    dispatcher = dispatchers.Dispatcher(1, 1, 8)
    dispatcher.start()
    first, second = Job('a'), Job('b')
    dispatcher.add(first)
    dispatcher.add(second)
    first.begun()
    # Then only the latter can be taken out, once
    assert dispatcher.remove(first) is False
    assert dispatcher.remove(second) is True
    assert dispatcher.remove(second) is False
    first.end()
    assert dispatcher.stop(PATIENCE)
    assert second.waits


def test_it_works_however_long_jobs_take() -> None:
    dispatcher = dispatchers.Dispatcher(1, 1, 8)
    assert dispatcher.works(0.01)
    dispatcher.start()
    first, second = Job('a'), Job('b')
    for job in (first, second):
        dispatcher.add(job)
    first.begun()
    threading.Event().wait(0.05)
    assert dispatcher.works(0.01)
    for job in (first, second):
        job.end()
    assert dispatcher.stop(PATIENCE)


def test_it_does_not_work_when_it_hangs() -> None:
    # Given a dispatcher that is stuck while it looks for what is next
    stuck, release = threading.Event(), threading.Event()

    class Sticky(Job):
        @property
        def backend(self) -> str:
            stuck.set()
            assert release.wait(PATIENCE)
            return 'backend'

        @backend.setter
        def backend(self, value: str) -> None:
            pass

    dispatcher = dispatchers.Dispatcher(1, 1, 8)
    dispatcher.start()
    job = Sticky('a')
    adding = threading.Thread(target=dispatcher.add, args=(job,))
    adding.start()
    assert stuck.wait(PATIENCE)
    # Then it says so, and works again when it is free
    assert not dispatcher.works(0.01)
    release.set()
    job.begun()
    adding.join(PATIENCE)
    assert dispatcher.works(PATIENCE)
    job.end()
    assert dispatcher.stop(PATIENCE)
