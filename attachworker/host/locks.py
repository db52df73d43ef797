# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Locks that give up at a deadline: by name, and those of other programs."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import stat
import threading

from attachworker import deadline as deadlines
from attachworker import exception


class NamedLocks:
    """One lock a name, made when wanted and forgotten when free."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held: set[str] = set()

    @contextlib.contextmanager
    def hold(self, name: str, deadline: deadlines.Deadline) -> Iterator[None]:
        """Own the lock for the length of a with block.

        :raises DeadlineExceeded: others held it until then
        """
        with self._condition:
            free = self._condition.wait_for(
                lambda: name not in self._held, deadline.remaining()
            )
            if not free:
                raise exception.DeadlineExceeded(step=f'lock {name}')
            self._held.add(name)
        try:
            yield
        finally:
            with self._condition:
                self._held.discard(name)
                self._condition.notify_all()


#: Seconds between two attempts to get a lock that another process has.
_INTERVAL = 0.05
#: Seconds in which another process can get a lock that this one has had for
#: long: those who use oslo.concurrency look every 0.1 s.
_PAUSE = 0.25


@dataclasses.dataclass(eq=False)
class _Holder:
    """An operation that holds the lock files.

    :ivar since: seconds since boot
    :ivar lasting: whether it holds them however long it takes
    """

    since: float
    lasting: bool


class FileLocks:
    """Lock files as oslo.concurrency has them, one in each directory.

    They are held once for all operations of this process together: these
    exclude each other by finer locks, and POSIX locks belong to a process
    anyway. They cover all storage of the host, so an operation that is stuck
    must not hold them for as long as it is.

    :param name: of the file
    :param directories: the ``lock_path`` of each of the other programs
    :param max_turn: seconds that one operation holds the locks; after so many,
        operations that want to join those that hold them have to let other
        processes go first
    """

    def __init__(
        self, name: str, directories: Sequence[str], max_turn: float = 10.0
    ) -> None:
        self._max_turn = max_turn
        self._paths = [os.path.join(each, name) for each in directories]
        self._changed = threading.Condition()
        self._holders: list[_Holder] = []
        self._taking = False
        self._since = 0.0
        self._pause_until = 0.0
        self._files: list[int] = []

    def unavailable(self) -> str | None:
        """Why one of the locks cannot be used, and what to do."""
        for path in self._paths:
            directory, name = os.path.split(path)
            if not os.path.isdir(directory):
                return (
                    f'os_brick_lock_paths: there is no directory {directory}; '
                    'name the lock_path of a service that uses os-brick'
                )
            try:
                with _trusted(directory) as place:
                    _check_kind(place, name)
            except OSError as error:
                return f'os_brick_lock_paths: {path}: {error.strerror}'
            if not os.access(
                path if os.path.exists(path) else directory, os.W_OK
            ):
                return (
                    f'os_brick_lock_paths: this process may not write {path}; '
                    'let the user of the worker write to it, by a group that '
                    'it shares with the service'
                )
        return None

    @contextlib.contextmanager
    def hold(
        self, deadline: deadlines.Deadline, lasting: bool = False
    ) -> Iterator[None]:
        """Own all of them for the length of a with block.

        One that takes longer than ``max_turn`` goes on without them, unless it
        is lasting: where others would be harmed. It does not keep others of
        this process from them even so.

        :raises DeadlineExceeded: another process had one of them until then
        :raises HostToolFailed: one of them cannot be opened
        """
        if not self._paths:
            yield
            return
        holder = self._join(deadline, lasting)
        # Nothing else runs in time where the operation itself is stuck.
        timer = threading.Timer(self._max_turn, self._end_turn, (holder,))
        timer.daemon = True
        with contextlib.suppress(RuntimeError, MemoryError):
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._changed:
                self._leave(holder)

    def _join(self, deadline: deadlines.Deadline, lasting: bool) -> _Holder:
        """Hold the locks with those who do, or take them."""
        with self._changed:
            free = self._changed.wait_for(
                lambda: not self._taking and not self._overdue(),
                deadline.remaining(),
            )
            if not free:
                raise exception.DeadlineExceeded(step=f'lock {self._paths[0]}')
            if self._holders:
                joined = _Holder(deadlines.now(), lasting)
                self._holders.append(joined)
                return joined
            self._taking = True
        files: list[int] = []
        try:
            self._wait(self._pause_until - deadlines.now(), deadline)
            for path in self._paths:
                files.append(_opened(path))
                self._lock(files[-1], path, deadline)
        except BaseException:
            _close(files)
            with self._changed:
                self._taking = False
                self._changed.notify_all()
            raise
        with self._changed:
            self._taking = False
            self._files, self._since = files, deadlines.now()
            first = _Holder(self._since, lasting)
            self._holders.append(first)
            self._changed.notify_all()
            return first

    def _end_turn(self, holder: _Holder) -> None:
        """An operation has had the locks for as long as it may."""
        with self._changed:
            if not holder.lasting:
                self._leave(holder)
            self._changed.notify_all()

    def _leave(self, holder: _Holder) -> None:
        if holder not in self._holders:
            return
        turn_is_over = self._is_over(self._since)
        self._holders.remove(holder)
        if not self._holders:
            if turn_is_over:
                self._pause_until = deadlines.now() + _PAUSE
            _close(self._files)
            self._files = []
            self._changed.notify_all()

    def _overdue(self) -> bool:
        """Whether it is the turn of other processes.

        As long as there is one that is stuck with the locks they cannot have
        them, and nobody need wait for that.
        """
        return (
            bool(self._holders)
            and self._is_over(self._since)
            and not any(self._is_over(one.since) for one in self._holders)
        )

    def _is_over(self, since: float) -> bool:
        return deadlines.now() - since > self._max_turn

    def _lock(
        self, descriptor: int, path: str, deadline: deadlines.Deadline
    ) -> None:
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if deadline.passed:
                    raise exception.DeadlineExceeded(
                        step=f'lock {path}'
                    ) from error
            self._wait(_INTERVAL, deadline)

    @staticmethod
    def _wait(seconds: float, deadline: deadlines.Deadline) -> None:
        if seconds > 0:
            # nothing tells when another process lets go
            threading.Event().wait(min(seconds, deadline.remaining()))


def _opened(path: str) -> int:
    """Open a lock file; a new one belongs to the owner of its directory.

    Otherwise a service that runs as somebody else could not use its own. That
    user could put a link there: root would make what it leads to, and give it
    to him.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    # A pipe would keep whoever opens it.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    directory, name = os.path.split(path)
    try:
        with _trusted(directory) as place:
            try:
                descriptor = os.open(
                    name, flags | os.O_CREAT | os.O_EXCL, 0o660, dir_fd=place
                )
            except FileExistsError:
                _check_kind(place, name)
                return os.open(name, flags, dir_fd=place)
            # Whatever the umask: the other program has to open it, too.
            os.fchmod(descriptor, 0o660)
            owner = os.fstat(place)
            user = owner.st_uid if os.geteuid() == 0 else -1
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, user, owner.st_gid)
    except OSError as error:
        raise exception.HostToolFailed(
            what=f'Lock file {path}', reason=error.strerror or str(error)
        ) from error
    return descriptor


