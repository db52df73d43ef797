# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
