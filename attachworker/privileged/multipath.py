# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Speak to multipathd, and keep its list of wanted WWIDs."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import re
import socket
import struct
import threading
from typing import IO

from attachworker import privileged
from attachworker.privileged import names
from attachworker.privileged import tools

#: multipathd's, in the abstract name space.
SOCKET = '\0/org/kernel/linux/storage/multipathd'
#: multipathd's own limit for an answer is 4 s (uxsock_timeout).
_TIMEOUT = 10.0
_TOOL_TIMEOUT = 30.0
_LENGTH = struct.Struct('@N')
_LONGEST = 64 * 1024 * 1024

_map = names.rule(r'dm-\d{1,9}', 'the kernel name of a map')
#: multipath-tools keep 128 bytes of it (WWID_SIZE), the last one NUL.
_wwid = names.rule(r'[0-9A-Za-z][0-9A-Za-z._:+-]{0,126}', 'a WWID')

WWIDS = pathlib.Path('/etc/multipath/wwids')
#: The lock that multipath-tools take belongs to a process, and goes as soon
#: as one of its threads closes the file.
_wwids_lock = threading.Lock()


def _ask(command: str) -> str:
    """One command, and multipathd's answer to it.

    :raises OSError: multipathd is not there or has refused
    """
    request = command.encode() + b'\0'
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT)
        client.connect(SOCKET)
        client.sendall(_LENGTH.pack(len(request)) + request)
        (length,) = _LENGTH.unpack(_receive(client, _LENGTH.size))
        if length > _LONGEST:
            raise OSError(errno.EPROTO, 'multipathd talks nonsense')
        answer = (
            _receive(client, length).rstrip(b'\0').decode(errors='replace')
        )
    # Success and failure are told in the text alone.
    if answer.strip() in ('fail', 'timeout', 'permission deny'):
        raise OSError(errno.EBUSY, f'multipathd: {answer.strip()} ({command})')
    if answer.strip() == 'blacklisted':
        raise OSError(errno.EPERM, f'multipathd: blacklisted ({command})')
    return answer


