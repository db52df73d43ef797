# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""What others on the host could see of the key of a volume."""

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
    with open(bed.path_of(volume), 'r+b') as header:
        header.seek(_ITERATIONS)
        header.write((190_000_000).to_bytes(4, 'big'))
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
    with open(path, 'r+b') as file:
        if provider == 'luks':
            for place, name in ((_CIPHER, b'cipher_null'), (_MODE, b'ecb')):
                file.seek(place)
                file.write(name.ljust(32, b'\0'))
            return
        for place in (0, _AREA):
            file.seek(place)
            area = bytearray(
                file.read(_AREA).replace(
                    b'"encryption":"aes-xts-plain64"',
                    b'"encryption":"cipher_null-ecb"',
                )
            )
            area[_CHECKSUM] = bytes(64)
            digest = hashlib.sha256(area).digest()
            area[_CHECKSUM] = digest.ljust(64, b'\0')
            file.seek(place)
            file.write(area)


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
