# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A host on a simulated bed, for the tests that want one."""

from collections.abc import Iterator

import pytest

from attachworker import deadline as deadlines
from attachworker import host as hosts
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.simulator import faulty


@pytest.fixture(scope='package')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def bed(shared_bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    """A machine that has just started."""
    yield shared_bed
    shared_bed.control('clear_faults')
    shared_bed.restart_host()


@pytest.fixture
def plan() -> Iterator[faults.FaultPlan]:
    """Faults of the verbs of ``host``, in this process."""
    made = faults.FaultPlan()
    yield made
    made.clear()


@pytest.fixture
def host(
    bed: beds.SimulatedBed, plan: faults.FaultPlan
) -> Iterator[hosts.Host]:
    made = bed.host(faulty.FaultyVerbs(bed.verbs, plan))
    yield made
    made.close()


@pytest.fixture
def deadline() -> deadlines.Deadline:
    return deadlines.Deadline.after(10.0)
