# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A helper that was killed while a thread of it is in the kernel."""

from collections.abc import Iterator
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from attachworker.privileged import process
from tests.kernel.bed import KernelBed
from tests.kernel.test_users import run

pytestmark = pytest.mark.kernel

#: linux/fs.h
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878

#: Holds a lock, and has a thread of it write to a file.
_HELPER = """
import sys, threading, time
from attachworker import privileged
from attachworker.privileged import process
privileged.default.set_client_mode(False)
process.hold(sys.argv[1])
threading.Thread(target=lambda: open(sys.argv[2], 'w').close()).start()
print(flush=True)
time.sleep(600)
"""


class Frozen:
    """A file system that lets whoever writes to it wait, in state D."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._image = directory / 'image'
        self.place = directory / 'mounted'
        self.place.mkdir()
        with open(self._image, 'xb') as file:
            file.truncate(16 << 20)
        run('mkfs.ext4', '-q', '-F', str(self._image))
        run('mount', '-o', 'loop', str(self._image), str(self.place))
        self._directory = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(self._directory, _FIFREEZE, 0)
        self._thawed = False

    def thaw(self) -> None:
        if not self._thawed:
            fcntl.ioctl(self._directory, _FITHAW, 0)
            os.close(self._directory)
            self._thawed = True

    def close(self) -> None:
        self.thaw()
        run('umount', str(self.place))


@pytest.fixture
def frozen(tmp_path: pathlib.Path, bed: KernelBed) -> Iterator[Frozen]:
    made = Frozen(tmp_path)
    yield made
    made.close()


def states(pid: int) -> set[str]:
    """What the threads of a process do; empty if it has ended."""
    found = set()
    for path in pathlib.Path(f'/proc/{pid}/task').glob('*/stat'):
        found.add(path.read_text().rpartition(')')[2].split()[0])
    return found


def test_the_lock_of_a_killed_helper_is_free_when_the_kernel_is_done(
    frozen: Frozen, tmp_path: pathlib.Path
) -> None:
    # Given a helper with a thread in the kernel, in state D
    lock = tmp_path / process.LOCK
    lock.touch()
    with (
        subprocess.Popen(
            [sys.executable, '-c', _HELPER, lock, frozen.place / 'made'],
            stdout=subprocess.PIPE,
        ) as helper,
        open(lock, 'rb') as file,
    ):
        assert helper.stdout is not None
        assert helper.stdout.readline()
        limit = time.monotonic() + 30
        while 'D' not in states(helper.pid):
            assert time.monotonic() < limit, states(helper.pid)
            time.sleep(0.01)
        # When it is killed, and its main thread has ended
        helper.send_signal(signal.SIGKILL)
        while 'Z' not in states(helper.pid):
            assert time.monotonic() < limit, states(helper.pid)
            time.sleep(0.01)
        # Then its lock cannot be had
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # And who waits for it gets it once the verb has had its effect
        thawing = threading.Thread(target=frozen.thaw)
        thawing.start()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (frozen.place / 'made').exists()
        # Before the fixture thaws what is not thawed
        thawing.join()
