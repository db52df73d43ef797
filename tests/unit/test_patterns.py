# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is at the beginning of the volumes of tests."""

import uuid

from tests.contract import bed


def adfs(data: bytes) -> bool:
    """Whether Linux takes it for a boot block of ADFS (Cumana)."""
    block = data[0xC00:0xE00]
    total = 0
    for value in reversed(block[:511]):
        total = (total & 0xFF) + (total >> 8) + value
    return total & 0xFF == block[511] and any(block)


def powertec(data: bytes) -> bool:
    """Whether Linux takes it for a table of PowerTec's."""
    return (sum(data[:511]) + 0x2A) % 256 == data[511]


def test_no_kernel_sees_partitions_on_a_volume_of_a_test() -> None:
    known = uuid.NAMESPACE_DNS
    texts = [f'volume-{uuid.uuid5(known, str(one))}' for one in range(3000)]
    old = [(f'{text}\n'.encode() * 4096)[:4096] for text in texts]
    assert any(map(adfs, old))
    found = [bed.pattern_of(text) for text in texts]
    assert len(set(found)) == len(texts)
    assert not any(map(adfs, found))
    assert not any(map(powertec, found))
