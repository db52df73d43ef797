# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The lab and its bed do what the other kernel tests take for granted.

Nothing of attachworker is used here: if these fail, it is not its fault.
"""

from collections.abc import Callable
import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel import picture

pytestmark = pytest.mark.kernel

NODES = pathlib.Path('/etc/iscsi/nodes')
LOCK = pathlib.Path('/run/lock/iscsi/lock')


def wait_until(holds: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, 'it did not happen'
        time.sleep(0.02)


def wait_for_snapshot(bed: contract.Bed, expected: object) -> None:
    """udev removes its links a little after the kernel the devices."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: bed.snapshot() == expected)
    assert bed.snapshot() == expected


def iscsiadm(*arguments: str) -> int:
    return subprocess.run(
        ['iscsiadm', *arguments], stdin=subprocess.DEVNULL, check=False
    ).returncode


def log_in(
    volume: contract.Volume, portal: str = '', chap: tuple[str, str] = ('', '')
) -> int:
    """With the host's own node database, the way an operator does it."""
    portal = portal or volume.portals[0]
    record = ('-m', 'node', '-T', volume.target, '-p', portal)
    settings = {
        'node.session.scan': 'manual',
        'node.session.initial_login_retry_max': '1',
        'node.conn[0].timeo.login_timeout': '2',
    }
    if chap != ('', ''):
        settings['node.session.auth.authmethod'] = 'CHAP'
        settings['node.session.auth.username'] = chap[0]
        settings['node.session.auth.password'] = chap[1]
    assert iscsiadm(*record, '-o', 'new') == 0
    for name, value in settings.items():
        assert iscsiadm(*record, '-o', 'update', '-n', name, '-v', value) == 0
    return iscsiadm(*record, '--login')


def log_out(volume: contract.Volume) -> None:
    assert iscsiadm('-m', 'node', '-T', volume.target, '--logout') == 0


def forget(volume: contract.Volume) -> None:
    """Remove what :func:`log_in` wrote, and iscsiadm's own lock file."""
    shutil.rmtree(NODES / volume.target)
    LOCK.unlink(missing_ok=True)


def scan(lun: int) -> None:
    for path in pathlib.Path('/sys/class/scsi_host').iterdir():
        (path / 'scan').write_text(f'0 0 {lun}')


def disks() -> dict[str, str]:
    """WWN of each SCSI disk of this machine, to its device."""
    return {
        (path / 'device/wwid').read_text().strip().removeprefix('naa.'): (
            f'/dev/{path.name}'
        )
        for path in pathlib.Path('/sys/class/block').glob('sd*')
    }


def disk_of(volume: contract.Volume) -> str:
    """The disk that a scan has found; it comes a little after the scan."""
    wait_until(lambda: volume.wwn in disks())
    device = disks()[volume.wwn]
    wait_until(lambda: os.path.exists(device))
    return device


def test_attach_and_detach_by_hand_leave_nothing(
    bed: kernel_bed.KernelBed,
) -> None:
    before = bed.snapshot()
    volume = bed.create_volume()

    assert log_in(volume) == 0
    assert disks() == {}  # no automatic scan
    scan(volume.lun)

    device = disk_of(volume)
    assert bed.read(device) == volume.pattern
    bed.write(device, b'attached', offset=8192)
    assert bed.read(device, 8, offset=8192) == b'attached'
    assert bed.snapshot() != before

    log_out(volume)
    forget(volume)
    wait_for_snapshot(bed, before)


def test_volumes_on_one_target_have_their_own_luns(
    bed: kernel_bed.KernelBed,
) -> None:
    first = bed.create_volume()
    second = bed.create_volume(on=first)
    far = bed.create_volume(on=first, lun=300)
    assert (first.lun, second.lun, far.lun) == (0, 1, 300)
    assert first.target == second.target == far.target

    assert log_in(first) == 0
    for volume in (first, second, far):
        scan(volume.lun)

    wait_until(lambda: set(disks()) == {first.wwn, second.wwn, far.wwn})
    log_out(first)
    forget(first)


def test_a_lun_that_is_mapped_anew_is_another_volume(
    bed: kernel_bed.KernelBed,
) -> None:
    old = bed.create_volume()
    assert log_in(old) == 0
    scan(old.lun)
    device = disk_of(old)
    bed.remove_volume(old)

    new = bed.create_volume(on=old)

    assert new.lun == old.lun
    assert new.wwn != old.wwn
    # What the kernel believes is now a lie: the host has not been told.
    assert set(disks()) == {old.wwn}
    assert bed.read(device) == new.pattern
    log_out(old)
    forget(old)


def test_chap_lets_only_the_right_password_in(
    bed: kernel_bed.KernelBed,
) -> None:
    chap = ('user', 'a-long-password')
    volume = bed.create_volume(chap=chap)

    assert log_in(volume) == 24
    assert log_in(volume, chap=('user', 'another-password')) == 24
    assert log_in(volume, chap=chap) == 0
    log_out(volume)
    forget(volume)


def test_a_stopped_portal_refuses_and_a_started_one_does_not(
    bed: kernel_bed.KernelBed,
) -> None:
    volume = bed.create_volume(portals=2)
    dead, alive = volume.portals

    bed.stop_portal(dead)
    assert log_in(volume, dead) == 8
    assert log_in(volume, alive) == 0
    bed.start_portal(dead)
    assert log_in(volume, dead) == 0

    assert sorted(picture.sessions())[0][1] == volume.target
    assert {portal for _, _, portal in picture.sessions()} == {dead, alive}
    log_out(volume)
    forget(volume)


def test_a_hanging_portal_times_out(bed: kernel_bed.KernelBed) -> None:
    volume = bed.create_volume()
    bed.hang_portal(volume.portals[0])
    assert log_in(volume) == 11
    bed.start_portal(volume.portals[0])
    assert log_in(volume) == 0
    log_out(volume)
    forget(volume)


def test_a_session_outlives_iscsid_and_its_connection(
    bed: kernel_bed.KernelBed,
) -> None:
    chap = ('user', 'a-long-password')
    volume = bed.create_volume(chap=chap)
    assert log_in(volume, chap=chap) == 0
    forget(volume)
    logged_in = [[volume.target, volume.portals[0], 'LOGGED_IN']]

    bed.restart_iscsid()
    wait_until(lambda: bed.snapshot()['sessions'] != logged_in)
    wait_until(lambda: bed.snapshot()['sessions'] == logged_in)

    bed.break_connections(volume)
    wait_until(lambda: bed.snapshot()['sessions'] != logged_in)
    wait_until(lambda: bed.snapshot()['sessions'] == logged_in)

    bed.drop_session(volume, volume.portals[0])
    assert bed.snapshot()['sessions'] == []


def test_closing_the_bed_cleans_up_after_a_failed_test(
    bed: kernel_bed.KernelBed,
) -> None:
    before = bed.snapshot()
    other = kernel_bed.KernelBed()
    volume = other.create_volume(portals=2)
    assert log_in(volume) == 0
    scan(volume.lun)

    other.close()

    forget(volume)
    wait_for_snapshot(bed, before)
