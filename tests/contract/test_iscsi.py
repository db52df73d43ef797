# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSCSI: discovery, spellings, numbers of LUNs, what others do."""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker.connectors.iscsi import initiator
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds

#: os-brick's way to take its lock.
_OS_BRICK = """
import sys
import fasteners
with fasteners.InterProcessLock(sys.argv[1]):
    print('locked', flush=True)
    sys.stdin.read()
"""


def one_portal(volume: beds.Volume, **data: Any) -> dict[str, Any]:
    """The singular keys only, as Cinder sends them to a plain connector."""
    info = volume.connection_info()
    for key in ('target_portals', 'target_iqns', 'target_luns'):
        info['data'].pop(key, None)
    info['data'].update(data)
    return info


def tried(result: Any) -> list[str]:
    """Portals that an attach has tried to connect."""
    prefix = 'ConnectTarget:'
    return sorted(
        step.removeprefix(prefix).partition(',')[0]
        for step in result.timings
        if step.startswith(prefix)
    )


def targets(bed: beds.Bed) -> set[str]:
    """The names of the targets that this host is logged in to."""
    return {name for name, *_ in bed.snapshot()['sessions']}


def test_discovery_finds_the_other_portals(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given two targets at the same portals, and a request that names one
    volume, other = bed.create_volume(portals=2), bed.create_volume()
    before = bed.snapshot()
    result = worker.attach(
        volume, connection_info=one_portal(volume), multipath=True
    )
    # Then both of its portals are used, and nothing of the other target
    assert result.status == 'attached', result.as_dict()
    assert 'DiscoverTargets' in result.timings
    assert tried(result) == sorted(volume.portals)
    assert bed.read(result.device.path) == volume.pattern
    assert targets(bed) == {volume.target}
    assert other.target not in targets(bed)
    # And nothing of it stays, neither session nor record
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_no_discovery_for_one_path(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    result = worker.attach(volume, connection_info=one_portal(volume))
    assert result.status == 'attached', result.as_dict()
    assert 'DiscoverTargets' not in result.timings
    assert tried(result) == [volume.portals[0]]
    assert worker.detach(volume.name).status == 'detached'


def test_discovery_at_a_dead_portal(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.stop_portal(volume.portals[0])
    try:
        result = worker.attach(
            volume, connection_info=one_portal(volume), multipath=True
        )
    finally:
        bed.start_portal(volume.portals[0])
    assert result.status == 'failed'
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert bed.snapshot() == before


def test_host_name_of_a_portal(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a portal that is told by name
    volume = bed.create_volume()
    before = bed.snapshot()
    port = volume.portals[0].rpartition(':')[2]
    info = one_portal(volume, target_portal=f'localhost:{port}')
    # When the volume is attached twice, by name and by address
    first = worker.attach(volume, 'by-name', connection_info=info)
    assert first.status == 'attached', first.as_dict()
    assert bed.read(first.device.path) == volume.pattern
    second = worker.attach(volume, 'by-address')
    # Then both have the same device, through the same session
    assert second.device.path == first.device.path
    assert len(bed.snapshot()['sessions']) == 1
    # And it goes with the last of them
    assert worker.detach('by-name').status == 'detached'
    assert bed.read(second.device.path) == volume.pattern
    assert worker.detach('by-address').status == 'detached'
    assert bed.snapshot() == before


def test_name_of_a_target_in_other_letter_case(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """Names have no case (RFC 3722), though some targets insist on theirs."""
    # Given a session
    volume = bed.create_volume()
    neighbour = bed.create_volume(on=volume)
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    # When another volume of the target is attached by an odd spelling
    info = one_portal(neighbour, target_iqn=volume.target.upper())
    result = worker.attach(neighbour, connection_info=info)
    assert result.status == 'attached', result.as_dict()
    # Then it comes through the same session, which goes with the last one
    assert bed.read(result.device.path) == neighbour.pattern
    assert len(bed.snapshot()['sessions']) == 1
    assert worker.detach(volume.name).status == 'detached'
    assert bed.read(result.device.path) == neighbour.pattern
    assert worker.detach(neighbour.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('wire', 'data'),
    [
        (255, {'target_lun': 255, 'addressing_mode': 'SAM2'}),
        (256, {'target_lun': 256}),
        (300, {'target_lun': '300', 'addressing_mode': 'transparent'}),
        (16383, {'target_lun': 16383, 'addressing_mode': 'SAM'}),
        (16384 + 256, {'target_lun': 256, 'addressing_mode': 'SAM2'}),
        (16384 + 7, {'target_lun': 7, 'addressing_mode': 'SAM3-flat'}),
    ],
)
def test_number_of_a_lun(
    bed: beds.Bed, worker: harness.Harness, wire: int, data: dict[str, Any]
) -> None:
    """Launchpad 1493350, 1793259, 2006960, 1692153."""
    volume = bed.create_volume(lun=wire)
    before = bed.snapshot()
    result = worker.attach(volume, connection_info=one_portal(volume, **data))
    assert result.status == 'attached', result.as_dict()
    assert [path.lun for path in result.device.paths] == [wire]
    assert bed.read(result.device.path) == volume.pattern
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.fixture
def locked(tmp_path: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    """Somebody uses os-brick; ends when its input is closed."""
    with subprocess.Popen(
        [
            sys.executable,
            '-c',
            _OS_BRICK,
            str(tmp_path / 'os-brick-connect_volume'),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'locked\n'
        yield process


def test_lock_of_os_brick(
    bed: beds.Bed, tmp_path: pathlib.Path, locked: subprocess.Popen[str]
) -> None:
    # Given somebody who attaches by os-brick, and takes long
    volume = bed.create_volume()
    before = bed.snapshot()
    options = {'os_brick_lock_paths': [str(tmp_path)]}
    with harness.Harness(bed, iscsi=options) as worker:
        # Then an attach waits, until its deadline
        result = worker.attach(volume, deadline_seconds=1)
        assert result.error.code == 'deadline_exceeded', result.as_dict()
        assert result.leftovers == []
        assert bed.snapshot() == before
        # And once the lock is free it succeeds
        locked.communicate()
        assert worker.attach(volume).status == 'attached'
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_lock_directory_that_is_not_there(
    bed: beds.Bed, tmp_path: pathlib.Path
) -> None:
    options = {'os_brick_lock_paths': [str(tmp_path / 'gone')]}
    with harness.Harness(bed, iscsi=options) as worker:
        result = worker.attach(bed.create_volume())
    assert result.error.code == 'host_tool_missing', result.as_dict()
    assert 'os_brick_lock_paths' in result.error.message
    assert str(tmp_path / 'gone') in result.error.message


@pytest.mark.parametrize(
    'name',
    [
        'iqn.2003-01.org.linux-iscsi.my_host.x8664:sn.0123456789ab',
        'iqn.2004-1.com.example:storage',
        'iqn.1986-03.com.ibm:2145.cluster_1.node..2',
    ],
)
def test_names_of_targets_that_exist(
    bed: beds.Bed, worker: harness.Harness, name: str
) -> None:
    volume = bed.create_volume(portals=2, target_name=name)
    before = bed.snapshot()
    for multipath in (False, True):
        result = worker.attach(volume, multipath=multipath)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        result = worker.detach(volume.name)
        assert result.status == 'detached', result.as_dict()
        assert bed.snapshot() == before


def test_devices_that_nobody_asked_for_stay_and_are_named(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment, and another volume that somebody's scan of the
    # whole host has brought through its session
    volume = bed.create_volume()
    other = bed.create_volume(on=volume)
    before = bed.snapshot()
    result = worker.attach(volume)
    assert result.status == 'attached', result.as_dict()
    with contextlib.closing(bed.host()) as host:
        ((session, _),) = initiator.Initiator(host).everything()
        bed.verbs.scsi.scan(session.host, 0, session.target_id, other.lun)
        stranger = host.scsi.wait_for_disk(
            session.directory, other.lun, deadlines.Deadline.after(30.0)
        )
    assert stranger is not None
    # When the volume is detached
    result = worker.detach(volume.name)
    # Then that device and the session stay, and the caller is told
    assert result.status == 'detached', result.as_dict()
    assert bed.read(f'/dev/{stranger.disk}') == other.pattern
    assert targets(bed) == {volume.target}
    (warning,) = result.warnings
    assert f'session {session.sid} to {volume.target}' in warning
    assert f'{stranger.disk} (LUN {other.lun})' in warning
    bed.drop_session(volume, volume.portals[0])
    assert bed.snapshot() == before


def test_a_disk_of_others_that_does_not_answer_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a disk that another program has, and does not use just now
    volume = bed.create_volume()
    somebody = actors.Somebody(bed, volume)
    disk = somebody.node().name
    instance = bed.instance(disk)
    # When it does not answer as an attach asks which volume it is
    verbs = bed.verbs.scsi
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verbs, 'inquiry', no_answer)
        result = worker.attach(volume)
    # Then the attach fails, and the disk is the one that it was
    assert result.error.code == 'device_not_found', result.as_dict()
    assert bed.instance(disk) == instance
    somebody.check()
    somebody.close()


def no_answer(device: str, instance: int, page: int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
