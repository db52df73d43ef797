# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Places, threads and time; and what breaks."""

import pytest

from tests.unit import threads
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Job
from tests.unit.worker.dispatcher.jobs import Make
from tests.unit.worker.dispatcher.jobs import add
from tests.unit.worker.dispatcher.jobs import settle

# -- places


def test_what_has_given_its_answer_takes_no_place(make: Make) -> None:
    # Given a job that goes on after its answer, in the only place
    dispatcher = make(running=1, per_backend=1)
    first, second = Job('one'), Job('two')
    add(dispatcher, first, second)
    first.begun()
    assert second.waits
    # When it gives up its place, then the next one runs
    dispatcher.give_up_place(first)
    second.begun()
    # And one of its own attachment does not
    same = Job('one')
    add(dispatcher, same)
    assert first.wrapping_up.is_set()
    second.end()
    settle(dispatcher)
    assert same.waits
    first.end()
    same.begun()
    same.end()


def test_of_those_that_go_on_without_a_place_the_first_is_asked_to_wrap_up(
    make: Make,
) -> None:
    dispatcher = make(running=2, per_backend=2)
    jobs = [Job(name) for name in 'abc']
    other = Job('other', 'another backend')
    for job in (other, *jobs):
        dispatcher.add(job)
        job.begun()
        assert not jobs[0].wrapping_up.is_set()
        dispatcher.give_up_place(job)
    assert [job.wrapping_up.is_set() for job in jobs] == [True, False, False]
    assert not other.wrapping_up.is_set()
    for job in (other, *jobs):
        job.end()


# -- time


def test_a_job_for_later(make: Make) -> None:
    dispatcher = make()
    ended = []
    jobs = [
        Job(name, act=lambda name=name: ended.append(name)) for name in 'ab'
    ]
    dispatcher.add_later(jobs[0], 0.2)
    dispatcher.add_later(jobs[1], 0.01)
    for job in jobs:
        assert job.ended.wait(PATIENCE)
    assert ended == ['b', 'a']


# -- what breaks


def test_a_job_that_ends_its_thread_harms_nobody(make: Make) -> None:
    dispatcher = make(running=1, per_backend=1)

    def act() -> None:
        raise SystemExit

    jobs = [Job('one', act=act), Job('one'), Job('two')]
    add(dispatcher, *jobs)
    for job in jobs[1:]:
        job.begun()
        job.end()


def test_a_job_whose_end_of_time_breaks_harms_nobody(make: Make) -> None:
    class Broken(Job):
        def expire(self) -> bool:
            super().expire()
            raise SystemExit

    dispatcher = make(running=1)
    first = Job('one')
    add(dispatcher, first)
    first.begun()
    late = [Broken(name, expires=0.0) for name in 'ab']
    add(dispatcher, *late)
    for job in late:
        assert job.expired.wait(PATIENCE)
    first.end()


def test_a_thread_that_cannot_be_started_is_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dispatcher that has no thread yet, on a host with none to spare
    dispatcher = make()
    jobs = [Job(name) for name in 'abc']
    with monkeypatch.context() as full:
        threads.exhaust(full)
        # When jobs are added, then nobody is refused
        add(dispatcher, *jobs)
        # And whoever watches is told, should that go on for long
        assert dispatcher.works(PATIENCE)
        assert not dispatcher.works(0.0)
    # And they run once there are threads again
    for job in jobs:
        job.begun()
        job.end()
    settle(dispatcher)
    assert dispatcher.works(0.0)


def test_a_thread_that_is_free_takes_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a thread that runs a job, and a host with none to spare
    dispatcher = make()
    first, second = Job('one'), Job('two')
    add(dispatcher, first)
    first.begun()
    threads.exhaust(monkeypatch)
    add(dispatcher, second)
    # When it is free, then it runs the next one
    assert second.waits
    first.end()
    second.begun()
    second.end()
