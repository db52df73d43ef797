# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Nobody waits for storage that does not answer, but who wants a volume of it.

On the simulated host: there everything hangs for as long as a test wants.
"""

from collections.abc import Iterator
import concurrent.futures
import pathlib
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests import harness
from tests.contract.test_multipath import until
from tests.simulator import faults
from tests.simulator.bed import SimulatedBed

#: Seconds that a portal may take to answer: longer than anything here.
_SILENCE = 120
#: Seconds in which what nothing hinders is done, on a busy machine too.
_PATIENCE = 30
#: os-brick's way to take its lock.
_OS_BRICK = """
import sys
import fasteners
lock = fasteners.InterProcessLock(sys.argv[1])
print('got' if lock.acquire(timeout=float(sys.argv[2])) else 'busy')
"""


@pytest.fixture
def bed() -> Iterator[SimulatedBed]:
    bed = SimulatedBed()
    bed.set_multipathd()
    yield bed
    bed.close()


@pytest.fixture
def callers() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        yield pool


def worker(bed: SimulatedBed, **options: Any) -> harness.Harness:
    iscsi = {'login_timeout': _SILENCE, **options.pop('iscsi', {})}
    return harness.Harness(bed, iscsi=iscsi, **options)


def attempts() -> int:
    """How many targets are being connected in this process."""
    return sum(
        one.name.startswith('connect ') for one in threading.enumerate()
    )


@pytest.mark.timeout(180)
def test_many_dead_portals_take_no_thread_from_other_storage(
    bed: SimulatedBed, callers: concurrent.futures.ThreadPoolExecutor
) -> None:
    # Given as many attaches as a storage may have at once, to 16 portals each
    # that do not answer; here all storage has one address
    good = bed.create_volume(portals=2)
    dead = [bed.create_volume(portals=16) for _ in range(8)]
    portals = [portal for volume in dead for portal in volume.portals]
    for portal in portals:
        bed.hang_portal(portal)
    with worker(bed, max_running_per_backend=16) as running:
        waiting = [
            callers.submit(running.attach, volume, multipath=True)
            for volume in dead
        ]
        until(lambda: attempts() >= len(portals))
        # When a volume of another one is attached and detached
        result = running.attach(
            good, multipath=True, deadline_seconds=_PATIENCE
        )
        # Then that does not wait for any of them
        assert result.status == 'attached', result.as_dict()
        assert not result.device.degraded
        result = running.detach(good.name, deadline_seconds=_PATIENCE)
        assert result.status == 'detached', result.as_dict()
        assert not any(one.done() for one in waiting)
        for portal in portals:
            bed.stop_portal(portal)
        for one in waiting:
            assert one.result().error.code == 'target_unreachable'


@pytest.mark.timeout(180)
def test_a_scan_that_is_stuck_keeps_the_lock_of_os_brick_from_nobody(
    bed: SimulatedBed,
    callers: concurrent.futures.ThreadPoolExecutor,
    tmp_path: pathlib.Path,
) -> None:
    # Given a volume whose scan is stuck, with plenty of time left
    bad, good = bed.create_volume(), bed.create_volume()
    before = bed.snapshot()
    options = {'os_brick_lock_paths': [str(tmp_path)]}
    with worker(bed, iscsi=options) as running:
        stuck = bed.arm(faults.Fault.HANG_BEFORE, 'scsi.scan')
        waiting = callers.submit(
            running.attach, bad, deadline_seconds=_SILENCE
        )
        assert stuck.wait()
        # When somebody else on this host uses os-brick
        lock = str(tmp_path / 'os-brick-connect_volume')
        answer = subprocess.run(
            [sys.executable, '-c', _OS_BRICK, lock, str(_PATIENCE)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Then it has the lock before long
        assert answer.stdout == 'got\n'
        # And other volumes of this worker come and go
        result = running.attach(good, deadline_seconds=_PATIENCE)
        assert result.status == 'attached', result.as_dict()
        result = running.detach(good.name, deadline_seconds=_PATIENCE)
        assert result.status == 'detached', result.as_dict()
        # And the one that was stuck is attached once it is not any more
        assert not waiting.done()
        stuck.release()
        assert waiting.result().status == 'attached'
        assert running.detach(bad.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.timeout(180)
def test_paths_that_come_after_the_answer_keep_no_volume_waiting(
    bed: SimulatedBed, callers: concurrent.futures.ThreadPoolExecutor
) -> None:
    # Given more volumes than a storage may have operations at once, and one
    # portal of two that does not answer
    first = bed.create_volume(portals=2)
    volumes = [first]
    volumes += [bed.create_volume(portals=2, on=first) for _ in range(16)]
    before = bed.snapshot()
    bed.hang_portal(first.portals[1])
    with worker(bed, max_running=16, max_running_per_backend=8) as running:

        def attach(volume: Any) -> Any:
            return running.attach(
                volume, multipath=True, deadline_seconds=_PATIENCE
            )

        # When all of them are attached, then none waits for that portal
        for result in callers.map(attach, volumes):
            assert result.status == 'attached', result.as_dict()
            assert result.device.degraded
        for volume in volumes:
            assert running.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.timeout(180)
@pytest.mark.parametrize('rollback_grace', [_PATIENCE, 1])
def test_a_scan_that_is_stuck_is_not_the_last_portal_that_is_tried(
    bed: SimulatedBed, rollback_grace: int, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a volume whose first portal is stuck in its scan
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    with worker(bed, rollback_grace=rollback_grace) as running:
        stuck = bed.arm(faults.Fault.HANG_BEFORE, 'scsi.scan')
        # When it is to be attached by one path
        result = running.attach(volume, deadline_seconds=10)
        # Then the other portal is used
        assert result.status == 'attached', result.as_dict()
        (path,) = result.device.paths
        assert bed.read(result.device.path) == volume.pattern
        # And when the scan goes on, before or after it was given up, then
        # what it brings is put back
        if rollback_grace < _PATIENCE:
            until(lambda: 'Left over of' in caplog.text)
        stuck.release()
        until(lambda: len(bed.snapshot()['sessions']) == 1)
        until(lambda: disks(bed) == [path.device])
        assert bed.read(result.device.path) == volume.pattern
        result = running.detach(volume.name)
        assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def disks(bed: SimulatedBed) -> list[str]:
    """The block devices of the host, maps too."""
    return sorted(p.name for p in (bed.root / 'sys/class/block').iterdir())
