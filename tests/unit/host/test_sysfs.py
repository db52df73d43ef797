# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Attributes that may be gone, or strange."""

from collections.abc import Callable
import errno
import os
import pathlib
import resource

import pytest

from attachworker.host import sysfs


@pytest.mark.parametrize(
    ('content', 'text', 'number'),
    [
        (b'65536\n', '65536', 65536),
        (b'running\n', 'running', None),
        (b'', '', None),
        (b'\xff\xfe\n', '\ufffd\ufffd', None),
        (b' 3260 \n', '3260', 3260),
    ],
)
def test_read(
    tmp_path: pathlib.Path, content: bytes, text: str, number: int | None
) -> None:
    attribute = tmp_path / 'attribute'
    attribute.write_bytes(content)
    assert sysfs.read(attribute) == text
    assert sysfs.read_int(attribute) == number
    assert sysfs.read_bytes(attribute) == content


def test_what_is_gone(tmp_path: pathlib.Path) -> None:
    gone = tmp_path / 'gone'
    assert sysfs.read(gone) is None
    assert sysfs.read_int(gone) is None
    assert sysfs.read_bytes(gone) is None
    assert sysfs.names(gone) == []


def test_what_a_path_no_longer_leads_to_is_gone(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / 'file').touch()
    assert sysfs.names(tmp_path / 'file') == []
    assert sysfs.read(tmp_path / 'file/size') is None
    assert not sysfs.exists(tmp_path / 'file/size')
    assert sysfs.resolved(tmp_path / 'file/device') is None


def test_where_a_link_leads(tmp_path: pathlib.Path) -> None:
    real = tmp_path.resolve() / 'devices'
    real.mkdir()
    link = tmp_path / 'class'
    link.symlink_to(real)
    assert sysfs.exists(link)
    assert sysfs.resolved(link) == real
    # When what it leads to has gone, then there is nothing
    real.rmdir()
    assert not sysfs.exists(link)
    assert sysfs.resolved(link) is None


READS: list[Callable[[pathlib.Path], object]] = [
    sysfs.read,
    sysfs.read_bytes,
    sysfs.read_int,
    sysfs.names,
    sysfs.exists,
    sysfs.resolved,
]


@pytest.mark.parametrize('read', READS)
def test_what_cannot_be_read_is_not_taken_for_gone(
    tmp_path: pathlib.Path, read: Callable[[pathlib.Path], object]
) -> None:
    # Given a link that leads to itself
    path = tmp_path / 'loop'
    path.symlink_to(path)
    # Then nobody knows whether there is something, and where is told
    with pytest.raises(OSError, match='loop') as caught:
        read(path / 'attribute')
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize('read', READS[:4])
def test_a_process_without_descriptors_sees_nothing(
    tmp_path: pathlib.Path, read: Callable[[pathlib.Path], object]
) -> None:
    # Given a process that has as many files open as it may
    place = tmp_path / 'place'
    place.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        # Then it is told so, and not that a device is gone
        with pytest.raises(OSError, match='place') as caught:
            read(place)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caught.value.errno == errno.EMFILE


def test_an_attribute_without_a_value(tmp_path: pathlib.Path) -> None:
    # Given how the kernel says of one attribute that it has no value
    (tmp_path / 'attribute').mkdir()
    path = tmp_path / 'attribute'
    assert sysfs.read(path, errno.EISDIR) is None
    assert sysfs.read_int(path, errno.EISDIR) is None
    # Then of any other that is an error
    with pytest.raises(IsADirectoryError):
        sysfs.read(path)


def test_names_are_sorted(tmp_path: pathlib.Path) -> None:
    for name in ('sdb', 'sda', 'sdc'):
        (tmp_path / name).mkdir()
    assert sysfs.names(tmp_path) == ['sda', 'sdb', 'sdc']
