# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the kernel says of mounts, whatever they are called."""

import pathlib

import pytest

from attachworker.host import directories
from tests.kernel.test_users import run

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize('name', ['a\x0bb', 'a\x1cb', 'a\u2028b', 'a b\nc'])
def test_a_mount_with_an_odd_name(tmp_path: pathlib.Path, name: str) -> None:
    # Given a mount that somebody has made where signs of no name are one
    place = tmp_path / name
    place.mkdir()
    run('mount', '-t', 'tmpfs', 'nothing', str(place))
    try:
        # Then it is known what is in memory
        assert directories.not_in_memory(str(place / 'below')) is None
        assert directories.not_in_memory('/run/attachworker') is None
        assert 'is not in memory' in str(directories.not_in_memory('/usr'))
    finally:
        run('umount', str(place))
