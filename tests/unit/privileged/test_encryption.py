# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The verbs for dm-crypt: what they refuse, and how cryptsetup is run."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import subprocess
import time
from typing import Any

from oslo_config import cfg
import pytest

from attachworker.privileged import encryption

NAME = f'attachworker-{"0a" * 16}'
KEY = 'CANARY'
MEMORY = 1 << 30
#: What the header that these tests have takes at most.
LARGE = 2 << 30


#: As cryptsetup 2.6 prints it, without what says nothing of work.
LUKS2 = """\
LUKS header information
Version:       \t2
Metadata area: \t16384 [bytes]
Keyslots area: \t16744448 [bytes]
Label:         \t{label}
Data segments:
  0: crypt
\toffset: {offset} [bytes]
Keyslots:
  0: luks2
\tPBKDF:      argon2id
\tTime cost:  {time}
\tMemory:     {memory}
\tThreads:    4
  1: luks2
\tPBKDF:      pbkdf2
\tIterations: 1000000
Digests:
  0: pbkdf2
\tIterations: {iterations}
"""
LUKS1 = """\
Payload offset:\t{payload}
MK bits:       \t512
MK iterations: \t{digest}
Key Slot 0: ENABLED
\tIterations:         \t{slot}
Key Slot 1: DISABLED
"""


def luks2(**values: object) -> str:
    usual = {
        'label': 'x',
        'offset': 16 << 20,
        'time': 4,
        'memory': 1 << 20,
        'iterations': 1000,
    }
    return LUKS2.format(**usual | values)


def luks1(**values: int) -> str:
    usual = {'payload': 4096, 'digest': 1000, 'slot': 1000}
    return LUKS1.format(**usual | values)


class Cryptsetup:
    """Stands in for the commands; notes what they are given.

    :ivar headers: what each is given as a file without a name
    :ivar hostile: called when a header is looked at
    """

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []
        self.read: list[bytes] = []
        self.limits: list[int] = []
        self.timeouts: list[float] = []
        self.headers: list[bytes] = []
        self.hostile: Callable[[], object] = lambda: None
        self.dump = luks2()
        self.ended: Any = subprocess.CompletedProcess([], 0, b'', b'')

    def __call__(self, command: tuple[str, ...], **how: Any) -> Any:
        assert how['timeout'] > 0
        self.timeouts.append(how['timeout'])
        assert KEY not in str(command) + str(how['env'])
        limit, command = command[:2], command[2:]
        assert limit[0] == 'prlimit'
        self.limits.append(int(limit[1].removeprefix('--as=')))
        for descriptor in how['pass_fds']:
            assert f'/proc/self/fd/{descriptor}' in command
            length = os.fstat(descriptor).st_size
            self.headers.append(os.pread(descriptor, length, 0))
        if command[1] == 'luksDump':
            self.hostile()
            dump = self.dump.encode()
            return subprocess.CompletedProcess([], not dump, dump, b'')
        self.said.append(command)
        self.read.append(how['input'])
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended


@pytest.fixture
def cryptsetup(monkeypatch: pytest.MonkeyPatch) -> Cryptsetup:
    made = Cryptsetup()
    monkeypatch.setattr(subprocess, 'run', made)
    return made


@pytest.fixture
def sda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> pathlib.Path:
    """A file that stands in for whatever this machine has of that name."""
    file = tmp_path / 'sda'
    file.write_bytes(b'header'.ljust(4096, b'\0'))

    @contextlib.contextmanager
    def opened(device: str, instance: int, flags: int) -> Iterator[int]:
        with open(file, 'rb') as stream:
            yield stream.fileno()

    monkeypatch.setattr(
        encryption.block, 'node', lambda device: f'/dev/{device}'
    )
    monkeypatch.setattr(encryption.block, 'opened', opened)
    return file


@pytest.mark.parametrize(
    'verb',
    [
        encryption.close,
        lambda name: encryption.offset(name, 9),
        lambda name: encryption.resize('sda', 1, name, 'plain', None, 0),
        lambda name: encryption.open('sda', 1, name, 'luks', KEY, False, 0, 9),
    ],
)
@pytest.mark.parametrize(
    'name', ['', '-q', 'cryptroot', 'attachworker-../x', f'{NAME}\n']
)
@pytest.mark.usefixtures('sda')
def test_hostile_names(
    cryptsetup: Cryptsetup, verb: Callable[[str], object], name: str
) -> None:
    with pytest.raises(ValueError, match='not the name of a mapping'):
        verb(name)
    assert cryptsetup.said == []


