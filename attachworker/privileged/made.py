# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What this helper has made, and earlier ones since the host was started.

The journal says so, too, but it is the worker's: somebody who has taken over
the worker could claim there what he likes. These notes are where only root
can write, and a new helper finds those of one that was killed. They are in
memory, and go with a reboot, as what they are about does.

A note that got lost, or that an older version did not make, costs little: the
thing then counts as somebody else's, see
:mod:`attachworker.privileged.removals`.
"""

import errno
import functools
import os
import pathlib
import stat

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

PLACE = pathlib.Path('/run/attachworker-helper')
#: How the notes of mounts begin.
_MOUNT = 'mount-'
BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')


def note(directory: pathlib.Path) -> None:
    """Write down that something was made here; it is there.

    :param directory: of the thing in sysfs, or a link to it
    """
    try:
        path = _path(os.stat(directory).st_ino)
        prepare()
        _sweep()
        path.write_text(f'{directory}\n', encoding='utf-8')
    except OSError as error:
        LOG.warning(
            'It cannot be noted that %s was made by attachworker (%s): by '
            'force it can only be removed with option '
            'allow_forced_foreign_detach',
            directory,
            error,
        )


def has(instance: int | str) -> bool:
    """Whether something was made here.

    :param instance: the inode number of its directory in sysfs, which the
        kernel gives to nothing that comes later
    :raises OSError: nobody knows
    """
    try:
        _check_place()
        return stat.S_ISREG(os.lstat(_path(instance)).st_mode)
    except FileNotFoundError:
        return False


def prepare() -> None:
    """Make the directory of all notes, if it is not there.

    :raises OSError: it cannot be made, or others may write there
    """
    PLACE.mkdir(mode=0o700, exist_ok=True)
    _check_place()


def note_mount(key: str, point: str) -> None:
    """Write down that something was mounted here.

    :param key: of the mount; unlike that of a thing in sysfs, a later mount
        may have it. So who takes the mount away forgets it.
    :raises OSError: it cannot be written down
    """
    prepare()
    _path(f'{_MOUNT}{key}').write_text(f'{point}\n', encoding='utf-8')


def has_mount(key: str) -> bool:
    """Whether something was mounted here.

    :raises OSError: nobody knows
    """
    return has(f'{_MOUNT}{key}')


def forget_mount(key: str) -> None:
    """It is mounted no more."""
    _path(f'{_MOUNT}{key}').unlink(missing_ok=True)


def _path(instance: int | str) -> pathlib.Path:
    return PLACE / f'{_boot_id()}.{instance}'


@functools.cache
def _boot_id() -> str:
    return BOOT_ID.read_text(encoding='ascii').strip()


def _check_place() -> None:
    """:raises PermissionError: somebody else may have written there"""
    found = os.lstat(PLACE)
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise PermissionError(
            errno.EPERM, f'{PLACE} does not belong to root alone; remove it'
        )


@functools.cache
def _sweep() -> None:
    """Forget what is gone; once is enough for one process."""
    for path in PLACE.iterdir():
        boot, _, instance = path.name.rpartition('.')
        if boot == _boot_id() and instance.startswith(_MOUNT):
            continue
        directory = path.read_text(encoding='utf-8').rstrip('\n')
        try:
            there = str(os.stat(directory).st_ino) == instance
        except FileNotFoundError:
            there = False
        if not there or boot != _boot_id():
            path.unlink(missing_ok=True)
