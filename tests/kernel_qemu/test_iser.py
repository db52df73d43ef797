# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSER, over RoCE in software.

iSER is iSCSI that moves its data by remote direct memory access (RDMA). The
kernel's ``rdma_rxe`` makes an RDMA device of a network device, and speaks
RoCE, which is RDMA in UDP packets. It must be a device other than loopback:
for that, the kernel's connection manager finds no route.
"""

from collections.abc import Iterator
import dataclasses
import ipaddress
import os
import pathlib
import subprocess
import time

import pytest
import rtslib_fb

from tests import harness
from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel import lio

pytestmark = pytest.mark.kernel

#: Of a network that nobody has.
ADDRESS = '192.0.2.1'


def run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


@pytest.fixture
def rdma() -> Iterator[None]:
    """An RDMA device that reaches this machine at ADDRESS."""
    if 'LAB_INSIDE' not in os.environ:
        pytest.skip('LAB_KERNEL=qemu tools/test.sh kernel tests/kernel_qemu')
    run('modprobe', '-a', 'rdma_rxe', 'ib_iser', 'ib_isert', 'dummy')
    run('ip', 'link', 'add', 'rdma0', 'type', 'dummy')
    run('ip', 'address', 'add', f'{ADDRESS}/24', 'dev', 'rdma0')
    run('ip', 'link', 'set', 'rdma0', 'up')
    run('rdma', 'link', 'add', 'rxe0', 'type', 'rxe', 'netdev', 'rdma0')
    # The kernel goes on by itself; pytest-timeout ends a wait in vain.
    while not knows_address():
        time.sleep(0.05)
    yield
    run('rdma', 'link', 'delete', 'rxe0')
    run('ip', 'link', 'delete', 'rdma0')


def knows_address() -> bool:
    """Whether the RDMA device has it among its own (GIDs)."""
    wanted = ipaddress.ip_address(f'::ffff:{ADDRESS}').exploded
    table = pathlib.Path('/sys/class/infiniband/rxe0/ports/1/gids')
    # It has 1024 lines, filled from the top.
    return any(
        (table / str(n)).read_text().strip() == wanted for n in range(8)
    )


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


def offer_iser(volume: contract.Volume) -> contract.Volume:
    """The same volume at a portal that takes both TCP and RDMA."""
    target = rtslib_fb.Target(
        rtslib_fb.FabricModule('iscsi'), volume.target, mode='lookup'
    )
    (group,) = target.tpgs
    portal = rtslib_fb.NetworkPortal(group, ADDRESS, lio.PORT, mode='create')
    portal.iser = True
    assert portal.iser
    return dataclasses.replace(volume, portals=(lio.portal(ADDRESS),))


def drivers() -> list[str]:
    """The kernel's driver of each session's SCSI host."""
    return [
        (host / 'proc_name').read_text().strip()
        for host in pathlib.Path('/sys/class/scsi_host').iterdir()
        if list((host / 'device').glob('session*'))
    ]


@pytest.mark.usefixtures('rdma')
def test_a_volume_is_attached_through_iser(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a portal where TCP would work too
    before = bed.snapshot()
    volume = offer_iser(bed.create_volume())

    # When a request asks for iSER
    info = volume.connection_info() | {'driver_volume_type': 'iser'}
    result = worker.attach(volume, connection_info=info)

    # Then the data comes that way
    assert result.status == 'attached', result.as_dict()
    assert drivers() == ['iscsi_iser']
    path = result.device.path
    assert bed.read(path) == volume.pattern
    bed.write(path, b'attached', offset=8192)
    assert bed.read(path, 8, offset=8192) == b'attached'

    # And a detach leaves nothing
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert drivers() == []
    assert bed.snapshot() == before
