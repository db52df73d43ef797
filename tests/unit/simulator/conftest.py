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

"""A simulated host for each test."""

from collections.abc import Iterator

import pytest

from tests.simulator import bed as beds
from tests.simulator import client
from tests.simulator import verbs as verb_names
from tests.unit.simulator import view


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    made = beds.SimulatedBed()
    yield made
    made.close()


@pytest.fixture
def verbs(bed: beds.SimulatedBed) -> verb_names.Verbs:
    return bed.verbs


@pytest.fixture
def events(bed: beds.SimulatedBed) -> Iterator[client.UeventSource]:
    source = bed.uevent_source()
    yield source
    source.close()


@pytest.fixture
def kernel(bed: beds.SimulatedBed, verbs: verb_names.Verbs) -> view.Kernel:
    return view.Kernel(bed.root, verbs)
