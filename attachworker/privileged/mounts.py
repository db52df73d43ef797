# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Shares of files: mounted below one directory, looked into, and unmounted.

Where that directory is the helper reads by itself, from the configuration
that it was started with. All is done in the host's own namespace of mounts,
in a thread that ends with the verb: what the namespace of the worker has
(PrivateMounts of systemd), nobody else would see.

A share is mounted where nobody but the tool sees it, and appears at its place
in one call, as a whole: a crash in between leaves nothing, and no name of a
directory, which may be another's by then, is handed to a tool. Everything
else is done with what is open, and no symbolic link is followed.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import hashlib
import os
import pathlib
import re
import stat
from typing import TypeVar

from oslo_config import cfg

from attachworker import privileged
from attachworker.conf import nfs
from attachworker.privileged import loop
from attachworker.privileged import made
from attachworker.privileged import names
from attachworker.privileged import namespaces
from attachworker.privileged import processes
from attachworker.privileged import roots
from attachworker.privileged import status
from attachworker.privileged import tools

T = TypeVar('T')

cfg.CONF.register_opts([nfs.MOUNT_POINT_BASE], group=nfs.GROUP)

TABLE = pathlib.Path('/proc/1/mountinfo')
SWAPS = pathlib.Path('/proc/swaps')

