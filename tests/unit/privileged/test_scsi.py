# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged side refuses of SCSI."""

from typing import Any

import pytest

from attachworker.privileged import scsi

#: No machine has that many hosts.
NO_HOST = 999_999_999


@pytest.mark.parametrize(
    'hctl',
    [
        '',
        '0:0:0',
        '0:0:0:0:0',
        '0:0:0:0\n',
        '0:0:0:0/../1:0:0:0',
        '../0:0:0:0',
        ' 0:0:0:0',
        '0:0:0:-1',
        '0:0:0:',
        '0:0:0:*',
        '0:0:0:0\0',
        f'0:0:0:{10**20}',
    ],
)
def test_addresses(hctl: str) -> None:
    with pytest.raises(ValueError, match='not a SCSI address'):
        scsi.delete(hctl)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        scsi.delete(f'{NO_HOST}:0:0:{2**64 - 1}')
    with pytest.raises(FileNotFoundError):
        scsi.scan(NO_HOST, 0, 0, 0)


@pytest.mark.parametrize('wrong', ['-', '- - -', '0 0 0', '../0', '', None])
@pytest.mark.parametrize('place', range(4))
def test_a_scan_is_of_one_lun(wrong: Any, place: int) -> None:
    """ "- - -" would let everything appear."""
    arguments: list[Any] = [NO_HOST, 0, 0, 0]
    arguments[place] = wrong
    with pytest.raises((ValueError, TypeError)):
        scsi.scan(*arguments)


@pytest.mark.parametrize(
    'disk',
    [
        '',
        'sd',
        'sda1',
        'sda\n',
        'SDA',
        '../sda',
        'sda/../sdb',
        'nvme0n1',
        'mem',
        'sdabcdefgh',
        'sda\0',
        'sda ',
    ],
)
def test_disks(disk: str) -> None:
    with pytest.raises(ValueError, match='not a SCSI disk'):
        scsi.inquiry(disk, 1, 0x83)


def test_a_disk_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        scsi.inquiry('sdzzzzzz', 1, 0x83)
