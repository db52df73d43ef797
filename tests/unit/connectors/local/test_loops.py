# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What tells a file from all others, in this boot and in the next."""

import os

import pytest

from attachworker.connectors.local import loops
from attachworker.host import block
from attachworker.tasks import takedown

UUID = '0123456789abcdef'
FILE = loops.File(os.makedev(8, 300), 12, UUID)


def test_an_inode_number_alone_is_no_identity() -> None:
    for other in (
        FILE._replace(device=os.makedev(8, 301)),
        FILE._replace(inode=1),
        FILE._replace(system='fedcba9876543210'),
    ):
        assert not takedown.same_volume(FILE.identity, other.identity)
    assert takedown.same_volume(FILE.identity, FILE.identity)


def test_after_a_boot_its_device_may_have_another_number() -> None:
    moved = FILE._replace(device=os.makedev(259, 1))
    lasting = block.lasting(FILE.identity)
    assert lasting == f'inode-12.{UUID}'
    assert takedown.same_volume(moved.identity, lasting)
    other = FILE._replace(system='fedcba9876543210')
    assert not takedown.same_volume(other.identity, lasting)


@pytest.mark.parametrize('system', [UUID, ''])
def test_what_earlier_versions_and_callers_know_is_the_inode(
    system: str,
) -> None:
    now = FILE._replace(system=system).identity
    assert takedown.same_volume(now, 'inode-12')
    assert takedown.same_volume('Inode-12', now)
    assert not takedown.same_volume(now, 'inode-1')
    assert not takedown.same_volume(now, 'inode-123')


def test_what_the_next_boot_changes_is_forgotten() -> None:
    nameless = FILE._replace(system='')
    assert block.lasting(nameless.identity) == 'inode-12'
    assert block.lasting('diskseq-5') is None
    assert block.lasting('naa.6001405abc') == 'naa.6001405abc'
