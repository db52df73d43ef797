# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the processes of this host do with block devices: open, and mount."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import functools
import os
import pathlib
import re
import stat

from attachworker import privileged
from attachworker.privileged import status

#: What our helper that only reads calls itself: the kernel has 15 bytes.
READER = 'attachworker-ro'
#: Daemons that look at every device and hold none of them for long; so do
#: the programs that they start. Nobody can rename the process of another user.
_BYSTANDERS = frozenset(
    ('systemd-udevd', '(udev-worker)', 'multipathd', READER)
)
_NUMBER = re.compile(r'([0-9]{1,5}):([0-9]{1,8})')
#: linux/capability.h
_CAP_SYS_PTRACE = 19
_OCTAL = re.compile(r'\\([0-7]{3})')

#: How the kernel says that a process, or a file of it, is there no more.
_ENDED = (FileNotFoundError, ProcessLookupError)

#: Number of a device, pid, command, and where it is mounted; empty: the
#: process has it open.
Use = tuple[str, int, str, str]


@privileged.default.entrypoint
def users(
    devices: dict[str, list[str]],
) -> tuple[list[Use], list[tuple[int, str]]]:
    """Who has block devices open, or mounted, in whatever namespace.

    All devices are looked for at once: a look at each file of each process
    takes long on a big host. A mount is told once for each namespace of
    mounts, with a process that is in it.

    :param devices: by ``major:minor``, the paths by which a file system may
        call the device that it is on; btrfs has no number of a device
    :returns: the uses, and pid and command of the processes that a security
        module keeps even from who may look at all
    :raises OSError: somebody may use them, and it cannot be told
    """
    look = _Look(devices)
    _at_each(look.at)
    return look.uses, look.hidden


def _at_each(look: Callable[[int], None]) -> None:
    """Look at each process of the host.

    :raises OSError: as the look does, unless the process has ended
    """
    for pid in sorted(map(int, filter(str.isdigit, os.listdir('/proc')))):
        try:
            look(pid)
        except OSError as error:
            # what has ended meanwhile uses nothing any more
            if not _has_ended(pid, error):
                raise


