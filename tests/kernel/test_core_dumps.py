# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""No core dumps of a worker that has changed its user.

systemd-coredump and apport have the kernel hand them the memory also of
processes that have changed their user (``fs.suid_dumpable`` is 2).
"""

from collections.abc import Iterator
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel

SUID_DUMPABLE = pathlib.Path('/proc/sys/fs/suid_dumpable')
#: linux/prctl.h
_PR_GET_DUMPABLE = 3

#: Starts its helpers as the worker does; says whether it may be dumped.
_WORKER = f"""
import ctypes
from oslo_config import cfg
from attachworker.privileged import process
cfg.CONF([], project='attachworker')
process.forbid_core_dumps()
process.start('nobody')
print(ctypes.CDLL(None).prctl({_PR_GET_DUMPABLE}, 0, 0, 0, 0))
"""


@pytest.fixture
def dumpable() -> Iterator[None]:
    before = SUID_DUMPABLE.read_text()
    SUID_DUMPABLE.write_text('2')
    yield
    SUID_DUMPABLE.write_text(before)


def test_a_worker_that_has_changed_its_user(dumpable: None) -> None:
    told = subprocess.run(
        [sys.executable, '-c', _WORKER],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    assert told.splitlines()[-1] == '0'
