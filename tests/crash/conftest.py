# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the tests of crashes run on, unless a file says otherwise."""

from collections.abc import Iterator

import pytest

from tests.simulator.bed import SimulatedBed


@pytest.fixture
def bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    bed.set_multipathd()
    yield bed
    bed.close()
