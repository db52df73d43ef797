# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Directories that only the worker and root can change."""

import os
import pathlib
import tempfile

import pytest

from attachworker.host import directories

OURS = os.geteuid()


def private(path: pathlib.Path, uid: int = OURS) -> bool:
    return directories.not_private(str(path), uid) is None


@pytest.mark.parametrize('mode', [0o700, 0o755, 0o750])
def test_one_that_only_we_can_write_to(
    tmp_path: pathlib.Path, mode: int
) -> None:
    place = tmp_path / 'state'
    place.mkdir()
    place.chmod(mode)
    assert private(place)
    # and one that is not there yet, which will be made
    assert private(place / 'not/yet')


@pytest.mark.parametrize('mode', [0o777, 0o775, 0o702, 0o1777])
def test_one_that_others_can_write_to(
    tmp_path: pathlib.Path, mode: int
) -> None:
    place = tmp_path / 'state'
    place.mkdir()
    place.chmod(mode)
    told = directories.not_private(str(place), OURS)
    assert told is not None
    assert f'chmod go-w {place}' in told


def test_one_whose_place_others_can_take(tmp_path: pathlib.Path) -> None:
    # Given a directory of ours in one where anybody may rename it
    above = tmp_path / 'above'
    place = above / 'state'
    place.mkdir(parents=True)
    above.chmod(0o777)
    told = directories.not_private(str(place), OURS)
    assert told is not None
    assert f'chmod go-w {above}' in told
    # Then it is refused, and not if nobody may, as in /tmp
    above.chmod(0o1777)
    assert private(place)


def test_one_that_a_link_leads_to(tmp_path: pathlib.Path) -> None:
    place = tmp_path / 'place'
    place.mkdir()
    open_to_all = tmp_path / 'open'
    open_to_all.mkdir()
    link = open_to_all / 'state'
    link.symlink_to(place)
    assert private(link)
    # When others may replace the link
    open_to_all.chmod(0o777)
    assert not private(link)
    # Or where it leads to
    open_to_all.chmod(0o755)
    place.chmod(0o777)
    assert not private(link)


@pytest.mark.skipif(OURS != 0, reason='root gives files to others')
def test_one_of_somebody_else(tmp_path: pathlib.Path) -> None:
    place = tmp_path / 'state'
    place.mkdir()
    os.chown(place, 4711, 4711)
    told = directories.not_private(str(place), OURS)
    assert told is not None
    assert 'belongs to user 4711' in told
    assert private(place, 4711)


def test_what_is_no_directory(tmp_path: pathlib.Path) -> None:
    file = tmp_path / 'file'
    file.touch()
    assert 'no directory' in str(directories.not_private(str(file), OURS))


def test_what_is_in_memory() -> None:
    with tempfile.TemporaryDirectory(dir='/dev/shm') as place:
        assert directories.not_in_memory(place) is None
        assert directories.not_in_memory(f'{place}/not/yet') is None


def test_what_is_on_a_disk() -> None:
    told = directories.not_in_memory(str(pathlib.Path(__file__).parent))
    assert told is not None
    assert 'below /run' in told