@pytest.mark.parametrize('device', ['', '-q', '../sda', 'sda\n', 'SDA'])
def test_hostile_devices(cryptsetup: Cryptsetup, device: str) -> None:
    for verb in (
        lambda: encryption.read_header(device, 1, 'luks', 9),
        lambda: encryption.format(device, 1, 'luks', KEY, 0),
        lambda: encryption.open(device, 1, NAME, 'luks', KEY, False, 0, 9),
    ):
        with pytest.raises(ValueError, match='not the kernel name'):
            verb()
    assert cryptsetup.said == []


@pytest.mark.parametrize('provider', ['', 'tcrypt', '--help'])
@pytest.mark.usefixtures('sda')
def test_unknown_formats(cryptsetup: Cryptsetup, provider: str) -> None:
    with pytest.raises(ValueError, match='not a known format'):
        encryption.open('sda', 1, NAME, provider, KEY, False, 0, 9)
    # there is nothing to format, or to look for
    for unheard in (provider, 'plain'):
        with pytest.raises(ValueError, match='not a known format'):
            encryption.format('sda', 1, unheard, KEY, 0)
        with pytest.raises(ValueError, match='not a known format'):
            encryption.read_header('sda', 1, unheard, 9)
    assert cryptsetup.said == []


@pytest.mark.parametrize('read_only', [False, True])
@pytest.mark.parametrize(
    ('provider', 'kind'),
    [('luks', 'luks1'), ('luks2', 'luks2'), ('plain', 'plain')],
)
@pytest.mark.usefixtures('sda')
def test_open(
    cryptsetup: Cryptsetup, provider: str, kind: str, read_only: bool
) -> None:
    encryption.open('sda', 1, NAME, provider, KEY, read_only, LARGE, 9)
    (command,) = cryptsetup.said
    assert command[command.index('--type') + 1] == kind
    assert '--key-file=-' in command
    place = command.index('/dev/sda')
    assert command[place + 1] == NAME
    # And nothing but a copy of its header, that was looked at, is obeyed
    assert ('--header' in command[place:]) == (kind != 'plain')
    assert ('--readonly' in command) == read_only
    assert ('--cipher=aes-xts-plain64' in command) == (kind == 'plain')
    assert cryptsetup.read == [KEY.encode()]


@pytest.mark.parametrize(
    ('asked', 'given'), [(2.5, 2.5), (1e9, 300.0), (0.0, 0.1)]
)
@pytest.mark.usefixtures('sda')
def test_what_changes_no_volume_ends_with_its_request(
    cryptsetup: Cryptsetup, asked: float, given: float
) -> None:
    cryptsetup.ended.stdout = b'offset: 1'
    encryption.read_header('sda', 1, 'luks2', asked)
    encryption.open('sda', 1, NAME, 'luks2', KEY, False, LARGE, asked)
    encryption.offset(NAME, asked)
    assert cryptsetup.timeouts == [given] * 4


@pytest.mark.parametrize('timeout', [-1.0, float('nan')])
@pytest.mark.usefixtures('sda')
def test_times_that_are_none(cryptsetup: Cryptsetup, timeout: float) -> None:
    with pytest.raises(ValueError, match='not a time'):
        encryption.open('sda', 1, NAME, 'luks2', KEY, False, 0, timeout)
    assert cryptsetup.said == []


@pytest.mark.parametrize('memory', [-1, 1.5, True, '0', 1 << 50])
@pytest.mark.usefixtures('sda')
def test_memory_that_is_none(cryptsetup: Cryptsetup, memory: Any) -> None:
    for verb in (
        lambda: encryption.format('sda', 1, 'luks2', KEY, memory),
        lambda: encryption.open(
            'sda', 1, NAME, 'luks2', KEY, False, memory, 9
        ),
        lambda: encryption.resize('sda', 1, NAME, 'luks2', KEY, memory),
    ):
        with pytest.raises(ValueError, match='not a size of memory'):
            verb()
    assert cryptsetup.said == []


@pytest.mark.usefixtures('sda')
def test_what_must_not_be_cut_short_has_its_time(
    cryptsetup: Cryptsetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, '_check_empty', lambda node: None)
    encryption.format('sda', 1, 'luks2', KEY, 0)
    encryption.resize('sda', 1, NAME, 'luks2', KEY, LARGE)
    encryption.close(NAME)
    assert cryptsetup.timeouts == [300.0] * 4


