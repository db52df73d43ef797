# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
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
