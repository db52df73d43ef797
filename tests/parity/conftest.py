# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""os-brick and a worker on this kernel, side by side."""

from collections.abc import Iterator
import os
import pathlib

import pytest

from tests import harness
from tests.kernel import bed as kernel_bed
from tests.parity import sides
from tests.peer import process

_ISCSID_CONF = pathlib.Path('/etc/iscsi/iscsid.conf')
#: For the records that os-brick makes: as they come, a portal that is dead
#: takes it six minutes.
_LESS_PATIENT = """
node.session.initial_login_retry_max = 1
node.conn[0].timeo.login_timeout = 3
"""


@pytest.fixture(scope='session')
def bed() -> Iterator[kernel_bed.KernelBed]:
    if 'LAB_INSIDE' not in os.environ:
        pytest.skip('python -m tests.kernel.lab run -- pytest tests/parity')
    made = kernel_bed.KernelBed()
    yield made
    made.close()


@pytest.fixture(scope='session')
def peer(bed: kernel_bed.KernelBed) -> Iterator[process.Peer]:
    with open(_ISCSID_CONF, 'a', encoding='utf-8') as file:
        file.write(_LESS_PATIENT)
    with process.Peer() as running:
        yield running


@pytest.fixture(scope='session')
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    options = {'login_timeout': 3, 'scan_attempts': 2}
    with harness.Harness(bed, iscsi=options) as running:
        yield running


@pytest.fixture
def both(peer: process.Peer, worker: harness.Harness) -> list[sides.Side]:
    return [sides.OSBrick(peer), sides.AttachWorker(worker)]
