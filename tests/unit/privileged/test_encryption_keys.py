# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The verbs that change keys, with the machine's cryptsetup, on files."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import subprocess
from typing import Any

from oslo_config import cfg
import pytest

from attachworker.privileged import encryption

NAME = f'attachworker-{"0a" * 16}'
KEYS = ('CANARY-old', 'CANARY-new', 'CANARY-of-another')
OLD, NEW, OTHER = KEYS
MEMORY = 256 << 20
#: So that no test takes the seconds that a key is worth.
_QUICK = ('--pbkdf=pbkdf2', '--pbkdf-force-iterations=1000')
_COSTS = ('--pbkdf', '--iter-time')
_run = subprocess.run
_TYPES = {'luks': 'luks1', 'luks2': 'luks2'}
_SIZE = 20 << 20


class Device:
    """A file that stands in for a disk with a header, below a mapping.

    :ivar commands: that were run
    :ivar when_run: called when a tool is run
    :ivar iterations: that a key takes which is added
    """

    def __init__(self, directory: pathlib.Path, provider: str) -> None:
        self.file = directory / 'sda'
        self.provider = provider
        self.commands: list[tuple[str, ...]] = []
        self.iterations = 1000
        self.when_run: Callable[[tuple[str, ...]], None] = lambda command: None
        with open(self.file, 'wb') as stream:
            stream.truncate(_SIZE)
        self.cryptsetup('luksFormat', '--type', _TYPES[provider], key=OLD)

    def cryptsetup(self, act: str, *how: str, key: str) -> None:
        """What the operator does by hand."""
        command = ('cryptsetup', act, '--batch-mode', *_QUICK, *how)
        _run(
            [*command, '--key-file=-', str(self.file)],
            input=key.encode(),
            check=True,
            capture_output=True,
        )

    def add_by_hand(self, key: str, directory: pathlib.Path) -> None:
        file = directory / 'key'
        file.write_text(key)
        command = ['cryptsetup', 'luksAddKey', '--batch-mode', *_QUICK]
        _run(
            [*command, '--key-file=-', str(self.file), str(file)],
            input=OLD.encode(),
            check=True,
            capture_output=True,
        )

    def has(self, key: str) -> bool:
        return encryption.has_key('sda', 1, self.provider, key, MEMORY, 60.0)

    def opens(self) -> list[str]:
        return [key for key in KEYS if self.has(key)]

    def add(self, key: str = OLD, new: str = NEW) -> None:
        encryption.add_key(
            'sda', 1, NAME, self.provider, key, new, MEMORY, 60.0
        )

    def remove(self, key: str = OLD, kept: str = NEW) -> None:
        encryption.remove_key(
            'sda', 1, NAME, self.provider, key, kept, MEMORY, 60.0
        )


