# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged side refuses of block devices."""

from collections.abc import Callable
import inspect
import os
from typing import Any

import pytest

from attachworker import privileged
from attachworker.privileged import block

VERBS = [
    block.flush,
    lambda device: block.claimed([(device, '8:0')]),
    lambda device: block.check_readable(device, 1),
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
            block.check_readable(device, 1)
    assert len(os.listdir('/proc/self/fd')) == before


def test_no_verb_returns_the_content_of_a_device() -> None:
    """Bytes are returned of what identifies a device, and of nothing else."""
    verbs = {
        f'{module}.{name}': verb
        for module, found in vars(privileged).items()
        if inspect.ismodule(found)
        for name, verb in vars(found).items()
        if any(one.is_entrypoint(verb) for one in privileged.CONTEXTS)
    }
    assert len(verbs) > 30
    returning = {
        name
        for name, verb in verbs.items()
        if 'bytes' in str(inspect.signature(verb.args[0]).return_annotation)
    }
    assert returning == {'nvme.identify', 'scsi.inquiry'}
    assert block.check_readable.args[0].__annotations__['return'] is None