@pytest.mark.parametrize(
    ('code', 'number'),
    [
        (1, errno.EIO),
        (2, errno.EACCES),
        (3, errno.ENOMEM),
        (4, errno.ENODEV),
        (5, errno.EBUSY),
    ],
)
@pytest.mark.usefixtures('sda')
def test_failures(cryptsetup: Cryptsetup, code: int, number: int) -> None:
    output = b'a warning\nwhat is wrong\n'
    cryptsetup.ended = subprocess.CompletedProcess([], code, b'', output)
    with pytest.raises(OSError, match='what is wrong$') as caught:
        encryption.open('sda', 1, NAME, 'luks', KEY, False, LARGE, 9)
    assert caught.value.errno == number


@pytest.mark.usefixtures('sda')
def test_a_key_is_in_no_error(cryptsetup: Cryptsetup) -> None:
    cryptsetup.ended = subprocess.TimeoutExpired('c', 300, KEY.encode())
    with pytest.raises(TimeoutError) as caught:
        encryption.resize('sda', 1, NAME, 'plain', KEY, 0)
    assert caught.value.__cause__ is None
    assert KEY not in str(caught.value)


@pytest.mark.usefixtures('sda')
def test_resize(cryptsetup: Cryptsetup) -> None:
    encryption.resize('sda', 1, NAME, 'plain', None, 0)
    encryption.resize('sda', 1, NAME, 'luks2', KEY, LARGE)
    assert ['--header' in one for one in cryptsetup.said] == [False, True]
    assert ['--key-file=-' in one for one in cryptsetup.said] == [False, True]
    assert cryptsetup.read == [b'', KEY.encode()]


@pytest.mark.usefixtures('sda')
def test_a_header_says_what_it_takes(cryptsetup: Cryptsetup) -> None:
    cryptsetup.dump = luks2()
    # (with the memory that a copy of it is in)
    wanted = (1 << 30) + (16 << 20)
    assert encryption.read_header('sda', 1, 'luks2', 9) == wanted
    cryptsetup.dump = luks1(slot=2_000_000)
    assert encryption.read_header('sda', 1, 'luks', 9) == 2 << 20
    cryptsetup.dump = ''
    assert encryption.read_header('sda', 1, 'luks2', 9) is None
    # a header that cryptsetup would read only with more memory than that
    assert max(cryptsetup.limits) == 512 << 20


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        (luks2(time=1 << 31), 'KiB that Argon2'),
        (luks2(iterations=(1 << 32) - 1), 'iterations of PBKDF2'),
        (luks2(memory=-1), 'below zero'),
        (luks2(time=1 << 31, label='\n\tMemory: 1'), 'KiB that Argon2'),
        (luks1(slot=(1 << 32) - 1), 'iterations'),
        (luks1(digest=(1 << 32) - 1), 'iterations'),
    ],
)
@pytest.mark.usefixtures('sda')
def test_a_header_that_asks_for_hours_is_refused(
    cryptsetup: Cryptsetup, text: str, reason: str
) -> None:
    cryptsetup.dump = text
    with pytest.raises(OSError, match=reason):
        encryption.read_header('sda', 1, 'luks2', 9)


@pytest.mark.parametrize(
    'line',
    [
        'Cipher name:   \tcipher_null',
        '\tcipher: cipher_null-ecb',
        '\tCipher:     capi:ecb(cipher_null)-plain64',
        '  0: linear',
        # the storage enciphers, or says that it does
        '  0: hw-opal',
        # what was begun, and is gone on with when it is opened
        '  1: reencrypt (unbound)',
        # a key from elsewhere: a keyring of this host, a server of theirs
        '  0: luks2-keyring',
        '  0: ssh',
    ],
)
@pytest.mark.usefixtures('sda')
def test_a_header_that_wants_something_in_the_clear_is_refused(
    cryptsetup: Cryptsetup, line: str
) -> None:
    """Whoever has the storage can write one, and needs no key for it."""
    for header in (luks2(), luks1()):
        cryptsetup.dump = f'{header}{line}\n'
        with pytest.raises(OSError, match='in the clear') as caught:
            encryption.read_header('sda', 1, 'luks2', 9)
        assert caught.value.errno == errno.EPERM


