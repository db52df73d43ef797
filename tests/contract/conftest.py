# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The same tests on the simulated host and on a real kernel.

``ATTACHWORKER_BED`` chooses: ``simulator`` (the default) or ``kernel``, which
only works inside the lab.
"""

from collections.abc import Callable
from collections.abc import Iterator
import os

import pytest

from tests import harness
from tests.contract import bed as beds

collect_ignore_glob = [f'test_{name}*.py' for name in sorted(beds.ELSEWHERE)]


@pytest.fixture(scope='session')
def shared_bed() -> Iterator[beds.Bed]:
    if os.environ.get('ATTACHWORKER_BED', 'simulator') == 'kernel':
        from tests.kernel.bed import KernelBed as Bed
    else:
        from tests.simulator.bed import SimulatedBed as Bed
    bed = Bed()
    bed.set_up()
    yield bed
    bed.close()


@pytest.fixture(scope='session')
def shared_worker(shared_bed: beds.Bed) -> Iterator[harness.Harness]:
    with harness.Harness(
        shared_bed, iscsi={'login_timeout': 5, 'scan_attempts': 2}
    ) as running:
        yield running


@pytest.fixture
def bed(shared_bed: beds.Bed) -> Iterator[beds.Bed]:
    """A bed that is, after the test, as it was before."""
    before = shared_bed.snapshot()
    yield shared_bed
    assert shared_bed.snapshot() == before


@pytest.fixture
def worker(
    bed: beds.Bed, shared_worker: harness.Harness
) -> Iterator[harness.Harness]:
    """A worker that has, after the test, nothing attached."""
    yield shared_worker
    left = shared_worker.attachments()
    # The tests after one that failed are about something else.
    for attachment in left:
        shared_worker.detach(attachment.partition(' ')[0], force=True)
    assert left == []


@pytest.fixture
def multipathd(bed: beds.Bed) -> Iterator[Callable[..., None]]:
    """Changes the settings of multipathd, for this test."""
    yield bed.set_multipathd
    bed.set_up()
