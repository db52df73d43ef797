# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Attributes that may be gone, or strange."""

import pathlib

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


def test_what_is_no_attribute(tmp_path: pathlib.Path) -> None:
    assert sysfs.read(tmp_path) is None
    (tmp_path / 'file').touch()
    assert sysfs.names(tmp_path / 'file') == []


def test_names_are_sorted(tmp_path: pathlib.Path) -> None:
    for name in ('sdb', 'sda', 'sdc'):
        (tmp_path / name).mkdir()
    assert sysfs.names(tmp_path) == ['sda', 'sdb', 'sdc']
