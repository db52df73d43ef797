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
    lambda device: block.openers([device]),
    lambda device: block.read(device, 0, 4096),
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


def test_a_device_that_is_not_there_is_open_nowhere() -> None:
    assert block.openers(['sdzzzzzz']) == []


@pytest.mark.parametrize('ended', [False, True])
def test_a_process_that_has_just_ended_uses_nothing(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """udev's multipath does, while its files are looked at."""
    # above the kernel's highest one
    pid = 4194305 if ended else os.getppid()
    monkeypatch.setattr(block, '_numbers', lambda devices: {2048: 'sda'})
    monkeypatch.setattr(block, '_open_devices', lambda pid: {2048})
    monkeypatch.setattr(block.os, 'listdir', lambda path: [str(pid)])
    found = [(device, user) for device, user, _ in block.openers(['sda'])]
    assert found == ([] if ended else [('sda', pid)])


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
            block.read(device, 0, 4096)
    assert len(os.listdir('/proc/self/fd')) == before
