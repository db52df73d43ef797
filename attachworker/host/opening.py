# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Disks that are shown before they can be opened."""

from collections.abc import Callable
import errno
import pathlib
from typing import TypeVar

from attachworker import deadline as deadlines
from attachworker.host import sysfs
from attachworker.host import uevents

T = TypeVar('T')

#: Seconds in which a disk that is shown can be opened.
_PATIENCE = 10.0
#: The states of a device that works, SCSI's and NVMe's; some have none.
_WORKS = ('running', 'live', None)


def once_open(
    root: pathlib.Path,
    events: uevents.UeventMonitor,
    disk: str,
    attempt: Callable[[], T],
    deadline: deadlines.Deadline,
) -> T:
    """What an attempt returns that opens a disk, once the kernel lets it.

    The kernel (6.1, device_add_disk) makes the directory in sysfs and the
    node first, and what open() looks for last; until then it fails with
    ENXIO. The uevent comes after all of that. A third of a second was seen
    between the two on a busy machine.

    :raises OSError: as the attempt does. ENXIO: the disk does not work, is on
        its way out, or cannot be opened after ten seconds
    """
    refusal: OSError | None = None

    def look() -> tuple[T] | None:
        nonlocal refusal
        try:
            return (attempt(),)
        except OSError as error:
            if error.errno != errno.ENXIO or not _works(root, disk):
                raise
            refusal = error
            return None

    def relevant(event: uevents.Uevent) -> bool:
        return (
            event.get('SUBSYSTEM') == 'block'
            and event['DEVPATH'].rpartition('/')[2] == disk
        )

    found = events.wait_for(look, relevant, deadline.sooner(_PATIENCE))
    if found is None:
        assert refusal is not None
        raise refusal
    return found[0]


def _works(root: pathlib.Path, disk: str) -> bool:
    directory = root / 'sys/class/block' / disk
    # The order matters: the whole directory goes after its attributes.
    state = sysfs.read(directory / 'device/state')
    return state in _WORKS and sysfs.exists(directory)
