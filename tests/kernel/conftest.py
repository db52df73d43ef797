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

"""Kernel tests run inside the lab only."""

from collections.abc import Iterator
import os

import pytest

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
