# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Kernel tests run inside the lab only."""

from collections.abc import Iterator
import os

import pytest

from tests import harness
from tests.kernel import bed as kernel_bed


@pytest.fixture
def bed() -> Iterator[kernel_bed.KernelBed]:
    if 'LAB_INSIDE' not in os.environ:
        pytest.skip('python -m tests.kernel.lab run -- pytest tests/kernel')
    made = kernel_bed.KernelBed()
    before = made.snapshot()['wwids']
    yield made
    after = made.snapshot()['wwids']
    made.close()
    # a line that is left would be found by a later test, as somebody else's
    assert after == before


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    """A worker that waits for no portal for long."""
    options = {'login_timeout': 5, 'scan_attempts': 2}
    with harness.Harness(bed, iscsi=options) as running:
        yield running
