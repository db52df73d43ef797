# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether a directory is the worker's own, and whether it is in memory."""

from collections.abc import Iterator
import functools
import os
import pathlib
import stat

from attachworker.privileged import processes

_MOUNTS = '/proc/self/mountinfo'
_IN_MEMORY = ('tmpfs', 'ramfs')
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def faults(
    state_path: str, runtime_path: str, uid: int
) -> Iterator[tuple[str, str]]:
    """The options whose directories are not to be used: each with the reason.

    :param uid: of the user that the worker runs as
    """
    own = functools.partial(not_private, uid=uid)
    for option, path, look in (
        ('state_path', state_path, own),
        ('runtime_path', runtime_path, own),
        ('runtime_path', runtime_path, not_in_memory),
    ):
        try:
            reason = look(path)
        except OSError as error:
            reason = f'{error.filename}: {error.strerror}'
        if reason is not None:
            yield option, reason


def not_private(path: str, uid: int) -> str | None:
    """Why others could put files of theirs into a directory, and what to do.

    Whoever may write to a directory, or to one above it, can put another in
    its place. None: nobody but root and one user can.

    :param path: need not be there yet
    :param uid: of that user
    :raises OSError: it cannot be looked at
    """
    last = os.path.realpath(path)
    for place in _on_the_way(path):
        try:
            found = os.stat(place)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode):
            return f'{place} is no directory'
        if found.st_uid not in (0, uid):
            return (
                f'{place} belongs to user {found.st_uid}, who could put other '
                f'files there; it has to belong to root or to user {uid}'
            )
        # In a sticky one nobody renames or removes what others have made.
        own = place == last or not found.st_mode & stat.S_ISVTX
        if own and found.st_mode & _OTHERS:
            return (
                f'others may write to {place}, and could put files of theirs '
                f'there; chmod go-w {place}'
            )
    return None


def not_in_memory(path: str) -> str | None:
    """Why what a directory has would outlive a reboot; None if it would not.

    :param path: need not be there yet
    :raises OSError: it cannot be looked at
    """
    place = pathlib.Path(os.path.realpath(path))
    while not place.exists():
        place = place.parent
    device = os.stat(place).st_dev
    number = f'{os.major(device)}:{os.minor(device)}'
    table = pathlib.Path(_MOUNTS).read_text(encoding='utf-8', errors='replace')
    for mount in processes.parsed_mounts(table):
        if mount.number == number and mount.kind in _IN_MEMORY:
            return None
    return (
        f'{path} is not in memory (tmpfs), so the key in it would outlive a '
        'reboot on a disk; name a directory below /run, or mount a tmpfs there'
    )


def _on_the_way(path: str) -> Iterator[str]:
    """A directory and all above it, of links also where they are."""
    starts = os.path.realpath(path), os.path.abspath(path)
    for one in map(pathlib.Path, dict.fromkeys(starts)):
        yield from map(str, (one, *one.parents))
