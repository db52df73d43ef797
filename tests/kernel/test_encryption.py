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
"""What others on the host could see of the key of a volume."""

from collections.abc import Iterator

import pytest

from tests import harness
from tests.kernel import bed as kernel_bed
from tests.kernel.spy import Spy

KEY = 'CANARY-of-a-volume'


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


def test_a_key_is_in_no_command(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    before = bed.snapshot()
    for key, status in ((f'{KEY}?', 'failed'), (KEY, 'attached')):
        with Spy() as spy:
            result = worker.attach(
                volume, encryption={'provider': 'luks2', 'key': key}
            )
        assert result.status == status, result.as_dict()
        assert any(b'\0open\0' in command for command in spy.commands)
        assert spy.leaks == set()
        assert 'CANARY' not in str(result.as_dict())
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
