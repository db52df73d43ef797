# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is seen of the processes of this machine."""

import errno
import os
import pathlib
import subprocess

import pytest

from attachworker.privileged import processes

#: Of no device that a machine has.
NUMBER = '4095:1048575'
#: Above the kernel's highest one.
NO_PROCESS = 4194305


@pytest.mark.parametrize(
    'number', ['', '8', '8:', ':0', '8:0:0', '8:-1', '8:0\n', 'sda', '../8:0']
)
def test_hostile_numbers(number: str) -> None:
    with pytest.raises(ValueError, match='not the number'):
        processes.users({number: []})


as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason='only root may look at all processes'
)


@as_root
def test_nobody_uses_what_is_not_there() -> None:
    uses, _ = processes.users({NUMBER: ['/dev/sdzzzz']})
    assert uses == []


@as_root
def test_a_mount_is_known_by_what_it_calls_its_device() -> None:
    """btrfs has numbers that are no device's."""
    # Given the file system of some mount point
    table = pathlib.Path('/proc/1/mountinfo').read_text(encoding='utf-8')
    *_, mount = processes.parsed_mounts(table)
    uses, _ = processes.users({NUMBER: [mount.source]})
    assert (NUMBER, 1, mount.point) in {
        (number, pid, where) for number, pid, _, where in uses
    }


def test_names_are_plain() -> None:
    assert processes.plain('/mnt/a\\040b\\134c') == '/mnt/a b\\c'


def test_what_a_process_has_open(tmp_path: pathlib.Path) -> None:
    # Given that some files are no devices, and one is gone
    with open(tmp_path / 'file', 'xb'):
        (tmp_path / 'file').unlink()
        assert list(processes._open_devices(os.getpid())) == []


@pytest.mark.parametrize(
    'number', [errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EINVAL]
)
def test_a_process_that_has_ended_uses_nothing(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert processes._has_ended(NO_PROCESS, error)
    # And so does one that nobody has waited for
    with subprocess.Popen(['true'], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes._has_ended(process.pid, error)


@pytest.mark.parametrize(
    'number', [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.EIO]
)
def test_a_process_that_cannot_be_looked_at_may_use_it(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert not processes._has_ended(os.getpid(), error)