def test_all_that_cryptsetup_makes_by_itself_is_obeyed() -> None:
    """Two seconds of the fastest of hosts, for each of all keyslots."""
    fast = '\tIterations: 15000000\n' * 32
    encryption.header_in(luks2(time=0) + fast)
    # where there is little memory, Argon2 goes through it more often
    small = '\tTime cost:  400\n\tMemory:     65536\n' * 32
    encryption.header_in(luks2(time=0, memory=0) + small)


def test_how_much_work_is_an_option() -> None:
    text = luks1(slot=3_000_000)
    encryption.header_in(text)
    cfg.CONF.set_override('encryption_iterations', 2_000_000)
    try:
        with pytest.raises(OSError, match='encryption_iterations allows 20'):
            encryption.header_in(text)
    finally:
        cfg.CONF.clear_override('encryption_iterations')


@pytest.mark.parametrize(
    'text', [luks2(offset=1 << 20), luks1(payload=0), 'Version: 3\n']
)
def test_data_inside_of_the_header(text: str) -> None:
    with pytest.raises(OSError, match='begins inside') as caught:
        encryption.header_in(text)
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize('provider', ['luks', 'luks2'])
def test_what_is_obeyed_is_what_was_looked_at(
    cryptsetup: Cryptsetup, sda: pathlib.Path, provider: str
) -> None:
    # Given a storage that gives another header as soon as it was asked once
    cryptsetup.dump = luks2() if provider == 'luks2' else luks1()
    cryptsetup.hostile = lambda: sda.write_bytes(b'hostile'.ljust(4096))
    # When the volume is opened, or grows
    for verb in (
        lambda: encryption.open(
            'sda', 1, NAME, provider, KEY, False, LARGE, 9
        ),
        lambda: encryption.resize('sda', 1, NAME, provider, KEY, LARGE),
    ):
        sda.write_bytes(b'harmless'.ljust(4096))
        cryptsetup.headers.clear()
        verb()
        # Then cryptsetup is given the one that was looked at
        begins = [one.rstrip(b'\0').strip() for one in cryptsetup.headers]
        assert begins == [b'harmless', b'harmless']
    # And nothing of it is left open
    assert not [
        one for one in os.listdir('/proc/self/fd') if 'memfd' in _target(one)
    ]


def _target(descriptor: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f'/proc/self/fd/{descriptor}')
    return ''


@pytest.mark.usefixtures('sda')
def test_a_header_that_asks_for_more_than_before(
    cryptsetup: Cryptsetup,
) -> None:
    # Given one that was changed since its memory was set aside
    cryptsetup.dump = luks2(memory=2 << 20)
    for verb in (
        lambda: encryption.open(
            'sda', 1, NAME, 'luks2', KEY, False, MEMORY, 9
        ),
        lambda: encryption.resize('sda', 1, NAME, 'luks2', KEY, MEMORY),
    ):
        with pytest.raises(OSError, match='when it was looked at') as caught:
            verb()
        assert caught.value.errno == errno.E2BIG
    # or taken away
    cryptsetup.dump = ''
    with pytest.raises(OSError, match='no header of this format'):
        encryption.open('sda', 1, NAME, 'luks2', KEY, False, MEMORY, 9)
    assert cryptsetup.said == []