def _receive(client: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise OSError(errno.EPIPE, 'multipathd has hung up')
        data += piece
    return bytes(data)


def _alias(map_name: str) -> str:
    """What multipathd calls a map; that it has none is ENOENT."""
    place = f'/sys/block/{_map(map_name)}/dm/name'
    with open(place, encoding='utf-8') as file:
        alias = file.read().strip()
    # multipathd's parser takes quoted words; a quote ends them
    if '"' in alias or alias.startswith('-'):
        raise ValueError('a map whose name cannot be said')
    return f'"{alias}"'


@privileged.default.entrypoint
def running() -> bool:
    """Whether multipathd answers.

    :raises OSError: it could not even be asked
    """
    try:
        _ask('show daemon')
    except (ConnectionError, TimeoutError):
        return False
    return True


def _wwids_of_paths() -> dict[str, str]:
    """What multipathd calls the volume of each disk that it knows.

    That depends on its configuration (uid_attribute); empty if udev has not
    told it yet.
    """
    lines = _ask('show paths raw format "%d %w"').splitlines()
    found = (line.strip().partition(' ') for line in lines)
    return {
        disk: wwid.strip()
        for disk, _, wwid in found
        if re.fullmatch(names.SCSI_DISK, disk)
    }


@privileged.default.entrypoint
def add_path(disk: str) -> None:
    """Have multipathd look at a disk now.

    :raises OSError: multipathd is not there, or does not want it
    """
    _ask(f'add path {names.scsi_disk(disk)}')


@privileged.default.entrypoint
def make_map(disk: str) -> None:
    """Have multipathd make a map of a disk, and of all others of its volume.

    It is told the volume: then find_multipaths, which says what it makes maps
    of by itself, does not matter.

    :raises OSError: multipathd is not there, or does not want the disk;
        EPERM: it never will, as it is configured
    """
    _ask(f'add path {names.scsi_disk(disk)}')
    if any(pathlib.Path('/sys/block', disk, 'holders').glob('dm-*')):
        return  # multipathd made it by itself
    wwid = _wwids_of_paths().get(disk, '')
    if not wwid or '"' in wwid:
        raise OSError(errno.EBUSY, f'multipathd has no WWID of {disk}')
    _ask(f'add map "{wwid}"')


@privileged.default.entrypoint
def remove_path(disk: str) -> None:
    """Have multipathd forget a disk; with the last one the map goes.

    That it does not know the disk is fine, and so is its absence.

    :raises OSError: it does not let go
    """
    names.scsi_disk(disk)
    with contextlib.suppress(ConnectionRefusedError):
        if not _let_go(disk):
            # the uevent of a disk that is new came between two questions
            _ask(f'del path {disk}')


def _let_go(disk: str) -> bool:
    try:
        _ask(f'del path {disk}')
    except ConnectionRefusedError:
        raise
    except OSError:
        return disk not in _wwids_of_paths()
    return True


@privileged.default.entrypoint
def map_paths(map_name: str) -> list[tuple[str, str]]:
    """The disks of a map and their state: active, failed or undef.

    :param map_name: kernel name, for example ``dm-0``
    :raises OSError: multipathd or the map is not there
    """
    answer = json.loads(_ask(f'show map {_alias(map_name)} json'))
    return [
        (path['dev'], path['dm_st'])
        for group in answer['map']['path_groups']
        for path in group['paths']
    ]


@privileged.default.entrypoint
def remove_map(map_name: str) -> None:
    """Remove a map that nobody has open; see multipath(8), -f.

    :raises OSError: it is in use
    """
    alias = _alias(map_name)
    try:
        _ask(f'del map {alias}')
    except ConnectionRefusedError:
        _flush_without_daemon(alias.strip('"'))


def _flush_without_daemon(alias: str) -> None:
    code, output, _ = tools.run(
        'multipath', '-f', alias, timeout=_TOOL_TIMEOUT, merged=True
    )
    if code:
        raise OSError(errno.EBUSY, f'multipath -f {alias}: {output}')


@privileged.default.entrypoint
def resize_map(map_name: str) -> None:
    """Give a map the size that its disks have now.

    :raises OSError: their sizes differ, or multipathd is not there
    """
    _ask(f'resize map {_alias(map_name)}')


@privileged.default.entrypoint
def set_queueing(map_name: str, queue: bool) -> None:
    """Whether I/O waits while no path works, as configured, or fails.

    :raises OSError: multipathd or the map is not there
    """
    verb = 'restorequeueing' if queue else 'disablequeueing'
    _ask(f'{verb} map {_alias(map_name)}')


@privileged.default.entrypoint
def listed() -> list[str]:
    """The WWIDs that are to have a map."""
    try:
        with _locked(os.O_RDWR) as file:
            text = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        text = WWIDS.read_text(encoding='utf-8')
    return re.findall(r'^/(.+)/$', text, re.MULTILINE)


@privileged.default.entrypoint
def remember(wwid: str) -> None:
    """Tell multipathd and udev that a WWID is to have a map.

    As ``multipath -a`` does, which takes many times longer.
    """
    line = _line(wwid)
    WWIDS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(os.O_RDWR | os.O_CREAT) as file:
        text = file.read()
        if line not in text.splitlines():
            separator = '' if not text or text.endswith('\n') else '\n'
            file.write(f'{separator}{line}\n')


@privileged.default.entrypoint
def forget(wwid: str) -> None:
    """Take back :func:`remember`; that there is nothing is fine.

    Where nothing can be written, nothing was.
    """
    line = _line(wwid)
    try:
        with _locked(os.O_RDWR) as file:
            lines = file.read().splitlines(keepends=True)
            kept = ''.join(one for one in lines if one.rstrip('\n') != line)
            # In place: multipathd locks the file, not its name.
            file.seek(0)
            file.write(kept)
            file.truncate()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def _line(wwid: str) -> str:
    return f'/{_wwid(wwid)}/'


@contextlib.contextmanager
def _locked(flags: int) -> Iterator[IO[str]]:
    """The file of WWIDs, under the lock that multipath-tools take."""
    with (
        _wwids_lock,
        open(
            os.open(WWIDS, flags | os.O_CLOEXEC, 0o600),
            'r+',
            encoding='utf-8',
        ) as file,
    ):
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield file
