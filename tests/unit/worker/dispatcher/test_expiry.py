# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Jobs whose time is over before it is their turn."""

from attachworker import deadline as deadlines
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Job
from tests.unit.worker.dispatcher.jobs import Make


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


def test_a_job_that_cannot_be_told_harms_nobody(make: Make) -> None:
    class Broken(Job):
        def expire(self) -> None:
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
