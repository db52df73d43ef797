# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The simulator's process: its life, its portals and its tree."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.simulator import bed as beds
from tests.simulator import client
from tests.simulator import verbs as verb_names
from tests.simulator import wire
from tests.simulator.faults import Fault
from tests.unit.simulator import view

_PROJECT = pathlib.Path(__file__).resolve().parents[3]


def _connect(portal: str) -> None:
    address, _, port = portal.rpartition(':')
    socket.create_connection((address, int(port)), 0.2).close()


def test_portal_is_a_listener_that_can_be_stopped_and_hung(
    bed: beds.SimulatedBed,
) -> None:
    (portal,) = bed.create_volume().portals
    _connect(portal)
    bed.stop_portal(portal)
    with pytest.raises(ConnectionRefusedError):
        _connect(portal)
    bed.start_portal(portal)
    _connect(portal)
    bed.hang_portal(portal)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            _connect(portal)
    bed.start_portal(portal)
    _connect(portal)


def test_login_goes_on_when_iscsiadm_was_ended(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    (portal,) = volume.portals
    address, _, port = portal.rpartition(':')
    bed.hang_portal(portal)

    with pytest.raises(TimeoutError):
        bed.verbs.iscsi.login(
            volume.target, address, int(port), {}, timeout=0.05
        )

    assert kernel.login(volume)[0] == verb_names.SESSION_EXISTS
    assert kernel.sessions(volume) == []
    bed.start_portal(portal)
    view.until(lambda: kernel.sessions(volume))


def test_session_is_seen_before_it_is_logged_in(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    sessions = bed.root / 'sys/class/iscsi_session'
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            kernel.login(volume)
            number = kernel.session(volume).number
            bed.verbs.iscsi.logout(number, 5.0)

    def seen(text: str) -> bool:
        return any(
            view.text(path / 'state') == text for path in sessions.iterdir()
        )

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        view.until(lambda: seen('FREE'))
        view.until(lambda: seen('LOGGED_IN'))
    finally:
        done.set()
        thread.join()


def test_reboot_leaves_targets_and_nothing_else(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    boot_id = bed.root / 'proc/sys/kernel/random/boot_id'
    before = boot_id.read_text()
    volume = bed.create_volume()
    empty = bed.snapshot()
    first = kernel.attach(volume)
    bed.write(f'/dev/{first.disk}', b'kept' * 1024)

    bed.restart_host()

    assert boot_id.read_text() != before
    assert bed.snapshot() == empty
    again = kernel.attach(volume)
    assert again.hctl == first.hctl
    assert bed.read(f'/dev/{again.disk}') == b'kept' * 1024


def test_state_outlives_a_killed_caller(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_AFTER, 'iscsi.login')
    address, _, port = volume.portals[0].rpartition(':')
    script = (
        'from tests.simulator import client\n'
        f'events = client.UeventSource({str(bed.root)!r})\n'
        f'verbs = client.Verbs({str(bed.root)!r})\n'
        f'verbs.iscsi.login({volume.target!r}, {address!r}, {port}, '
        f'{view.record(volume)!r}, 5)'
    )
    caller = subprocess.Popen([sys.executable, '-c', script], cwd=_PROJECT)
    assert fault.wait()
    caller.kill()
    caller.wait()

    assert kernel.session(volume).state == 'LOGGED_IN'
    fault.release()
    kernel.attach(volume)
    # its socket is swept up once there is something to send
    view.until(lambda: not list((bed.root / wire.UEVENTS).iterdir()))


def test_server_ends_with_its_parent_and_leaves_nothing() -> None:
    script = (
        'from tests.simulator import bed\n'
        'made = bed.SimulatedBed()\n'
        'print(made.control("pid"), made.root, flush=True)\n'
        'input()'
    )
    parent = subprocess.Popen(
        [sys.executable, '-c', script],
        cwd=_PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid, root = parent.stdout.readline().split()

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    view.until(lambda: not pathlib.Path(f'/proc/{pid}').exists())
    assert not pathlib.Path(root).exists()


def test_close_leaves_nothing(bed: beds.SimulatedBed) -> None:
    pid = bed.control('pid')

    bed.close()

    assert not bed.root.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(wire.SimulatorGone):
        bed.verbs.block.flush('sda')


def test_readers_never_see_half_a_device(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)
    host = kernel.session(volume).host
    hctl = f'{host}:0:0:{volume.lun}'
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            bed.verbs.scsi.scan(host, 0, 0, volume.lun)
            stop.wait(0.006)
            bed.verbs.scsi.delete(hctl)

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    device = bed.root / f'sys/class/scsi_device/{hctl}/device'
    block = bed.root / 'sys/class/block'
    seen = disks = 0
    begin = time.monotonic()
    while not (seen and disks) or time.monotonic() < begin + 0.5:
        assert time.monotonic() < begin + view.PATIENCE
        try:
            text = (device / 'wwid').read_text()
        except FileNotFoundError:
            continue
        assert text == f'naa.{volume.wwn}\n'
        seen += 1
        for disk in block.iterdir():
            try:
                size = (disk / 'size').read_text()
            except FileNotFoundError:
                continue
            assert size == f'{volume.size // 512}\n'
            disks += 1
    stop.set()
    thread.join()


def test_mounts_and_holders(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    disk = str(kernel.attach(bed.create_volume()).disk)
    number = (bed.root / f'sys/class/block/{disk}/dev').read_text().strip()
    mounts = bed.root / 'proc/self/mountinfo'
    holders = bed.root / f'sys/class/block/{disk}/holders'

    bed.mount(disk, '/mnt')
    bed.add_holder(disk, 'dm-0')

    assert f' {number} / /mnt ' in mounts.read_text()
    assert [path.name for path in holders.iterdir()] == ['dm-0']
    bed.unmount('/mnt')
    bed.remove_holder(disk, 'dm-0')
    assert '/mnt' not in mounts.read_text()
    assert list(holders.iterdir()) == []


def test_every_receiver_gets_every_event(
    bed: beds.SimulatedBed, kernel: view.Kernel
) -> None:
    sources = [client.UeventSource(bed.root) for _ in range(3)]

    kernel.attach(bed.create_volume())

    for source in sources:
        assert view.next_event(source, ACTION='add', SUBSYSTEM='block')
        source.close()