_directory = names.rule(r'[0-9a-f]{32}', 'the directory of a share')
_file = names.rule(
    r'[0-9A-Za-z_][0-9A-Za-z._@%+=~:-]{0,254}', 'the name of a file'
)
#: What no share may bring to the host, whatever is asked for.
_ALWAYS = ('nosuid', 'nodev', 'noexec')
_COUNT = '[0-9]{1,9}'


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How one kind of share is mounted.

    :ivar types: what the kernel calls its file systems
    :ivar tool: that mounts it
    :ivar always: what the tool is told beside the options
    :ivar source: what a share is called
    :ivar options: that a mount may have
    """

    types: frozenset[str]
    tool: str
    always: tuple[str, ...]
    source: Callable[[str], str]
    option: Callable[[str], str]


_KINDS = {
    'nfs': _Kind(
        types=frozenset(('nfs', 'nfs4')),
        tool='mount.nfs',
        # It tries once: whoever asks for the mount may ask again.
        always=('retry=0',),
        source=names.rule(
            r'(?=.{1,1024}\Z)'
            r'(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z._-]*)'
            r':/(?!(?:.*/)?\.\.(?:/|\Z))[0-9A-Za-z._/@%+=~:-]*',
            'a share of NFS',
        ),
        option=names.rule(
            r'(?:nfs)?vers=(?:3|4|4\.[0-2])|minorversion=[0-2]|mountvers=3'
            r'|(?:mount)?proto=tcp6?|(?:mount)?port=[0-9]{1,5}'
            r'|nconnect=[0-9]{1,2}|sec=(?:sys|krb5[ip]?)'
            r'|local_lock=(?:all|flock|posix|none)'
            r'|lookupcache=(?:all|pos|positive|none)'
            rf'|(?:timeo|retrans|[rw]size|ac(?:reg|dir)(?:min|max)|actimeo)'
            rf'={_COUNT}'
            r'|hard|soft|softerr|rw|ro|sync|async|(?:no)?(?:ac|cto|lock|acl)'
            r'|(?:no)?(?:rdirplus|resvport|sharecache)'
            r'|noatime|nodiratime|relatime|nosuid|nodev|noexec',
            'an option of a mount of NFS',
        ),
    )
}


@privileged.default.entrypoint
def mount(
    kind: str, share: str, options: list[str], timeout: float
) -> tuple[int, str]:
    """Mount a share in the directory that is called after it.

    :param timeout: seconds after which the tool is killed
    :returns: exit code and output of the tool
    :raises FileNotFoundError: the tool, or the directory for mounts, is not
        there; its text says what
    :raises TimeoutError: the tool was killed
    :raises OSError: EEXIST: there is something mounted already
    """
    known = _known(kind)
    known.source(share)
    given = [known.option(option) for option in options]
    directory = hashlib.md5(share.encode(), usedforsecurity=False).hexdigest()
    line = ','.join(dict.fromkeys((*given, *known.always, *_ALWAYS)))

    def body() -> tuple[int, str]:
        namespaces.enter_private()
        made.prepare()
        namespaces.cover(str(made.PLACE), 'mode=0700,size=1m')
        place = made.PLACE / 'share'
        place.mkdir(mode=0o700)
        # -n: it is written down nowhere that it was mounted there
        code, output, errors = tools.run(
            known.tool,
            share,
            str(place),
            '-n',
            '-o',
            line,
            timeout=timeout,
        )
        if code != 0:
            return code, errors or output
        tree = namespaces.taken(str(place))
        try:
            namespaces.enter_host()
            _put(tree, kind, directory)
        finally:
            os.close(tree)
        return code, output

    return namespaces.in_own_thread(body)


def _put(tree: int, kind: str, directory: str) -> None:
    """Have a share appear at its place."""
    with _base(kind) as base:
        if _mounted(kind, directory) is not None:
            raise _occupied(kind, directory)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, mode=0o755, dir_fd=base)
        try:
            with roots.found(directory, os.O_DIRECTORY, base) as place:
                namespaces.put(tree, place)
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(directory, dir_fd=base)
            raise
        found = _mounted(kind, directory)
        if found is None:
            return  # somebody has taken it away already
        try:
            made.note_mount(_key(found), found.point)
        except OSError:
            # Without a note nobody may take it away later.
            os.fchdir(base)
            namespaces.unmount(directory, lazy=True)
            raise


@privileged.default.entrypoint
def unmount(kind: str, directory: str, lazy: bool) -> None:
    """Take a share away that was mounted here, and its empty directory.

    :param directory: the name of that
    :param lazy: also if somebody uses it, who goes on with it
    :raises OSError: EBUSY: somebody uses it; ENODEV: it is not mounted; EPERM:
        it was not mounted here
    """
    _directory(directory)
    _known(kind)

    def body() -> None:
        with _base(kind) as base:
            found = _share(kind, directory)
            if not made.has_mount(_key(found)):
                raise PermissionError(
                    errno.EPERM,
                    f'{found.point} was not mounted by attachworker',
                )
            # Neither a name, for it may lead elsewhere by now, nor a
            # descriptor, which would be one of its users.
            os.fchdir(base)
            namespaces.unmount(directory, lazy)
            made.forget_mount(_key(found))
            # somebody else may have put something there
            with contextlib.suppress(OSError):
                os.rmdir(directory, dir_fd=base)

    _in_host(body)


@privileged.default.entrypoint
def inspect(kind: str, directory: str, name: str, fresh: bool) -> list[int]:
    """Inode and size, in bytes, of a file of a share.

    :param fresh: ask the server, and not what this host remembers
    :raises OSError: ENOENT: there is no such file; ENODEV: the share is not
        mounted; EPERM: it is no regular file
    """

    def look(place: int, mounted: processes.Mount) -> list[int]:
        how = status.FRESH if fresh else status.CACHED
        found = _regular(place, name, how, mounted)
        return [found.ino, found.size]

    return _in_share(kind, directory, name, look)


@privileged.default.entrypoint
def flush(kind: str, directory: str, name: str) -> None:
    """Have a server keep what this host has written to a file.

    Where root may not open the file (root_squash), all of the share is
    written.

    :raises OSError: see :func:`inspect`; or it cannot be written
    """

    def write(place: int, mounted: processes.Mount) -> None:
        _regular(place, name, status.FRESH, mounted)
        with roots.found(name, 0, place) as file:
            if not stat.S_ISREG(status.of(file, status.CACHED).mode):
                raise _not_regular(name, mounted)
            try:
                with _reopened(file, os.O_RDONLY) as descriptor:
                    os.fsync(descriptor)
                return
            except PermissionError:
                pass
        with _reopened(place, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            namespaces.sync(descriptor)

    _in_share(kind, directory, name, write)


@privileged.default.entrypoint
def users(
    kind: str, directory: str, name: str, inode: int | None
) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[str]]:
    """Who uses a file of a share; its server is not asked.

    :param inode: of the file; None: nobody knows, and the name has to do
    :returns: pid and command of who has it open, and of those processes that
        a security module keeps even from who may look at all; and what the
        kernel has it open for
    :raises OSError: nobody knows; ENODEV: the share is not mounted
    """
    _directory(directory)
    _file(name)
    if inode is not None:
        names.number(inode, 2**64 - 1, 'an inode')
    found = _share(kind, directory)
    major, _, minor = found.number.partition(':')
    device = os.makedev(int(major), int(minor))
    uses, hidden = processes.users_of_file(device, inode, name)
    kernel = [
        f'loop device {one}'
        for one, (number, its_inode, path) in loop.files().items()
        if number == device
        and (
            os.path.basename(path) == name
            if inode is None
            else its_inode == inode
        )
    ]
    kernel += [
        f'swap on {path}'
        for path in processes.parsed_swaps(
            SWAPS.read_text(encoding='utf-8', errors='surrogateescape')
        )
        if path == f'{found.point}/{name}'
    ]
    return uses, hidden, kernel


# -- the mount


def _known(kind: str) -> _Kind:
    """:raises PermissionError: there is no directory for mounts"""
    if kind not in _KINDS:
        raise ValueError('not a kind of share')
    _base_of(kind)
    return _KINDS[kind]


def _base_of(kind: str) -> str:
    """The directory for mounts, as the operator has it.

    :raises PermissionError: there is none
    """
    found: str | None = cfg.CONF[kind].mount_point_base
    if not found:
        raise PermissionError(
            errno.EPERM,
            f'the privileged helper knows of no mount_point_base of group '
            f'[{kind}]: if there is a helper_command, give it the '
            '--config-file of the worker',
        )
    return os.path.normpath(found)


@contextlib.contextmanager
def _base(kind: str) -> Iterator[int]:
    with roots.found(_base_of(kind), os.O_DIRECTORY) as place:
        yield place


def _mounted(kind: str, directory: str) -> processes.Mount | None:
    """What the host has mounted in a directory; the last one covers others."""
    point = f'{_base_of(kind).rstrip("/")}/{directory}'
    table = TABLE.read_text(encoding='utf-8', errors='replace')
    found = None
    for one in processes.parsed_mounts(table):
        if one.point == point:
            found = one
    return found


def _share(kind: str, directory: str) -> processes.Mount:
    """The mount of a share of a kind.

    :raises OSError: ENODEV: there is none; EEXIST: there is another one
    """
    found = _mounted(kind, directory)
    if found is None:
        raise OSError(errno.ENODEV, f'no share is mounted in {directory}')
    if found.kind not in _known(kind).types:
        raise _occupied(kind, directory)
    return found


def _occupied(kind: str, directory: str) -> OSError:
    return FileExistsError(
        errno.EEXIST,
        f'something is mounted on {_base_of(kind)}/{directory} already',
    )


def _key(found: processes.Mount) -> str:
    return f'{found.identifier}-{re.sub(":", "-", found.number)}'


def _in_host(body: Callable[[], T]) -> T:
    def entered() -> T:
        namespaces.enter_host()
        return body()

    return namespaces.in_own_thread(entered)


# -- its files


def _in_share(
    kind: str,
    directory: str,
    name: str,
    look: Callable[[int, processes.Mount], T],
) -> T:
    """Call something with the directory of a share, and its mount."""
    _directory(directory)
    _file(name)
    _known(kind)

    def body() -> T:
        with (
            _base(kind) as base,
            roots.found(directory, os.O_DIRECTORY, base) as place,
        ):
            mounted = _share(kind, directory)
            if _number(status.of(place, status.CACHED)) != mounted.number:
                raise OSError(errno.ENODEV, f'{mounted.point} is gone')
            return look(place, mounted)

    return _in_host(body)


def _regular(
    place: int, name: str, how: int, mounted: processes.Mount
) -> status.Status:
    """What a file is; a link is not followed.

    By its name: of what is open, and was made anew on the server, the kernel
    knows only that it is stale.

    :raises PermissionError: it is no regular file, or one of another share
    """
    found = status.Status()
    status.read(name, found, how | status.NO_FOLLOW, place)
    if not stat.S_ISREG(found.mode) or _number(found) != mounted.number:
        raise _not_regular(name, mounted)
    return found


def _not_regular(name: str, mounted: processes.Mount) -> PermissionError:
    return PermissionError(
        errno.EPERM, f'{name} is no regular file of {mounted.source}'
    )


def _number(found: status.Status) -> str:
    return f'{found.dev_major}:{found.dev_minor}'


@contextlib.contextmanager
def _reopened(place: int, flags: int) -> Iterator[int]:
    descriptor = os.open(f'/proc/self/fd/{place}', flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
