# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Mappings of dm-crypt, seen in sysfs."""

from collections.abc import Callable
import pathlib
import types

import pytest

from attachworker import deadline as deadlines
from attachworker.host import block
from attachworker.host import encryption
from tests.unit.on_files import on_files

NAME = encryption.name_of('attachment')


def dm(
    root: pathlib.Path, device: str, uuid: str, name: str, *disks: str
) -> None:
    directory = root / 'sys/devices/virtual/block' / device
    (directory / 'dm').mkdir(parents=True)
    block = root / 'sys/class/block'
    block.mkdir(parents=True, exist_ok=True)
    (block / device).symlink_to(f'../../devices/virtual/block/{device}')
    (directory / 'dm/uuid').write_text(f'{uuid}\n')
    (directory / 'dm/name').write_text(f'{name}\n')
    for disk in disks:
        (directory / 'slaves' / disk).mkdir(parents=True)


def made(
    root: pathlib.Path, **functions: Callable[..., object]
) -> encryption.Encryption:
    privileged = types.SimpleNamespace(**functions)
    return encryption.Encryption(on_files(root, encryption=privileged))


def test_names_are_safe_whatever_the_attachment_is_called() -> None:
    for name in ('attachment', '../..', '-q', 'ä' * 255, 'with space\n'):
        found = encryption.name_of(name)
        assert found == encryption.name_of(name)
        assert found.removeprefix('attachworker-').isalnum()
        # longer ones the kernel does not take, with the rest of the uuid
        assert len(found) == 45
    assert encryption.name_of('a') != encryption.name_of('A')


def test_only_ours_are_found(tmp_path: pathlib.Path) -> None:
    # Given what is on top of disks of a host
    dm(tmp_path, 'dm-0', 'mpath-3600', '3600', 'sda')
    dm(tmp_path, 'dm-1', 'CRYPT-LUKS2-1-cryptroot', 'cryptroot', 'sdb')
    dm(tmp_path, 'dm-2', f'LVM-{NAME}', NAME, 'sdc')
    found = made(tmp_path)
    assert found.mappings() == []
    # When there are mappings of ours, then these are found
    dm(tmp_path, 'dm-3', f'CRYPT-LUKS2-1-{NAME}', NAME, 'dm-0')
    dm(tmp_path, 'dm-4', 'CRYPT-PLAIN-x', encryption.name_of('another'))
    ours = encryption.Mapping(NAME, 'dm-3', ('dm-0',), 'luks2')
    assert found.find(NAME) == ours
    assert ours.path == f'/dev/mapper/{NAME}'
    other = found.find(encryption.name_of('another'))
    assert other is not None
    assert (other.disks, other.provider) == ((), 'plain')


def test_a_pair_with_integrity_is_one_mapping(tmp_path: pathlib.Path) -> None:
    # Given dm-integrity below dm-crypt, and the same cut short by a crash
    dm(tmp_path, 'dm-0', f'CRYPT-INTEGRITY-1-{NAME}_dif', f'{NAME}_dif', 'sda')
    dm(tmp_path, 'dm-1', f'CRYPT-LUKS2-1-{NAME}', NAME, 'dm-0')
    half = encryption.name_of('half')
    dm(tmp_path, 'dm-2', f'CRYPT-SUBDEV-1-{half}_dif', f'{half}_dif', 'sdb')
    found = made(tmp_path)
    # Then the pair is on the disk, and the half is not finished
    pair = encryption.Mapping(NAME, 'dm-1', ('sda',), 'luks2', True)
    cut = encryption.Mapping(half, 'dm-2', (), 'luks2', True)
    assert sorted(found.mappings(), key=lambda one: one.device) == [pair, cut]
    assert found.find(NAME) == pair
    assert found.find(half) == cut


def test_one_without_its_node_is_no_success(tmp_path: pathlib.Path) -> None:
    def open_it(disk: str, instance: int, name: str, *rest: object) -> None:
        dm(tmp_path, 'dm-0', f'CRYPT-PLAIN-{name}', name, disk)

    found = made(tmp_path, open=open_it)
    deadline = deadlines.Deadline.after(10)
    with pytest.raises(OSError, match='udev has not made'):
        found.open(
            block.Device('sda', 1), NAME, 'plain', 'key', False, 0, deadline
        )


def test_closing(tmp_path: pathlib.Path) -> None:
    def refuse(name: str) -> None:
        raise OSError(16, 'it is in use')

    found = made(tmp_path, close=refuse)
    deadline = deadlines.Deadline.after(10)
    assert found.close(NAME, deadline) == []
    dm(tmp_path, 'dm-0', f'CRYPT-PLAIN-{NAME}', NAME, 'sda')
    left = found.close(NAME, deadline)
    assert left == [f'mapping {NAME}: it is in use']


@pytest.mark.parametrize('limit', [512 << 20, 1 << 30, 4 << 30])
def test_what_is_made_here_can_be_opened_here(
    tmp_path: pathlib.Path, limit: int
) -> None:
    # Given a bound for all runs of cryptsetup
    given: list[int] = []
    found = made(
        tmp_path,
        format=lambda *rest: given.append(rest[-1]),
        add_key=lambda *rest: given.append(rest[-2]),
    )
    found.memory.limit = limit
    deadline = deadlines.Deadline.after(10)
    sda = block.Device('sda', 1)
    # When a header is made, or gets one more key
    found.format(sda, 'luks2', 'key', deadline)
    ours = encryption.Mapping(NAME, 'dm-3', ('sda',), 'luks2')
    found.add_key(sda, ours, 'key', 'new', 32 << 20, deadline)
    # Then it asks, with a copy of itself, for no more than that
    for memory in given:
        with found.memory.held('sda', memory + (48 << 20), deadline):
            assert memory >= 256 << 20
    # And what asks for more already gets it
    found.add_key(sda, ours, 'key', 'new', limit - (32 << 20), deadline)
    assert given[-1] == limit - (32 << 20)


def test_keys_of_a_device(tmp_path: pathlib.Path) -> None:
    said: list[tuple[object, ...]] = []

    def has_key(*rest: object) -> bool:
        said.append(rest[:-1])
        return True

    found = made(
        tmp_path,
        has_key=has_key,
        remove_key=lambda *rest: said.append(rest[:-1]),
    )
    deadline = deadlines.Deadline.after(10)
    sda = block.Device('sda', 1)
    ours = encryption.Mapping(NAME, 'dm-3', ('sda',), 'luks')
    assert found.has_key(sda, 'luks', 'key', 4096, deadline)
    found.remove_key(sda, ours, 'old', 'new', 4096, deadline)
    assert said == [
        ('sda', 1, 'luks', 'key', 4096),
        ('sda', 1, NAME, 'luks', 'old', 'new', 4096),
    ]