@pytest.fixture(params=list(_TYPES))
def device(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> Device:
    made = Device(tmp_path, request.param)

    def quick(command: tuple[str, ...], **how: Any) -> Any:
        assert 'CANARY' not in str(command) + str(how['env'])
        made.commands.append(command)
        if 'luksAddKey' in command:
            # (a limit of memory is none of PBKDF2)
            command = (
                *(one for one in command if not one.startswith(_COSTS)),
                '--pbkdf=pbkdf2',
                f'--pbkdf-force-iterations={made.iterations}',
            )
        ended: Any = _run(command, **how)
        made.when_run(command)
        return ended

    @contextlib.contextmanager
    def opened(name: str, instance: int, flags: int) -> Iterator[int]:
        # not every file system has O_DIRECT
        descriptor = os.open(made.file, flags & ~os.O_DIRECT)
        yield descriptor
        os.close(descriptor)

    monkeypatch.setattr(subprocess, 'run', quick)
    monkeypatch.setattr(encryption.block, 'opened', opened)
    monkeypatch.setattr(encryption.block, 'node', lambda name: f'/dev/{name}')
    monkeypatch.setattr(encryption.removals, 'ROOT', tmp_path)
    dm(tmp_path, 'dm-1', NAME)
    return made


def dm(
    root: pathlib.Path, holder: str, name: str, uuid: str = 'CRYPT-LUKS2-1'
) -> None:
    """Something on top of the device."""
    block_class = root / 'sys/class/block'
    (block_class / 'sda/holders' / holder).mkdir(parents=True)
    (block_class / holder / 'dm').mkdir(parents=True)
    (block_class / holder / 'dm/name').write_text(f'{name}\n')
    (block_class / holder / 'dm/uuid').write_text(f'{uuid}\n')


def test_a_key_takes_the_place_of_another_one(
    device: Device, tmp_path: pathlib.Path
) -> None:
    # Given a volume with a key of somebody else, too
    device.add_by_hand(OTHER, tmp_path)
    head = 2 << 20 if device.provider == 'luks' else 16 << 20
    with open(device.file, 'r+b') as stream:
        stream.seek(head)
        stream.write(b'data' * 1024)
    data = device.file.read_bytes()[head:]
    assert device.opens() == [OLD, OTHER]
    # When a key is added, then all open it
    device.add()
    assert device.opens() == [OLD, NEW, OTHER]
    # When the old one is removed, then it alone opens it no more
    device.remove()
    assert device.opens() == [NEW, OTHER]
    # And nothing is written beyond the header
    assert device.file.read_bytes()[head:] == data


def test_what_is_asked_for_wrongly_changes_nothing(device: Device) -> None:
    before = device.file.read_bytes()
    # When there is no key that opens it, before or after
    with pytest.raises(PermissionError):
        device.add(key=OTHER)
    for kept in (NEW, OLD):
        with pytest.raises(OSError, match='kept|keyslot'):
            device.remove(OLD, kept=kept)
    # Then nothing is written
    assert device.file.read_bytes() == before
    assert device.opens() == [OLD]
    # And a key that is not there is removed already
    device.remove(NEW, kept=OLD)
    assert device.file.read_bytes() == before


def test_a_key_in_several_keyslots_leaves_all_of_them(
    device: Device, tmp_path: pathlib.Path
) -> None:
    device.add_by_hand(OLD, tmp_path)
    device.add()
    device.remove()
    assert device.opens() == [NEW]


def test_a_header_that_somebody_else_changes_meanwhile(
    device: Device, tmp_path: pathlib.Path
) -> None:
    # Given an operator who adds a key while cryptsetup is at the copy
    def change(command: tuple[str, ...]) -> None:
        if 'luksAddKey' in command and '/proc/self/fd/' in str(command):
            device.when_run = lambda command: None
            device.add_by_hand(OTHER, tmp_path)

    device.when_run = change
    # Then his change stays, and the caller is told
    with pytest.raises(OSError, match='somebody else has') as caught:
        device.add()
    assert caught.value.errno == errno.ESTALE
    assert device.opens() == [OLD, OTHER]


def test_a_header_that_would_ask_for_too_much(device: Device) -> None:
    before = device.file.read_bytes()
    device.iterations = 1_500_000
    cfg.CONF.set_override('encryption_iterations', 1_000_000)
    try:
        with pytest.raises(OSError, match='encryption_iterations') as caught:
            device.add()
    finally:
        cfg.CONF.clear_override('encryption_iterations')
    assert caught.value.errno == errno.E2BIG
    assert device.file.read_bytes() == before


@pytest.mark.parametrize('act', [Device.add, Device.remove])
def test_a_write_that_ends_anywhere_leaves_a_key(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Device], None],
) -> None:
    # Given a volume that opens by one key, or by both
    if act is Device.remove:
        device.add()
    before = device.file.read_bytes()
    stays = OLD if act is Device.add else NEW
    write, places = encryption.block.write_direct, []

    def note(descriptor: int, offset: int, content: bytes) -> None:
        places.append(offset)
        write(descriptor, offset, content)

    monkeypatch.setattr(encryption.block, 'write_direct', note)
    act(device)
    # When the host dies after each of the writes that there are
    for written in choice(len(places)):
        device.file.write_bytes(before)
        left = iter(range(written))

        def fail(*rest: Any, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(errno.EIO, 'the host dies')
            write(*rest)

        monkeypatch.setattr(encryption.block, 'write_direct', fail)
        with pytest.raises(OSError, match='the host dies'):
            act(device)
        # Then the key that is to stay opens it as before
        assert device.has(stays), written
        # And what was begun can be done
        monkeypatch.setattr(encryption.block, 'write_direct', write)
        act(device)
        assert device.has(stays), written


def choice(count: int) -> list[int]:
    """The first ones, and all that are about metadata."""
    return [0, 1, *range(max(2, count - 4), count)]


def test_each_area_is_on_the_disk_before_the_next_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a look at what is written, and when it has to be on the disk
    said: list[str] = []
    write, sync = encryption.block.write_direct, os.fsync
    first = 4096 if device.provider == 'luks' else 32768

    def write_direct(descriptor: int, offset: int, content: bytes) -> None:
        area = 'keys' if offset >= first else f'metadata {offset // 16384}'
        if said[-1:] != [area]:
            said.append(area)
        write(descriptor, offset, content)

    def fsync(descriptor: int) -> None:
        said.append('sync')
        sync(descriptor)

    monkeypatch.setattr(encryption.block, 'write_direct', write_direct)
    monkeypatch.setattr(os, 'fsync', fsync)
    device.add()
    order = ['keys', 'sync', 'metadata 0', 'sync']
    if device.provider == 'luks2':
        order += ['metadata 1', 'sync']
    assert said == order


def test_a_storage_that_keeps_nothing(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption.block, 'write_direct', lambda *rest: None)
    with pytest.raises(OSError, match='did not keep') as caught:
        device.add()
    assert caught.value.errno == errno.EIO


def test_only_what_attachworker_has_opened_is_changed(
    device: Device, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = device.file.read_bytes()
    # Given a device that others have opened, or something else is on top of
    holders = tmp_path / 'sys/class/block'
    for name, uuid in (
        ('cryptroot', 'CRYPT-LUKS2-1'),
        (NAME, 'LVM-1'),
        (f'attachworker-{"0b" * 16}', 'CRYPT-LUKS2-1'),
    ):
        (holders / 'dm-1/dm/name').write_text(name)
        (holders / 'dm-1/dm/uuid').write_text(uuid)
        for act in (device.add, device.remove):
            with pytest.raises(PermissionError, match='is not what'):
                act()
    # Or one that the host lives on
    (holders / 'dm-1/dm/name').write_text(NAME)
    (holders / 'dm-1/dm/uuid').write_text('CRYPT-LUKS2-1')

    def refuse(devices: list[str]) -> None:
        assert devices == ['sda']
        raise PermissionError(errno.EPERM, 'carries / of this host')

    monkeypatch.setattr(encryption.removals, 'check_own', refuse)
    for act in (device.add, device.remove):
        with pytest.raises(PermissionError, match='carries /'):
            act()
    assert device.file.read_bytes() == before


def test_the_lower_half_of_a_pair_counts(
    device: Device, tmp_path: pathlib.Path
) -> None:
    name = tmp_path / 'sys/class/block/dm-1/dm/name'
    name.write_text(f'{NAME}_dif')
    device.add()
    assert device.opens() == [OLD, NEW]


@pytest.mark.parametrize('device', ['luks2'], indirect=True)
def test_a_header_with_a_token_is_left_alone(device: Device) -> None:
    token = ('cryptsetup', 'token', 'add', '--key-description', 'x')
    _run((*token, str(device.file)), check=True)
    before = device.file.read_bytes()
    for act in (device.add, device.remove):
        with pytest.raises(OSError, match='token remove') as caught:
            act()
        assert caught.value.errno == errno.EPERM
    assert device.file.read_bytes() == before


@pytest.mark.parametrize('device', ['luks2'], indirect=True)
def test_how_much_memory_a_new_keyslot_asks_for(device: Device) -> None:
    device.add()
    (command,) = (one for one in device.commands if 'luksAddKey' in one)
    assert f'--pbkdf-memory={MEMORY // 1024}' in command
    assert command[1] == f'--as={MEMORY + (512 << 20)}'
    # and never for more than cryptsetup would by itself
    encryption.add_key('sda', 1, NAME, 'luks2', OLD, OTHER, 4 << 30, 60.0)
    command = [one for one in device.commands if 'luksAddKey' in one][-1]
    assert f'--pbkdf-memory={1 << 20}' in command


def test_a_key_is_in_no_file(device: Device) -> None:
    device.add()
    links = [
        os.readlink(f'/proc/self/fd/{one}')
        for one in os.listdir('/proc/self/fd')
        if os.path.exists(f'/proc/self/fd/{one}')
    ]
    assert not [one for one in links if 'memfd' in one]
    for path in device.file.parent.rglob('*'):
        assert not path.is_file() or b'CANARY' not in path.read_bytes()


@pytest.mark.parametrize('provider', ['', 'plain', '--help'])
@pytest.mark.parametrize('device', ['luks2'], indirect=True)
def test_formats_that_have_no_keyslots(device: Device, provider: str) -> None:
    device.provider = provider
    for act in (device.add, device.remove, device.opens):
        with pytest.raises(ValueError, match='not a known format'):
            act()
    assert device.commands == []


@pytest.mark.parametrize('name', ['', '-q', 'cryptroot', f'{NAME}\n'])
@pytest.mark.parametrize('device', ['luks2'], indirect=True)
def test_hostile_names(device: Device, name: str) -> None:
    for verb in (encryption.add_key, encryption.remove_key):
        with pytest.raises(ValueError, match='not the name of a mapping'):
            verb('sda', 1, name, 'luks2', OLD, NEW, MEMORY, 9.0)
    assert device.commands == []


@pytest.mark.parametrize('device', ['luks2'], indirect=True)
def test_numbers_that_are_none(device: Device) -> None:
    wrong: Any
    for wrong in (-1, 1.5, True, 1 << 50):
        for verb in (encryption.add_key, encryption.remove_key):
            with pytest.raises(ValueError, match='not a size of memory'):
                verb('sda', 1, NAME, 'luks2', OLD, NEW, wrong, 9.0)
    for verb in (encryption.add_key, encryption.remove_key):
        with pytest.raises(ValueError, match='not a time'):
            verb('sda', 1, NAME, 'luks2', OLD, NEW, MEMORY, float('nan'))
    assert device.commands == []


def test_how_long_a_key_takes_is_an_option(device: Device) -> None:
    device.add()
    cfg.CONF.set_override('encryption_key_time', 10)
    try:
        device.add(new=OTHER)
    finally:
        cfg.CONF.clear_override('encryption_key_time')
    times = [
        word
        for command in device.commands
        if 'luksAddKey' in command
        for word in command
        if word.startswith('--iter-time')
    ]
    assert times == ['--iter-time=2000', '--iter-time=10']
