# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Random interleavings of what is done with attachments of one volume.

A failure prints the smallest schedule that was found to fail, and what went
on; ``python -m tests.properties 'Schedule(...)'`` has the same again.
"""

from collections.abc import Iterator
import contextlib
import itertools
import os

import hypothesis
import pytest

from tests.properties import schedule
from tests.properties import workers
from tests.properties import world

#: Of all families together.
SCHEDULES = int(os.environ.get('ATTACHWORKER_SCHEDULES', '60'))
#: Of one test at most, for several to run at the same time.
_OF_A_TEST = 50
#: With another number, other schedules. The same commit must give the same
#: verdict: those of one number are the same in each run.
SEED = int(os.environ.get('ATTACHWORKER_SEED', '0'))

_PLAIN = schedule.attachments(maps=(False,))
_MAPPED = schedule.attachments(maps=(True,))
_ANY = schedule.attachments()

#: What takes turns, and how much of all schedules is of this family.
FAMILIES = {
    'alone': (schedule.schedules(_ANY, 1, 1), 0.05),
    'without maps': (schedule.schedules(_PLAIN), 0.3),
    'with maps': (schedule.schedules(_MAPPED), 0.3),
    'of both kinds': (schedule.schedules(_ANY), 0.15),
    'cancelled': (schedule.schedules(_ANY, other='cancel'), 0.1),
    'killed': (schedule.schedules(_ANY, most=2, other='kill'), 0.1),
}

#: What random ones have found, as small as they came. Each did harm only now
#: and then: it depends on which thread is quicker, too.
FOUND = [
    schedule.Schedule(
        attachments=(
            schedule.Attachment(does=('detach',), target=1, attached=True),
            schedule.Attachment(does=('attach', 'attach')),
        ),
        turns=(('A', 1), ('B', 1)),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(does=('detach',), target=1, attached=True),
            schedule.Attachment(does=('attach',)),
        ),
        turns=(('B', 1),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(does=('attach', 'detach'), multipath=True),
            schedule.Attachment(
                does=('attach', 'detach'), multipath=True, target=1
            ),
        ),
        turns=(('A', 1),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach', 'detach'), multipath=True, target=1
            ),
            schedule.Attachment(does=('attach', 'force')),
        ),
        turns=(('A', 200),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach', 'attach'), multipath=True, target=1
            ),
            schedule.Attachment(does=('attach', 'force')),
        ),
        turns=(('A', 200),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach',), portals=(1,), multipath=True
            ),
            schedule.Attachment(does=('attach', 'attach')),
            schedule.Attachment(does=('kill',)),
        ),
        turns=(('A', 200),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach', 'extend', 'force'),
                portals=(1, 2),
                multipath=True,
                target=1,
            ),
            schedule.Attachment(does=('attach', 'force', 'attach', 'attach')),
            schedule.Attachment(does=('cancel',)),
        ),
        turns=(('A', 37), ('B', 35)),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(does=('attach', 'detach')),
            schedule.Attachment(does=('attach', 'attach'), multipath=True),
        ),
        turns=(('A', 1),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach', 'extend'), multipath=True, attached=True
            ),
            schedule.Attachment(does=('attach', 'attach'), portals=(1,)),
            schedule.Attachment(does=('cancel',)),
        ),
        turns=(('A', 1),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('extend',), multipath=True, attached=True
            ),
            schedule.Attachment(does=('extend',), target=1, attached=True),
        ),
        turns=(('A', 7),),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(
                does=('attach', 'force'), portals=(1, 2), multipath=True
            ),
            schedule.Attachment(
                does=('attach', 'detach'),
                portals=(1, 2),
                multipath=True,
                target=1,
            ),
            schedule.Attachment(does=('kill',)),
        ),
        turns=(('A', 9), ('B', 7), ('C', 2)),
    ),
    schedule.Schedule(
        attachments=(
            schedule.Attachment(does=('attach',), target=1),
            schedule.Attachment(does=('attach', 'attach')),
            schedule.Attachment(does=('cancel',)),
        ),
        turns=(('B', 200), ('A', 6)),
    ),
]
_REPEATS = 3


def _parts() -> Iterator[tuple[str, int, int]]:
    """Family, which test of it, and how many schedules that runs."""
    for family, (_, share) in FAMILIES.items():
        left = max(1, int(share * SCHEDULES))
        for part in itertools.count():
            yield family, part, min(left, _OF_A_TEST)
            left -= _OF_A_TEST
            if left <= 0:
                break


class Verdicts:
    """What has become of schedules; each is run once.

    hypothesis does a failing one again, to see whether it fails again. But
    that depends on which thread is quicker, too.
    """

    def __init__(self) -> None:
        self._world: world.World | None = None
        self._failed: dict[schedule.Schedule, workers.Violation] = {}

    def check(self, one: schedule.Schedule) -> None:
        """:raises Violation: it ends in what must never be"""
        if one in self._failed:
            raise self._failed[one]
        if self._world is None:
            self._world = world.World()
        try:
            self._world.run(one)
        except workers.Violation as error:
            self._failed[one] = error
            self.close()
            raise

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None


@pytest.fixture(scope='module')
def verdicts() -> Iterator[Verdicts]:
    with contextlib.closing(Verdicts()) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(('family', 'part', 'count'), list(_parts()))
def test_nobody_is_harmed_whoever_goes_on_first(
    verdicts: Verdicts, family: str, part: int, count: int
) -> None:
    @hypothesis.seed(1000 * SEED + part)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(FAMILIES[family][0])
    def check(one: schedule.Schedule) -> None:
        verdicts.check(one)

    check()


@pytest.mark.parametrize('one', FOUND, ids=map(str, range(len(FOUND))))
def test_nobody_is_harmed_as_once(
    verdicts: Verdicts, one: schedule.Schedule
) -> None:
    for _ in range(_REPEATS):
        verdicts.check(one)
