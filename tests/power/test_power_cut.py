# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The power fails: the guest is killed, and boots again on the same disk.

The disk is an image with ext4 in it, mounted through a loop device. What the
first guest had not written to it with fsync was in the memory of its kernel
and is gone with that. So a commit of the journal that is not synchronized
shows here. This does not show what a disk does that lies about its cache: the
memory of the machine that the guests run on survives, and so does what has got
there.
"""

import os
import pathlib
import subprocess

import pytest

from tests.kernel import guest
from tests.kernel import machines
from tests.power import DISK
from tests.power import READY

_MEMORY = '1G'
#: Seconds that a guest has, see :meth:`tests.kernel.guest.Guest.wait_for`.
_PATIENCE = 400.0
_DISK_SIZE = 64 * 1024 * 1024


def boot(results: pathlib.Path, *command: str) -> guest.Guest:
    wanted = machines.candidates(os.environ.get('LAB_KERNEL', ''))
    return machines.boot(wanted, list(command), results, _MEMORY)


@pytest.mark.timeout(0)  # each guest has a limit of its own
def test_power_cut(tmp_path: pathlib.Path) -> None:
    # Given a host with requests of every kind in flight
    disk = tmp_path / DISK
    with open(disk, 'wb') as image:
        image.truncate(_DISK_SIZE)
    subprocess.run(['mkfs.ext4', '-q', '-F', disk], check=True)
    first = boot(tmp_path, 'python', '-m', 'tests.power.first_boot')
    try:
        ready = tmp_path / READY
        assert first.wait_for(ready.exists, _PATIENCE), 'it hangs'
        assert ready.exists(), 'it has ended by itself'
    finally:
        # When its power is cut
        first.close()
    # Then the next boot brings all of them to their one end
    second = boot(
        tmp_path,
        *('python', '-m', 'pytest', '-p', 'no:cacheprovider'),
        *('--timeout', '0', 'tests/power/second_boot.py'),
    )
    try:
        assert second.wait_for(lambda: False, _PATIENCE), 'it hangs'
        assert second.wait(_PATIENCE) == 0
    finally:
        second.close()
