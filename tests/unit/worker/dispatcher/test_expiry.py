# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Jobs whose time is over before it is their turn."""

import threading

from attachworker import deadline as deadlines
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Job
from tests.unit.worker.dispatcher.jobs import Make
from tests.unit.worker.dispatcher.jobs import add


def test_a_job_whose_time_is_over_does_not_wait_for_its_turn(
    make: Make,
) -> None:
    # Given one that runs, and two that wait for it
    dispatcher = make(running=1)
    first, late, patient = (
        Job('one'),
        Job('one', expires=deadlines.now() + 0.2),
        Job('two', expires=deadlines.now() + 1000),
    )
    for job in (first, patient, late):
        dispatcher.add(job)
    first.begun()
    # When the time of one is over, then it is told at once and never begun
    assert late.expired.wait(PATIENCE)
    assert late.waits
    assert not patient.expired.is_set()
    # And the other is begun when it is its turn
    first.end()
    patient.begun()
    patient.end()
    assert late.waits


def test_a_disk_that_hangs_holds_up_nothing_but_what_needs_it(
    make: Make,
) -> None:
    # Given a job whose end cannot be written down: the disk hangs
    hangs, over = threading.Event(), threading.Event()

    class Hanging(Job):
        def expire(self) -> bool:
            hangs.set()
            assert over.wait(PATIENCE)
            return super().expire()

    dispatcher = make(running=1)
    first, hanging = Job('one'), Hanging('one', expires=0.0)
    add(dispatcher, first, hanging)
    assert hangs.wait(PATIENCE)
    # When something else is due meanwhile, then it is begun in time
    due = Job('two', act=lambda: None)
    first.end()
    dispatcher.add_later(due, 0.05)
    assert due.ended.wait(PATIENCE)
    assert not hanging.expired.is_set()
    over.set()
    assert hanging.expired.wait(PATIENCE)


def test_a_full_disk_leaves_nobody_untold(make: Make) -> None:
    # Given two jobs whose ends cannot be written down: the disk is full
    full, told = threading.Event(), [threading.Event(), threading.Event()]

    class Refused(Job):
        def expire(self) -> bool:
            told[int(self.attachment_id)].set()
            return not full.is_set() and super().expire()

    full.set()
    dispatcher = make(running=1)
    first = Job('first')
    late = [Refused(name, expires=0.0) for name in '01']
    add(dispatcher, first, *late)
    # Then each is asked, however the other fares
    for one in told:
        assert one.wait(PATIENCE)
    # And again, until it is done
    full.clear()
    for job in late:
        assert job.expired.wait(PATIENCE)
    first.end()


def test_a_job_that_cannot_be_told_harms_nobody(make: Make) -> None:
    class Broken(Job):
        def expire(self) -> bool:
            super().expire()
            raise OSError('no')

    dispatcher = make(running=1)
    first = Job('one')
    broken = Broken('two', expires=0.0)
    late = Job('three', expires=deadlines.now() + 0.2)
    for job in (first, broken, late):
        dispatcher.add(job)
    assert broken.expired.wait(PATIENCE)
    assert late.expired.wait(PATIENCE)
    first.end()
