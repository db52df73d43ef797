# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A host on a simulated bed, for all tests of this package."""

from collections.abc import Iterator
import pathlib

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
    made = hosts.Host(
        pathlib.Path(bed.root),
        faulty.FaultyVerbs(bed.verbs, plan),
        bed.uevent_source(),
    )
    yield made
    made.close()


@pytest.fixture
def deadline() -> deadlines.Deadline:
    return deadlines.Deadline.after(10.0)