@pytest.mark.usefixtures('sda')
def test_a_storage_that_gives_its_header_slowly(
    cryptsetup: Cryptsetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one that takes a while for each piece
    reads = []

    def read_direct(descriptor: int, offset: int, length: int) -> bytes:
        reads.append(offset)
        end = time.monotonic() + 0.06
        while time.monotonic() < end:
            pass
        return b''

    monkeypatch.setattr(encryption.block, 'read_direct', read_direct)
    # Then a request does not wait longer for all of them than it may
    with pytest.raises(TimeoutError, match='takes too long'):
        encryption.read_header('sda', 1, 'luks2', 0.1)
    assert len(reads) < 4


@pytest.mark.parametrize('known', [False, True])
@pytest.mark.usefixtures('sda')
def test_a_copy_is_nothing_to_execute(
    cryptsetup: Cryptsetup, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    # Given a kernel that insists on saying so, or one that cannot be told
    make, given = os.memfd_create, []

    def memfd_create(name: str, flags: int = os.MFD_CLOEXEC) -> int:
        given.append(flags)
        if bool(flags & 0x8) != known:
            error = errno.EACCES if known else errno.EINVAL
            raise OSError(error, os.strerror(error))
        return make(name)

    monkeypatch.setattr(os, 'memfd_create', memfd_create)
    # Then there is a copy on both
    assert encryption.read_header('sda', 1, 'luks2', 9)
    assert len(given) == 2 - known


@pytest.mark.parametrize('megabytes', [3, 20, 300])
def test_a_header_is_copied_as_far_as_it_goes(
    cryptsetup: Cryptsetup, sda: pathlib.Path, megabytes: int
) -> None:
    # Given a header that says that it is so long, and a longer device
    cryptsetup.dump = luks1(payload=megabytes << 11)
    with open(sda, 'r+b') as stream:
        for place in range(0, 400, 2):
            stream.seek(place << 20)
            stream.write(b'.')
    # When it is opened, then there is so much of it, and never too much
    encryption.open('sda', 1, NAME, 'luks', KEY, False, LARGE, 9)
    length = min(megabytes, 136)
    assert len(cryptsetup.headers[-1]) == length << 20
    assert cryptsetup.headers[-1].count(b'.') == -(-length // 2)


@pytest.mark.usefixtures('sda')
def test_cryptsetup_gets_no_more_memory_than_it_was_said_to_need(
    cryptsetup: Cryptsetup,
) -> None:
    encryption.open('sda', 1, NAME, 'luks2', KEY, False, LARGE, 9)
    assert cryptsetup.limits == [512 << 20, (512 << 20) + LARGE]


@pytest.mark.usefixtures('sda')
def test_a_cryptsetup_that_was_killed(cryptsetup: Cryptsetup) -> None:
    cryptsetup.ended = subprocess.CompletedProcess([], -9, b'', b'')
    with pytest.raises(OSError, match='where memory runs out') as caught:
        encryption.open('sda', 1, NAME, 'luks2', KEY, False, LARGE, 9)
    assert caught.value.errno == errno.ENOMEM


def test_the_lower_half_of_a_pair_is_closed_alone(
    cryptsetup: Cryptsetup,
) -> None:
    cryptsetup.ended = subprocess.CompletedProcess([], 4, b'', b'not active')
    with pytest.raises(OSError, match='not active'):
        encryption.close(NAME)
    assert [one[-1] for one in cryptsetup.said] == [NAME, f'{NAME}_dif']


def test_offset(cryptsetup: Cryptsetup) -> None:
    status = b'  type: LUKS1\n  offset:  4096 sectors\n'
    cryptsetup.ended = subprocess.CompletedProcess([], 0, status, b'')
    assert encryption.offset(NAME, 9) == 2 << 20
    cryptsetup.ended = subprocess.CompletedProcess([], 0, b'', b'')
    with pytest.raises(OSError, match='no offset'):
        encryption.offset(NAME, 9)


@pytest.mark.parametrize(
    ('byte', 'signatures', 'reason'),
    [
        (0, b'', 'data in the 16 MiB at its start'),
        ((2 << 20) - 1, b'', 'data in the 16 MiB at its start'),
        ((16 << 20) - 1, b'', 'data in the 16 MiB at its start'),
        (None, b'gpt\nPMBR\n', 'a signature of gpt'),
        (None, b'', None),
    ],
)
def test_only_what_is_empty_is_formatted(
    cryptsetup: Cryptsetup,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    byte: int | None,
    signatures: bytes,
    reason: str | None,
) -> None:
    # Given a device with a byte that is not zero, or a signature at its end
    file = tmp_path / 'sda'
    with open(file, 'xb') as stream:
        stream.truncate(32 << 20)
        stream.seek(16 << 20)
        stream.write(b'beyond what is looked at')
        if byte is not None:
            stream.seek(byte)
            stream.write(b'.')
    monkeypatch.setattr(encryption.block, 'node', lambda device: str(file))
    monkeypatch.setattr(
        encryption.block,
        'opened',
        lambda device, instance, flags: contextlib.nullcontext(-1),
    )
    monkeypatch.setattr(encryption.block.fcntl, 'ioctl', lambda *rest: 0)
    cryptsetup.ended = subprocess.CompletedProcess([], 0, signatures, b'')
    # When it is to be formatted, then only without either
    if reason is None:
        encryption.format('sda', 1, 'luks2', KEY, MEMORY)
        assert cryptsetup.said[-1][:2] == ('cryptsetup', 'luksFormat')
        assert '--pbkdf-memory=1048576' in cryptsetup.said[-1]
        assert cryptsetup.read[-1] == KEY.encode()
        return
    with pytest.raises(FileExistsError, match=reason):
        encryption.format('sda', 1, 'luks2', KEY, MEMORY)
    assert not any('luksFormat' in command for command in cryptsetup.said)
