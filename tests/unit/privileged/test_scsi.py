# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged side refuses of SCSI."""

import errno
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
        '٠:٠:٠:٠',
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


@pytest.mark.parametrize(
    'wrong',
    ['-', '- - -', '0 0 0', '../0', '', None, '0', 0.5, True, -1, 2**64 - 1],
)
@pytest.mark.parametrize('place', range(4))
def test_a_scan_is_of_one_lun(wrong: Any, place: int) -> None:
    """ "- - -" would let everything appear."""
    arguments: list[Any] = [NO_HOST, 0, 0, 0]
    arguments[place] = wrong
    with pytest.raises(ValueError, match='not the number of'):
        scsi.scan(*arguments)


@pytest.mark.parametrize('place', [1, 2])
def test_what_means_all_to_the_kernel_is_no_number(place: int) -> None:
    arguments = [NO_HOST, 0, 0, 0]
    arguments[place] = 2**32 - 1
    with pytest.raises(ValueError, match='not the number of'):
        scsi.scan(*arguments)


@pytest.mark.parametrize('page', [-1, 256, True, '0', None])
def test_pages(page: Any) -> None:
    with pytest.raises(ValueError, match='not the number of a page'):
        scsi.inquiry('sda', 1, page)


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


class Target:
    """Has one page, and refuses to be asked for more than it can."""

    def __init__(self, page: bytes, limit: int) -> None:
        self._page = page
        self._limit = limit
        self.asked: list[int] = []

    def ask(self, length: int) -> bytes:
        self.asked.append(length)
        if length > self._limit:
            raise OSError(errno.EIO, 'no')
        return self._page[:length]


def page(length: int) -> bytes:
    return bytes((0, 0x83, *divmod(length - 4, 256))).ljust(length, b'x')


@pytest.mark.parametrize('length', [4, 24, 252])
def test_a_target_of_spc_2_is_asked_for_what_it_can(length: int) -> None:
    """Its allocation length has one byte."""
    target = Target(page(length), 255)
    assert scsi._whole_page(target.ask) == page(length)
    assert len(target.asked) == 1


@pytest.mark.parametrize('length', [253, 600, 4096])
def test_a_long_page_is_read_to_its_end(length: int) -> None:
    target = Target(page(length), 65535)
    assert scsi._whole_page(target.ask) == page(length)
    assert target.asked[1:] == [length]


def test_a_page_that_would_never_end() -> None:
    target = Target(page(65539), 65535)
    assert scsi._whole_page(target.ask) == page(65539)[:4096]


@pytest.mark.parametrize(
    ('sense', 'refusal'),
    [
        # "illegal request", fixed and with descriptors; "not ready"
        (bytes((0x70, 0, 5)), True),
        (bytes((0xF0, 0, 0x25)), True),
        (bytes((0x72, 5, 0x24)), True),
        (bytes((0x70, 0, 2)), False),
        (bytes((0x72, 2, 5)), False),
        (bytes(3), False),
    ],
)
def test_what_a_device_does_not_know(sense: bytes, refusal: bool) -> None:
    assert scsi._is_refusal(sense.ljust(32, b'\0')) == refusal
