# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What has hurt people elsewhere; see doc/source/contributor/reports.rst."""

from collections.abc import Callable
import contextlib
import threading
import time
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract import test_attach as steps


def without_id(volume: beds.Volume) -> dict[str, Any]:
    """As a caller asks for a volume who has no name of his own for it."""
    info = volume.connection_info()
    del info['data']['volume_id']
    return info


@pytest.mark.parametrize('multipath', [False, True])
@pytest.mark.parametrize('portals', [1, 2])
def test_two_volumes_that_the_storage_gives_one_identity(
    bed: beds.Bed, worker: harness.Harness, multipath: bool, portals: int
) -> None:
    """rackerlabs/genestack 451, ClusterLabs/resource-agents 1463.

    tgt numbers its volumes by target and LUN: those of two hosts are alike.
    """
    # Given two volumes on two targets with one identifier and serial number
    first = bed.create_volume(portals=portals)
    second = bed.create_volume(portals=portals, like=first)
    assert (first.wwn, first.size) == (second.wwn, second.size)
    before = bed.snapshot()
    device = steps.attached(worker, first, multipath=multipath).device
    # (the next operation waits for what is let go after the answer)
    steps.attached(worker, first, multipath=multipath)
    during = bed.snapshot()
    # When both are to be attached, then nobody gets the other one's data
    result = worker.attach(second, multipath=multipath)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert first.name in result.error.message
    assert result.leftovers == []
    # And what was attached stays as it was
    assert bed.read(device.path) == first.pattern
    assert bed.snapshot() == during
    steps.detached(worker, first.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('multipath', [False, True])
def test_an_identity_that_is_made_of_target_and_lun_alone(
    bed: beds.Bed, worker: harness.Harness, multipath: bool
) -> None:
    """The same, and no caller says which volume he means."""
    # Given two volumes whose identifier no company vouches for
    first = bed.create_volume(company='000000')
    second = bed.create_volume(like=first, company='000000')
    before = bed.snapshot()
    device = steps.attached(
        worker,
        first,
        multipath=multipath,
        connection_info=without_id(first),
    ).device
    during = bed.snapshot()
    # When both are to be attached, then nobody gets the other one's data
    result = worker.attach(
        second, multipath=multipath, connection_info=without_id(second)
    )
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert result.leftovers == []
    assert bed.read(device.path) == first.pattern
    assert bed.snapshot() == during
    # And the same volume once more is the same volume
    again = steps.attached(
        worker,
        first,
        attachment_id='again',
        multipath=multipath,
        connection_info=without_id(first),
    ).device
    assert again.path == device.path
    steps.detached(worker, first.name)
    steps.detached(worker, 'again')
    assert bed.snapshot() == before


def test_multipathd_is_to_leave_the_disks_alone(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
) -> None:
    """dell/csm 1345; longhorn/longhorn 1210 tells people to do this."""
    # Given a host whose multipath.conf has all disks on its blacklist
    multipathd(find_multipaths=None, blacklist=True)
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    # When a map is demanded, then the caller is told why there is none
    failed = worker.attach(volume, multipath=True, enforce_multipath=True)
    assert failed.error.code == 'multipath_failed', failed.as_dict()
    assert 'blacklist' in failed.error.message
    assert failed.leftovers == []
    # And when it is only asked for, then the disk is what there is
    result = steps.attached(worker, volume, multipath=True)
    assert (result.device.multipath_id, result.device.degraded) == (None, True)
    assert 'blacklist' in ' '.join(result.warnings)
    assert bed.read(result.device.path) == volume.pattern
    # And neither has waited for what does not come
    for one in (failed, result):
        assert one.timings['MapMultipath'] < worker.conf.multipath.map_timeout
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_detach_while_somebody_looks_at_all_devices(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """xapi-project/sm 686; util-linux/util-linux 4120.

    lvs, blkid and what monitors a host open each device for a moment.
    """
    # Given a device that somebody has open when its detach begins
    volume = bed.create_volume()
    before = bed.snapshot()
    path = steps.attached(worker, volume).device.path
    looks = contextlib.ExitStack()
    looks.enter_context(bed.opened(path))
    # When that closes it again a moment later
    closing = threading.Timer(0.7, looks.close)
    closing.start()
    # Then nobody is told that the device is in use
    steps.detached(worker, volume.name)
    closing.join()
    assert bed.snapshot() == before


def test_storage_that_shows_a_new_size_a_moment_later(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """45Drives/cockpit-file-sharing 197; kubernetes/cloud-provider-openstack
    861."""
    small, large = 32 * 1024 * 1024, 64 * 1024 * 1024
    volume = bed.create_volume(portals=2, size=small, resizable=True)
    steps.attached(worker, volume, multipath=True, min_paths=2)
    # When the host is told that a volume has grown before its target shows it
    growing = threading.Timer(1.0, bed.resize_volume, [volume, large])
    growing.start()
    result = worker.extend(volume.name, large)
    growing.join()
    # Then that is waited for
    assert result.status == 'extended', result.as_dict()
    assert result.device.size == large
    steps.detached(worker, volume.name)


def test_a_late_path_of_a_volume_that_multipathd_calls_something_else(
    bed: beds.Bed, multipathd: Callable[..., None]
) -> None:
    """opensvc/multipath-tools 83: an operator has ID_WWN name volumes."""
    # Given a host like that, and a portal that does not answer at first
    multipathd(uid_attribute='ID_WWN')
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    slow = volume.portals[1]
    bed.hang_portal(slow, accept=False)
    # it is waited for longer than a map takes on a busy machine
    with harness.Harness(bed, iscsi={'login_timeout': 120}) as worker:
        device = steps.attached(
            worker, volume, multipath=True, deadline_seconds=300
        ).device
        assert (device.multipath_id, device.degraded) == (
            f'0x{volume.wwn[:16]}',
            True,
        )
        # When it answers after all
        bed.start_portal(slow)
        end = time.monotonic() + 150
        while worker.attachments() != [f'{volume.name} attached']:
            assert time.monotonic() < end, worker.attachments()
            time.sleep(0.1)
        # Then the path joins the map, and the volume is called the same
        found = worker.api.get_attachment({}, worker.name, volume.name).device
        assert {path.state for path in found.paths} == {'connected'}
        assert (found.scsi_wwn, found.multipath_id) == (
            device.scsi_wwn,
            device.multipath_id,
        )
        steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_session_of_a_target_that_does_not_come_back(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """open-iscsi/open-iscsi 513, 402, 228: iscsid tries for ever, and no
    logout is possible meanwhile."""
    # Given an attached volume whose only portal is gone for good
    volume = bed.create_volume()
    before = bed.snapshot()
    steps.attached(worker, volume)
    bed.kill_path(volume, volume.portals[0])
    # When its detach is forced
    result = worker.detach(volume.name, force=True)
    # Then nothing is left, and iscsid tries no more
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot()['sessions'] == before['sessions']
    bed.restore_path(volume, volume.portals[0])
    assert bed.snapshot() == before
    # And the volume can be attached once the target is back after all
    steps.attached(worker, volume)
    steps.detached(worker, volume.name)


def test_a_volume_grows_while_another_target_is_dead(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """openebs-archive/cstor-csi 76: a rescan of all sessions hung in one."""
    small, large = 32 * 1024 * 1024, 64 * 1024 * 1024
    dead = bed.create_volume()
    volume = bed.create_volume(size=small, resizable=True)
    steps.attached(worker, dead)
    steps.attached(worker, volume)
    bed.kill_path(dead, dead.portals[0])
    bed.resize_volume(volume, large)
    started = time.monotonic()
    result = worker.extend(volume.name, large)
    assert result.status == 'extended', result.as_dict()
    assert time.monotonic() - started < 10
    bed.restore_path(dead, dead.portals[0])
    steps.detached(worker, volume.name)
    result = worker.detach(dead.name, force=True)
    assert result.status == 'detached', result.as_dict()