def users_of_file(
    device: int, inode: int | None, name: str
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Who has a file open, by whatever path and in whatever namespace.

    No server is asked. Where nobody knows the inode, for the server is dead,
    a file of that name on the same file system is taken for it.

    :param device: number of the file system, as stat(2) has it
    :param inode: None: nobody knows
    :param name: without the directory
    :returns: pid and command, as :func:`users` does
    """
    uses: list[tuple[int, str]] = []
    hidden: list[tuple[int, str]] = []

    def look(pid: int) -> None:
        if pid == os.getpid():
            return
        try:
            os.readlink(f'/proc/{pid}/ns/mnt')
        except PermissionError:
            if not _may_see_all():
                raise
            hidden.append((pid, _command(pid)))
            return
        for path, found in _open_files(pid):
            if os.makedev(found.dev_major, found.dev_minor) != device:
                continue
            if inode is None:
                known = os.path.basename(os.readlink(path)) == name
            else:
                known = found.ino == inode
            if known:
                uses.append((pid, _command(pid)))
                return

    _at_each(look)
    return uses, hidden


class _Look:
    """See :func:`users`."""

    def __init__(self, devices: dict[str, list[str]]) -> None:
        self.uses: list[Use] = []
        self.hidden: list[tuple[int, str]] = []
        self._numbers = {_number(text): text for text in devices}
        #: What a line of mountinfo may have, number or source.
        self._named = {text: text for text in devices} | {
            path: text for text, paths in devices.items() for path in paths
        }
        self._namespaces: set[str] = set()

    def at(self, pid: int) -> None:
        """:raises OSError: the process has ended, or nobody knows"""
        try:
            namespace = os.readlink(f'/proc/{pid}/ns/mnt')
        except PermissionError:
            if not _may_see_all():
                raise
            # the mounts of such a process anybody may see
            self._look_at_mounts(pid)
            self.hidden.append((pid, _command(pid)))
            return
        if namespace not in self._namespaces:
            self._look_at_mounts(pid)
            self._namespaces.add(namespace)
        if pid != os.getpid():
            self._look_at_files(pid)

    def _look_at_files(self, pid: int) -> None:
        opened = self._numbers.keys() & set(_open_devices(pid))
        if opened and not _is_bystander(pid):
            command = _command(pid)
            self.uses += [
                (self._numbers[number], pid, command, '') for number in opened
            ]

    def _look_at_mounts(self, pid: int) -> None:
        for mount in parsed_mounts(_read(f'{pid}/mountinfo')):
            named = self._named
            found = named.get(mount.number) or named.get(mount.source)
            if found is not None:
                self.uses.append((found, pid, _command(pid), mount.point))


@dataclasses.dataclass(frozen=True)
class Mount:
    """A line of a table of mounts: proc_pid_mountinfo(5).

    :ivar number: ``major:minor`` of what stat(2) calls its device
    :ivar source: what it was mounted from, as whoever did it spelled it
    :ivar kind: of its file system
    :ivar options: of its file system, with the escapes of the kernel
    :ivar identifier: of the mount, which a later one may have
    :ivar root: what of its file system is mounted
    :ivar flags: of the mount
    """

    number: str
    point: str
    source: str
    kind: str
    options: str
    identifier: str = ''
    root: str = '/'
    flags: str = ''


def parsed_mounts(table: str) -> Iterator[Mount]:
    """All mounts of a table, the earlier ones first.

    :raises OSError: EPROTO: it is no such table
    """
    # Whoever may mount chooses the names in it. The kernel escapes a newline,
    # and none of the other signs at which splitlines() would divide it.
    for line in filter(None, table.split('\n')):
        mount, _, device = line.partition(' - ')
        fields, source = mount.split(' '), device.split(' ', 2)
        if len(fields) < 6 or len(source) < 3:
            raise OSError(errno.EPROTO, 'a line of mountinfo makes no sense')
        yield Mount(
            number=fields[2],
            point=plain(fields[4]),
            source=plain(source[1]),
            kind=source[0],
            options=source[2],
            identifier=fields[0],
            root=plain(fields[3]),
            flags=fields[5],
        )


def parsed_swaps(table: str) -> list[str]:
    """The devices and files that a host swaps to, of /proc/swaps.

    It has a line of titles.
    """
    return [
        plain(words[0])
        for line in table.split('\n')[1:]
        if (words := line.split())
    ]


def _read(name: str) -> str:
    path = pathlib.Path('/proc') / name
    return path.read_text(encoding='utf-8', errors='replace')


def _open_devices(pid: int) -> Iterator[int]:
    """The numbers of the block devices that a process has open.

    No server of a file is asked: it may be dead.
    """
    for _, found in _open_files(pid):
        if stat.S_ISBLK(found.mode):
            yield os.makedev(found.rdev_major, found.rdev_minor)


def _open_files(pid: int) -> Iterator[tuple[str, status.Status]]:
    """Where each open file of a process is in /proc, and what it is.

    The second value changes with the next file.
    """
    found = status.Status()
    directory = f'/proc/{pid}/fd'
    for descriptor in os.listdir(directory):
        path = f'{directory}/{descriptor}'
        # closed meanwhile
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status.read(path, found, status.CACHED)
            yield path, found


def _is_bystander(pid: int) -> bool:
    _, parent = _state_and_parent(pid)
    return not _BYSTANDERS.isdisjoint((_command(pid), _command(parent)))


def _state_and_parent(pid: int) -> tuple[str, int]:
    # the command, in parentheses, may hold anything
    state, parent = _read(f'{pid}/stat').rpartition(')')[2].split()[:2]
    return state, int(parent)


def _command(pid: int) -> str:
    if pid == 0:
        return ''  # the parent of the first process, and of kernel threads
    return _read(f'{pid}/comm').strip()


def _has_ended(pid: int, error: OSError) -> bool:
    """Whether an error is due to the end of a process.

    The kernel says EACCES or EINVAL of the files of one that has ended while
    they were being opened, and of one that nobody has waited for yet.
    """
    if isinstance(error, _ENDED):
        return True
    try:
        state, _ = _state_and_parent(pid)
    except _ENDED:
        return True
    return state in ('Z', 'X')


@functools.cache
def _may_see_all() -> bool:
    """Whether no more right would help: CAP_SYS_PTRACE over all users."""
    whole = _read('self/uid_map').split() == ['0', '0', str(2**32 - 1)]
    (mask,) = re.findall(
        r'^CapEff:\s+(\w+)$', _read('self/status'), re.MULTILINE
    )
    return whole and bool(int(mask, 16) & 1 << _CAP_SYS_PTRACE)


def _number(text: str) -> int:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError('not the number of a device')
    return os.makedev(int(found[1]), int(found[2]))


def plain(text: str) -> str:
    """A word of a list of the kernel, without its escapes of blanks."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
