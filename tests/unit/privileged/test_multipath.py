# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""What is said to multipathd, and the list of WWIDs."""

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import contextlib
import pathlib
import socket
import struct
import threading
import uuid

import pytest

from attachworker.privileged import multipath

LENGTH = struct.Struct('@N')
WWID = '36001405' + 25 * '0'
OTHER = '36001405' + 25 * '1'


class Daemon:
    """Answers each command with what it was told to; notes them."""

    def __init__(self, address: str) -> None:
        self.said: list[str] = []
        self.answers: dict[str, str] = {}
        self.first_answers: dict[str, str] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                (length,) = LENGTH.unpack(client.recv(LENGTH.size))
                command = client.recv(length).rstrip(b'\0').decode()
                self.said.append(command)
                usual = self.answers.get(command, 'ok\n')
                text = self.first_answers.pop(command, usual)
                answer = text.encode() + b'\0'
                message = LENGTH.pack(len(answer)) + answer
                # in two pieces, as a socket may deliver it
                client.sendall(message[:9])
                client.sendall(message[9:])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where nobody listens yet."""
    made = f'\0attachworker-test-{uuid.uuid4()}'
    monkeypatch.setattr(multipath, 'SOCKET', made)
    return made


@pytest.fixture
def daemon(address: str) -> Iterator[Daemon]:
    made = Daemon(address)
    yield made
    made.close()


@pytest.fixture
def wwids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> pathlib.Path:
    path = tmp_path / 'multipath/wwids'
    monkeypatch.setattr(multipath, 'WWIDS', path)
    return path


@pytest.mark.parametrize(
    'verb',
    [
        multipath.add_path,
        multipath.make_map,
        multipath.remove_path,
        multipath.map_paths,
        multipath.remove_map,
        multipath.resize_map,
        multipath.remember,
        multipath.forget,
    ],
)
@pytest.mark.parametrize(
    'name', ['', '-w', '../sda', 'sda dm-0', 'sda\n', 'a"b', 'é', 'a' * 200]
)
def test_hostile_names(
    daemon: Daemon,
    wwids: pathlib.Path,
    verb: Callable[[str], object],
    name: str,
) -> None:
    with pytest.raises(ValueError, match=r'^not '):
        verb(name)
    assert daemon.said == []
    assert not wwids.exists()


def test_a_wwid_is_no_longer_than_multipathd_takes() -> None:
    with pytest.raises(ValueError, match='not a WWID'):
        multipath.remember('a' * 128)


def test_nobody_there(address: str) -> None:
    assert multipath.running() is False
    multipath.remove_path('sda')
    with pytest.raises(ConnectionRefusedError):
        multipath.add_path('sda')


def test_nobody_knows_whether_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    # Given an address that leads to itself
    loop = tmp_path / 'loop'
    loop.symlink_to(loop)
    monkeypatch.setattr(multipath, 'SOCKET', str(loop))
    # Then that is no proof that it does not run
    with pytest.raises(OSError, match='symbolic links'):
        multipath.running()


def test_it_is_there(daemon: Daemon) -> None:
    assert multipath.running() is True
    assert daemon.said == ['show daemon']


@contextlib.contextmanager
def answering(address: str, *pieces: bytes) -> Iterator[None]:
    """Somebody who sends these pieces, whatever is asked, and hangs up."""

    def serve() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.recv(4096)
            for piece in pieces:
                client.sendall(piece)
                gone.wait(0.05)

    gone = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        gone.set()
        thread.join()


@pytest.mark.parametrize(
    ('pieces', 'reason'),
    [
        ([LENGTH.pack(1 << 40), b'x'], 'an answer that long'),
        ([LENGTH.pack(10), b'x'], 'has hung up'),
        ([b'\1'], 'has hung up'),
        ([], 'has hung up'),
    ],
    ids=['too long', 'cut off', 'half a length', 'nothing'],
)
def test_what_is_no_answer(
    address: str, pieces: list[bytes], reason: str
) -> None:
    with (
        answering(address, *pieces),
        pytest.raises(OSError, match=reason),
    ):
        multipath.add_path('sda')


def test_an_answer_that_comes_byte_by_byte_has_its_time_in_all(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(multipath, '_TIMEOUT', 0.5)
    with (
        answering(address, LENGTH.pack(100), *[b'x'] * 100),
        pytest.raises(TimeoutError),
    ):
        multipath.add_path('sda')


@pytest.mark.parametrize('answer', ['fail\n', 'timeout\n'])
def test_refusal(daemon: Daemon, answer: str) -> None:
    daemon.answers['add path sda'] = answer
    with pytest.raises(OSError, match=answer.strip()):
        multipath.add_path('sda')


def test_a_map_is_made_of_the_volume_as_multipathd_calls_it(
    daemon: Daemon,
) -> None:
    known = 'show paths raw format "%d %w"'
    daemon.answers[known] = 'sda 0x6001 a\nsdb \nok\n\n'
    multipath.make_map('sda')
    assert daemon.said == ['add path sda', known, 'add map "0x6001 a"']
    # udev has not told it what sdb is, and it has never heard of sdc
    for disk in ('sdb', 'sdc'):
        with pytest.raises(OSError, match='no WWID'):
            multipath.make_map(disk)


def test_a_path_that_is_not_known_is_gone(daemon: Daemon) -> None:
    daemon.answers['del path sda'] = 'fail\n'
    daemon.answers['show paths raw format "%d %w"'] = 'sdb 36001\n'
    multipath.remove_path('sda')


def test_a_path_that_is_known_too_late(daemon: Daemon) -> None:
    """Its uevent comes between two questions; seen on a real kernel."""
    daemon.first_answers['del path sda'] = 'fail\n'
    known = 'show paths raw format "%d %w"'
    daemon.answers[known] = 'sda 36001\nsdb 36002\n'
    multipath.remove_path('sda')
    assert daemon.said == ['del path sda', known, 'del path sda']


def test_a_path_that_stays(daemon: Daemon) -> None:
    daemon.answers['del path sda'] = 'fail\n'
    daemon.answers['show paths raw format "%d %w"'] = 'sda 36001\nsdb 36002\n'
    with pytest.raises(OSError, match='del path sda'):
        multipath.remove_path('sda')


def test_a_map_that_is_gone(daemon: Daemon) -> None:
    with pytest.raises(FileNotFoundError):
        multipath.remove_map('dm-987654321')
    assert daemon.said == []


def test_remember_and_forget(wwids: pathlib.Path) -> None:
    assert multipath.listed() == []
    multipath.forget(WWID)
    multipath.remember(WWID)
    multipath.remember(OTHER)
    multipath.remember(WWID)
    assert wwids.read_text() == f'/{WWID}/\n/{OTHER}/\n'
    assert multipath.listed() == [WWID, OTHER]
    multipath.forget(WWID)
    multipath.forget(WWID)
    assert wwids.read_text() == f'/{OTHER}/\n'


def test_several_at_the_same_time_lose_no_line(wwids: pathlib.Path) -> None:
    multipath.remember(WWID)
    mine = [[f'{WWID}{one}{number}' for number in range(40)] for one in 'abcd']

    def come_and_go(lines: list[str]) -> None:
        for line in lines:
            multipath.remember(line)
            multipath.forget(f'{line}0')
        for line in lines[1:]:
            multipath.forget(line)

    with concurrent.futures.ThreadPoolExecutor(len(mine)) as pool:
        list(pool.map(come_and_go, mine))
    assert sorted(multipath.listed()) == sorted(
        [WWID, *(lines[0] for lines in mine)]
    )
    assert '\0' not in wwids.read_text()


def test_the_rest_of_the_list_is_left_alone(wwids: pathlib.Path) -> None:
    text = f'# Multipath wwids\n# /{WWID}/\n/{OTHER}/'
    wwids.parent.mkdir()
    wwids.write_text(text)
    assert multipath.listed() == [OTHER]
    multipath.remember(WWID)
    multipath.forget(WWID)
    assert wwids.read_text() == text + '\n'
