# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The notes of what was made here: who can write them, how long they last."""

from collections.abc import Iterator
import os
import pathlib
import subprocess
import sys

import pytest

from attachworker.privileged import made


@pytest.fixture(autouse=True)
def place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Iterator[pathlib.Path]:
    found = tmp_path / 'notes'
    monkeypatch.setattr(made, 'PLACE', found)
    made._sweep.cache_clear()
    made._boot_id.cache_clear()
    yield found
    made._sweep.cache_clear()
    made._boot_id.cache_clear()


@pytest.fixture
def device(tmp_path: pathlib.Path) -> pathlib.Path:
    found = tmp_path / 'device'
    found.mkdir()
    return found


def test_what_was_made_is_known(device: pathlib.Path) -> None:
    instance = device.stat().st_ino
    assert not made.has(instance)
    made.note(device)
    assert made.has(instance)
    assert not made.has(instance + 1)


def test_the_next_helper_knows_it(
    place: pathlib.Path, device: pathlib.Path
) -> None:
    made.note(device)
    script = (
        'import pathlib, sys\n'
        'from attachworker.privileged import made\n'
        'made.PLACE = pathlib.Path(sys.argv[1])\n'
        'print(made.has(int(sys.argv[2])))\n'
    )
    instance = device.stat().st_ino
    command = [sys.executable, '-c', script, str(place), str(instance)]
    assert subprocess.check_output(command, text=True).strip() == 'True'


def test_nobody_else_can_write_there(
    place: pathlib.Path, device: pathlib.Path
) -> None:
    made.note(device)
    assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('mode', [0o777, 0o770, 0o1777])
def test_a_place_that_others_can_write_to_proves_nothing(
    place: pathlib.Path, device: pathlib.Path, mode: int
) -> None:
    made.note(device)
    place.chmod(mode)
    with pytest.raises(PermissionError, match='remove it'):
        made.has(device.stat().st_ino)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give it away')
def test_the_place_of_somebody_else_proves_nothing(
    place: pathlib.Path,
    device: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 4711, 4711)
    made.note(device)
    assert 'allow_forced_foreign_detach' in caplog.text
    with pytest.raises(PermissionError, match='remove it'):
        made.has(device.stat().st_ino)


def test_a_link_in_its_place_is_not_followed(
    place: pathlib.Path, device: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'elsewhere').mkdir(mode=0o700)
    place.symlink_to(tmp_path / 'elsewhere')
    made.note(device)
    assert list((tmp_path / 'elsewhere').iterdir()) == []
    with pytest.raises(PermissionError, match='remove it'):
        made.has(device.stat().st_ino)


def test_after_a_reboot_nothing_was_made(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    device: pathlib.Path,
) -> None:
    """Also where the notes have outlived it: numbers begin anew."""
    made.note(device)
    (tmp_path / 'boot_id').write_text('another\n')
    monkeypatch.setattr(made, 'BOOT_ID', tmp_path / 'boot_id')
    made._boot_id.cache_clear()
    assert not made.has(device.stat().st_ino)


def test_what_is_gone_is_forgotten(
    place: pathlib.Path, device: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Given a note about what is not there any more
    made.note(device)
    device.rename(tmp_path / 'other')
    # When the next helper writes its first one
    made._sweep.cache_clear()
    made.note(tmp_path / 'other')
    made.note(tmp_path)
    # Then it is gone; one under another name is written again
    assert len(list(place.iterdir())) == 2


def test_what_cannot_be_noted_is_made_all_the_same(
    caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path
) -> None:
    made.note(tmp_path / 'gone')
    assert 'allow_forced_foreign_detach' in caplog.text


def test_a_mount_is_known_until_it_is_taken_away(
    place: pathlib.Path, device: pathlib.Path
) -> None:
    # Given a mount that is noted, and something in sysfs noted after it
    made.note_mount('40-0-41', '/srv/mnt/one')
    made.note(device)
    assert made.has_mount('40-0-41')
    assert not made.has_mount('41-0-41')
    assert made.has(device.stat().st_ino)
    # When it is taken away, then a later one of that number is not ours
    made.forget_mount('40-0-41')
    assert not made.has_mount('40-0-41')
    made.forget_mount('40-0-41')
