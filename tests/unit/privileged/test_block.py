# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged side refuses of block devices."""

from collections.abc import Callable
import os
from typing import Any

import pytest

from attachworker.privileged import block

VERBS = [
    block.flush,
    lambda device: block.claimed([(device, '8:0')]),
    lambda device: block.read(device, 1, 0, 4096),
]


@pytest.mark.parametrize('verb', VERBS)
@pytest.mark.parametrize(
    'device',
    [
        '',
        '.',
        '..',
        '../etc/passwd',
        '/dev/sda',
        'mapper/x',
        'sda\n',
        'sda\0',
        'sda b',
        '-sda',
        'SDA',
        '1sda',
        'a' * 33,
    ],
)
def test_names(verb: Callable[[str], Any], device: str) -> None:
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(device)


@pytest.mark.parametrize('verb', [block.flush, VERBS[-1]])
def test_a_device_that_is_not_there(verb: Callable[[str], Any]) -> None:
    with pytest.raises(FileNotFoundError):
        verb('sdzzzzzz')


@pytest.mark.parametrize(
    'number', ['', '8', '8:0:0', '../../etc', '8:0\n', '٨:٠', '8:' + '0' * 9]
)
def test_numbers(number: str) -> None:
    with pytest.raises(ValueError, match='not the number of a device'):
        block.claimed([('sdzzzzzz', number)])


@pytest.mark.parametrize(
    ('offset', 'length'),
    [(-1, 512), (0, -1), (0, 0), (0, (1 << 20) + 1), (0, '1'), (0.5, 512)],
)
def test_only_a_little_is_read(offset: Any, length: Any) -> None:
    with pytest.raises(ValueError, match='not what can be read'):
        block.read('sda', 1, offset, length)


def test_a_device_that_is_not_there_is_nobodys() -> None:
    assert block.claimed([('sdzzzzzz', '8:1048575')]) == []


def test_a_node_that_is_missing_is_an_error() -> None:
    # Given the number of a device that the kernel has, and no node of it
    number = sorted(os.listdir('/sys/dev/block'))[0]
    with pytest.raises(FileNotFoundError):
        block.claimed([('sdzzzzzz', number)])


@pytest.mark.parametrize('verb', VERBS)
def test_what_is_no_block_device_is_not_opened(
    verb: Callable[[str], Any],
) -> None:
    """To open some of what is in /dev is an act: a watchdog starts."""
    with pytest.raises(ValueError, match='not the kernel name'):
        verb('null')


def test_nothing_stays_open() -> None:
    before = len(os.listdir('/proc/self/fd'))
    for device in ('null', 'sdzzzzzz', '..'):
        with pytest.raises((ValueError, OSError)):
            block.read(device, 1, 0, 4096)
    assert len(os.listdir('/proc/self/fd')) == before
