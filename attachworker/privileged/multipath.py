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
import time
from typing import IO

from attachworker import privileged
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import tools

#: multipathd's, in the abstract name space.
SOCKET = '\0/org/kernel/linux/storage/multipathd'
#: multipathd's own limit for an answer is 4 s (uxsock_timeout).
_TIMEOUT = 10.0
#: Bytes of an answer that are received at a time.
_PIECE = 1 << 16
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
        end = time.monotonic() + _TIMEOUT
        client.settimeout(_TIMEOUT)
        client.connect(SOCKET)
        client.sendall(_LENGTH.pack(len(request)) + request)
        (length,) = _LENGTH.unpack(_receive(client, _LENGTH.size, end))
        if length > _LONGEST:
            raise _nonsense('an answer that long')
        answer = (
            _receive(client, length, end)
            .rstrip(b'\0')
            .decode(errors='replace')
        )
    # Success and failure are told in the text alone.
    if answer.strip() in ('fail', 'timeout', 'permission deny'):
        raise OSError(errno.EBUSY, f'multipathd: {answer.strip()} ({command})')
    if answer.strip() == 'blacklisted':
        raise OSError(errno.EPERM, f'multipathd: blacklisted ({command})')
    return answer


def _receive(client: socket.socket, length: int, end: float) -> bytes:
    """:raises TimeoutError: it is not there at that time"""
    data = bytearray()
    while len(data) < length:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, 'multipathd is too slow')
        client.settimeout(left)
        piece = client.recv(min(length - len(data), _PIECE))
        if not piece:
            raise OSError(errno.EPIPE, 'multipathd has hung up')
        data += piece
    return bytes(data)


def _nonsense(what: str) -> OSError:
    return OSError(errno.EPROTO, f'multipathd gives {what}')


def _alias(map_name: str) -> str:
    """What multipathd calls a map; that it has none is ENOENT."""
    place = f'/sys/block/{_map(map_name)}/dm/name'
    with open(place, encoding='utf-8', errors='surrogateescape') as file:
        alias = file.read().strip()
    if alias.startswith('-') or not _can_be_said(alias):
        raise OSError(errno.EPROTO, f'multipathd cannot be told {map_name}')
    return f'"{alias}"'


def _can_be_said(word: str) -> bool:
    """Whether multipathd would read a quoted word as it is: quotes end it."""
    return bool(word) and word.isprintable() and '"' not in word


@privileged.readonly.entrypoint
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
    return wwids_in(_ask('show paths raw format "%d %w"'))


def wwids_in(answer: str) -> dict[str, str]:
    """By disk, what is in such a list; what is no line of it is left out."""
    found = (line.strip().partition(' ') for line in answer.split('\n'))
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
    if not _can_be_said(wwid):
        raise OSError(errno.EBUSY, f'multipathd has no WWID of {disk}')
    _ask(f'add map "{wwid}"')


@privileged.default.entrypoint
def remove_path(disk: str) -> None:
    """Have multipathd forget a disk; with the last one the map goes.

    That it does not know the disk is fine, and so is its absence.

    :raises OSError: it does not let go; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    removals.check([names.scsi_disk(disk)], *_devices_of([disk]))
    with contextlib.suppress(ConnectionRefusedError):
        if not _let_go(disk):
            # the uevent of a disk that is new came between two questions
            _ask(f'del path {disk}')


def _devices_of(disks: list[str]) -> Iterator[int]:
    """What no other SCSI device has, for each disk that is there."""
    for disk in disks:
        with contextlib.suppress(FileNotFoundError):
            yield os.stat(f'/sys/class/block/{disk}/device').st_ino


def _let_go(disk: str) -> bool:
    try:
        _ask(f'del path {disk}')
    except ConnectionRefusedError:
        raise
    except OSError:
        return disk not in _wwids_of_paths()
    return True


@privileged.readonly.entrypoint
def map_paths(map_name: str) -> list[tuple[str, str]]:
    """The disks of a map and their state: active, failed or undef.

    :param map_name: kernel name, for example ``dm-0``
    :raises OSError: multipathd or the map is not there
    """
    return paths_in(_ask(f'show map {_alias(map_name)} json'))


def paths_in(answer: str) -> list[tuple[str, str]]:
    """The disks and their states in what multipathd says of a map.

    :raises OSError: EPROTO: it says something else
    """
    try:
        found = [
            (path['dev'], path['dm_st'])
            for group in json.loads(answer)['map']['path_groups']
            for path in group['paths']
        ]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _nonsense('no list of the paths of a map') from error
    if not all(isinstance(text, str) for path in found for text in path):
        raise _nonsense('paths of a map that have no names')
    return found


@privileged.default.entrypoint
def remove_map(map_name: str) -> None:
    """Remove a map that nobody has open; see multipath(8), -f.

    :raises OSError: it is in use; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    alias = _alias(map_name)
    removals.check([map_name])
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

    :raises OSError: multipathd or the map is not there; EPERM: I/O of the
        host itself would fail, see
        :func:`attachworker.privileged.removals.check`
    """
    verb = 'restorequeueing' if queue else 'disablequeueing'
    alias = _alias(map_name)
    if not queue:
        paths = os.listdir(f'/sys/block/{map_name}/slaves')
        removals.check([map_name], *_devices_of(paths))
    _ask(f'{verb} map {alias}')


@privileged.readonly.entrypoint
def listed() -> list[str]:
    """The WWIDs that are to have a map."""
    try:
        with _locked(os.O_RDONLY) as file:
            return listed_in(file.read())
    except FileNotFoundError:
        return []


def listed_in(text: str) -> list[str]:
    """The WWIDs in such a list that can be said at all."""
    found = re.findall(r'^/([^\n]+)/$', text, re.MULTILINE)
    return [wwid for wwid in found if wwid.isprintable()]


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

    :raises OSError: EPERM: at its next start the host would be without the
        map, see :func:`attachworker.privileged.removals.check`
    """
    line = _line(wwid)
    removals.check_mapped('uuid', f'mpath-{wwid}')
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
    """The file of WWIDs, under the lock that multipath-tools take.

    Who only reads it keeps away those who write, and no other reader.
    """
    writes = flags & os.O_ACCMODE == os.O_RDWR
    with (
        _wwids_lock,
        open(
            os.open(WWIDS, flags | os.O_CLOEXEC, 0o600),
            'r+' if writes else 'r',
            encoding='utf-8',
            # What others have written there stays, byte by byte.
            errors='surrogateescape',
            newline='\n',
        ) as file,
    ):
        fcntl.lockf(file, fcntl.LOCK_EX if writes else fcntl.LOCK_SH)
        yield file
