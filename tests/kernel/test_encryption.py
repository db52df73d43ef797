# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes with LUKS: who sees the key, and what a header can ask for."""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from attachworker.host import encryption
from tests import harness
from tests.kernel import bed as kernel_bed
from tests.kernel.spy import Spy

KEY = 'CANARY-of-a-volume'
#: Where a header of LUKS 1 has the iterations of its first keyslot.
_ITERATIONS = 212
#: And the name of its cipher and its mode.
_CIPHER, _MODE = 8, 40
#: The binary part of a header of LUKS 2 and its JSON: one, and its copy.
_AREA = 16384
#: Where it has its checksum.
_CHECKSUM = slice(448, 512)


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


def test_a_key_is_in_no_command(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    before = bed.snapshot()
    for key, status in ((f'{KEY}?', 'failed'), (KEY, 'attached')):
        with Spy() as spy:
            result = worker.attach(
                volume, encryption={'provider': 'luks2', 'key': key}
            )
        assert result.status == status, result.as_dict()
        assert any(b'\0open\0' in command for command in spy.commands)
        assert spy.leaks == set()
        assert 'CANARY' not in str(result.as_dict())
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('provider', ['luks', 'luks2'])
def test_the_key_of_a_volume_that_is_mounted(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    provider: str,
    tmp_path: pathlib.Path,
) -> None:
    # Given a file system on a volume that is open, and a key of the operator
    volume = bed.create_volume()
    bed.encrypt(volume, provider, KEY)
    path = bed.path_of(volume)
    said(
        *('cryptsetup', 'luksAddKey', '--batch-mode', '--pbkdf=pbkdf2'),
        *('--pbkdf-force-iterations=1000', str(path)),
        key=f'{KEY}\nOPERATOR\nOPERATOR\n',
    )
    before = bed.snapshot()
    wanted = {'provider': provider, 'key': KEY}
    device = worker.attach(volume, encryption=wanted).device
    with bed.used_by_host(device.path, str(tmp_path)), Spy() as spy:
        file = tmp_path / 'file'
        file.write_text('before')
        meanwhile = seen(encryption.name_of(volume.name))
        # When its key is rotated
        result = worker.rotate(volume.name, KEY, f'{KEY}-later')
        assert result.status == 'rotated', result.as_dict()
        # Then nobody who uses it sees a difference
        assert file.read_text() == 'before'
        file.write_text('after')
        os.sync()
        assert seen(encryption.name_of(volume.name)) == meanwhile
    assert any(b'luksAddKey' in command for command in spy.commands)
    assert any(b'luksRemoveKey' in command for command in spy.commands)
    assert spy.leaks == set()
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
    # And cryptsetup of the host finds it as it should be
    kind = {'luks': 'luks1', 'luks2': 'luks2'}[provider]
    for key, code in ((KEY, 2), (f'{KEY}-later', 0), ('OPERATOR', 0)):
        ended = subprocess.run(
            ('cryptsetup', 'open', '--test-passphrase', '--batch-mode')
            + ('--key-file=-', '--type', kind, str(path)),
            input=key.encode(),
            timeout=120,
        )
        assert ended.returncode == code, key
    # And what was written meanwhile is there with the new key
    wanted['key'] = f'{KEY}-later'
    device = worker.attach(volume, encryption=wanted).device
    said('mount', device.path, str(tmp_path))
    try:
        assert file.read_text() == 'after'
    finally:
        said('umount', str(tmp_path))
    assert worker.detach(volume.name).status == 'detached'


def running() -> list[str]:
    """The processes of cryptsetup."""
    found = subprocess.run(
        ['pgrep', '-a', 'cryptsetup'], stdout=subprocess.PIPE, text=True
    )
    return found.stdout.splitlines()


def test_a_key_that_takes_minutes_ends_with_its_request(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a header that asks for as much work as is allowed
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks', KEY)
    many_iterations(bed.path_of(volume), 190_000_000)
    before = bed.snapshot()
    # When the request has less time than that takes
    result = worker.attach(
        volume,
        encryption={'provider': 'luks', 'key': KEY},
        deadline_seconds=10,
    )
    # Then it ends at its deadline, and nothing goes on
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    assert result.error.step == 'OpenEncryption', result.as_dict()
    assert result.leftovers == []
    assert running() == []
    assert bed.snapshot() == before


def enciphered_by_nothing(path: pathlib.Path, provider: str) -> None:
    """What whoever has the storage can write, and needs no key for."""
    if provider == 'luks2':
        change_metadata(
            path,
            b'"encryption":"aes-xts-plain64"',
            b'"encryption":"cipher_null-ecb"',
        )
        return
    with open(path, 'r+b') as file:
        for place, name in ((_CIPHER, b'cipher_null'), (_MODE, b'ecb')):
            file.seek(place)
            file.write(name.ljust(32, b'\0'))


def data_in_the_clear(path: pathlib.Path) -> None:
    """The same key opens it as before, and the data is not enciphered."""
    rest = b',"sector_size"'
    change_metadata(
        path,
        b'"encryption":"aes-xts-plain64"' + rest,
        b'"encryption":"cipher_null-ecb"' + rest,
    )


def change_metadata(path: pathlib.Path, old: bytes, new: bytes) -> None:
    """Of LUKS 2, with a checksum that is right."""
    with open(path, 'r+b') as file:
        for place in (0, _AREA):
            file.seek(place)
            found = file.read(_AREA)
            assert old in found
            area = bytearray(found.replace(old, new))
            area[_CHECKSUM] = bytes(64)
            digest = hashlib.sha256(area).digest()
            area[_CHECKSUM] = digest.ljust(64, b'\0')
            file.seek(place)
            file.write(area)


def many_iterations(path: pathlib.Path, number: int = (1 << 32) - 1) -> None:
    """Of LUKS 1; the most are an hour of work."""
    with open(path, 'r+b') as header:
        header.seek(_ITERATIONS)
        header.write(number.to_bytes(4, 'big'))


@pytest.mark.parametrize('provider', ['luks', 'luks2'])
def test_a_header_by_which_nothing_is_enciphered_is_not_obeyed(
    bed: kernel_bed.KernelBed, worker: harness.Harness, provider: str
) -> None:
    # Given a volume whose header says that there is no cipher
    volume = bed.create_volume()
    bed.encrypt(volume, provider, KEY)
    enciphered_by_nothing(bed.path_of(volume), provider)
    before = bed.snapshot()
    # When it is attached, then it is not opened, with whatever key
    result = worker.attach(
        volume, encryption={'provider': provider, 'key': KEY}
    )
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'cipher_null' in result.error.message
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('provider', 'change', 'reason'),
    [
        ('luks2', data_in_the_clear, 'cipher_null'),
        ('luks', many_iterations, 'option encryption_iterations allows'),
    ],
)
def test_a_header_that_is_exchanged_once_it_was_looked_at(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    provider: str,
    change: Callable[[pathlib.Path], None],
    reason: str,
) -> None:
    # Given a volume whose header was looked at, and is fine
    volume = bed.create_volume()
    bed.encrypt(volume, provider, KEY)
    disk = worker.attach(volume).device.path.removeprefix('/dev/')
    verbs, name = bed.verbs.encryption, encryption.name_of(volume.name)
    before = bed.snapshot()
    memory = verbs.read_header(disk, bed.instance(disk), provider, 60.0)
    assert memory is not None
    # When the storage has another one by the time that it is opened
    change(bed.path_of(volume))
    with pytest.raises(OSError, match=reason):
        verbs.open(
            *(disk, bed.instance(disk), name, provider, KEY, False),
            *(memory, 10.0),
        )
    # Then that is not obeyed
    assert bed.snapshot() == before
    assert worker.detach(volume.name).status == 'detached'


def said(*command: str, key: str = '') -> str:
    """What a command of the operator prints."""
    return subprocess.run(
        command,
        input=key,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=120,
    ).stdout


def seen(name: str) -> list[str]:
    """What the kernel and cryptsetup tell of a mapping, with its key."""
    return [
        said('dmsetup', 'table', '--showkeys', name),
        said('dmsetup', 'info', '-c', '--noheadings', '-o', 'uuid', name),
        said('cryptsetup', 'status', name),
    ]


@pytest.mark.parametrize(
    ('provider', 'integrity'),
    [('luks', False), ('luks2', False), ('luks2', True)],
    ids=['luks', 'luks2', 'luks2-integrity'],
)
def test_a_mapping_is_the_same_as_without_a_copy_of_its_header(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    provider: str,
    integrity: bool,
) -> None:
    # Given a volume that the operator has opened by hand
    volume = bed.create_volume()
    bed.encrypt(volume, provider, KEY, integrity=integrity)
    name = encryption.name_of(volume.name)
    path = worker.attach(volume).device.path
    kind = {'luks': 'luks1', 'luks2': 'luks2'}[provider]
    with_key = ('cryptsetup', '--batch-mode', '--key-file=-')
    said(*with_key, 'open', '--type', kind, path, name, key=KEY)
    by_hand = seen(name)
    said('cryptsetup', 'close', name)
    assert worker.detach(volume.name).status == 'detached'
    # When the worker opens it, then nobody sees a difference
    wanted = {'provider': provider, 'key': KEY}
    result = worker.attach(volume, encryption=wanted)
    assert result.status == 'attached', result.as_dict()
    assert seen(name) == by_hand
    assert not list(pathlib.Path('/sys/block').glob('loop*/loop'))
    # And the operator can do with it what can be done with any other
    path = f'/dev/{result.device.paths[0].device}'
    if not integrity:
        said(*with_key, 'resize', name, key=KEY)
    said(
        *('cryptsetup', 'luksAddKey', '--batch-mode', '--pbkdf=pbkdf2'),
        *('--pbkdf-force-iterations=1000', path),
        key=f'{KEY}\nANOTHER\nANOTHER\n',
    )
    assert seen(name) == by_hand
    assert worker.detach(volume.name).status == 'detached'
    wanted['key'] = 'ANOTHER'
    result = worker.attach(volume, encryption=wanted)
    assert result.status == 'attached', result.as_dict()
    assert worker.detach(volume.name).status == 'detached'


def test_a_volume_that_opens_by_a_key_from_elsewhere(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a header that names a keyring of this host
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    token = ('cryptsetup', 'token', 'add', '--key-description', 'of-root')
    said(*token, str(bed.path_of(volume)))
    before = bed.snapshot()
    # When it is attached, then the request's key is the only one that counts
    result = worker.attach(
        volume, encryption={'provider': 'luks2', 'key': KEY}
    )
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'its header has luks2-keyring' in result.error.message
    assert bed.snapshot() == before


def test_a_header_that_is_longer_than_most(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a header with keys where others have data
    volume = bed.create_volume(size=64 << 20)
    said(
        *('cryptsetup', 'luksFormat', '--batch-mode', '--key-file=-'),
        *('--type=luks2', '--pbkdf=pbkdf2', '--pbkdf-force-iterations=1000'),
        *(f'--offset={24 << 11}', str(bed.path_of(volume))),
        key=KEY,
    )
    path = bed.path_of(volume)
    before = bed.snapshot()
    wanted = {'provider': 'luks2', 'key': KEY}
    result = worker.attach(volume, encryption=wanted)
    # Then it is opened
    assert result.status == 'attached', result.as_dict()
    assert result.device.size == (64 - 24) << 20
    assert worker.detach(volume.name).status == 'detached'
    # And so it is with one of which the first copy is damaged
    with open(path, 'r+b') as file:
        file.write(bytes(4096))
    result = worker.attach(volume, encryption=wanted)
    assert result.status == 'attached', result.as_dict()
    # And nothing is written to the volume for that
    assert path.read_bytes().startswith(bytes(4096))
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@contextlib.contextmanager
def available(amount: int) -> Iterator[None]:
    """The guest has no more memory than so many bytes available."""
    text = pathlib.Path('/proc/meminfo').read_text()
    (found,) = re.findall(r'^MemAvailable: +(\d+) kB$', text, re.MULTILINE)
    with contextlib.ExitStack() as stack:
        # no file system in memory may have more than half of it
        for directory in ('/run', '/dev/shm'):
            file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            share = (int(found) * 1024 - amount) // 2
            os.posix_fallocate(file.fileno(), 0, share)
        yield


def test_headers_that_ask_together_for_more_than_there_is(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given four volumes whose headers ask for 160 MiB each
    first = bed.create_volume()
    bed.encrypt(first, 'luks2', KEY, memory=160 << 20)
    others = [bed.create_volume(on=first) for _ in range(3)]
    for other in others:
        shutil.copyfile(bed.path_of(first), bed.path_of(other))
    before = bed.snapshot()
    wanted = {
        'encryption': {'provider': 'luks2', 'key': KEY},
        'deadline_seconds': 240,
    }
    # When all are attached at once, where there is not half of that
    with available(300 << 20), futures.ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(
                lambda one: worker.attach(one, **wanted), [first, *others]
            )
        )
    # Then they take turns, and all are opened
    assert [one.error for one in results] == [None] * 4
    for volume in (first, *others):
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
