# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""What others on the host could see of the key of a volume."""

from collections.abc import Iterator
from concurrent import futures
import shutil

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


def test_headers_that_ask_together_for_more_than_there_is(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given four volumes whose headers ask for 640 MiB each, on 2 GiB
    first = bed.create_volume()
    bed.encrypt(first, 'luks2', KEY, memory=640 << 20)
    others = [bed.create_volume(on=first) for _ in range(3)]
    for other in others:
        shutil.copyfile(bed.path_of(first), bed.path_of(other))
    before = bed.snapshot()
    wanted = {'encryption': {'provider': 'luks2', 'key': KEY}}
    # When all are attached at once, then they take turns, and all are opened
    with futures.ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(
                lambda one: worker.attach(one, **wanted), [first, *others]
            )
        )
    assert [one.error for one in results] == [None] * 4
    for volume in (first, *others):
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