@contextlib.contextmanager
def _trusted(directory: str) -> Iterator[int]:
    """A descriptor of a directory that no stranger can have put there.

    Above it, whoever may rename what is in a directory decides what its name
    leads to. So all belong to root, to the service whose directory it is, or
    to this process, and not everybody may write there, unless none may touch
    what is another's (the sticky bit). Whom a group has is up to the operator.

    :raises PermissionError: one of them is not so; its text says what to do
    """
    place = os.path.realpath(directory)
    trusted = {0, os.geteuid(), os.stat(place).st_uid}
    # From the top: nobody can change any more what was looked at.
    for each in (*map(str, reversed(pathlib.PurePath(place).parents)), place):
        found = os.lstat(each)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(
                errno.ENOTDIR, f'{each} is no directory any more'
            )
        if found.st_uid not in trusted:
            raise PermissionError(
                errno.EACCES,
                f'directory {each} belongs to user {found.st_uid}, who could '
                'put another one in its place; have it belong to root or to '
                'the service (chown)',
            )
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise PermissionError(
                errno.EACCES,
                f'everybody may write to directory {each}, and put what they '
                f'want in place of the lock file; chmod o-w {each}',
            )
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_kind(place: int, name: str) -> None:
    """Refuse what is there in place of a lock file.

    :param place: a descriptor of its directory
    :raises OSError: its text says what to do
    """
    try:
        mode = os.lstat(name, dir_fd=place).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise OSError(
            errno.ELOOP,
            'it is a symbolic link, which is not followed; remove it, and '
            'have os_brick_lock_paths name the directory of the lock file '
            'itself',
        )
    if not stat.S_ISREG(mode):
        raise OSError(
            errno.EINVAL, 'it is no regular file; remove what is there'
        )


def _close(files: list[int]) -> None:
    for descriptor in files:
        os.close(descriptor)
