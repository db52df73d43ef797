# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of shares of NFS: the mounts that they come through."""

from concurrent import futures
import copy
import os
from typing import Any

from attachworker import objects
from tests import harness
from tests.contract import bed as beds


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: Any
) -> objects.DeviceInfo:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(
    worker: harness.Harness, attachment_id: str, **values: Any
) -> list[str]:
    """The warnings of a detach."""
    result = worker.detach(attachment_id, **values)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []
    return list(result.warnings)


def changed(volume: beds.Volume, **values: Any) -> dict[str, Any]:
    info = copy.deepcopy(volume.connection_info())
    info['data'].update(values)
    return info


def point_of(volume: beds.Volume) -> str:
    return f'{beds.MOUNT_BASE}/{volume.directory}'


def test_the_path_is_the_one_of_os_brick(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    device = attached(worker, volume)
    assert device.to_brick() == {
        'type': 'file',
        'path': f'{point_of(volume)}/{volume.name}',
    }
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    paths = worker.api.get_volume_paths({}, worker.name, info)
    assert paths == [device.path]
    detached(worker, volume.name)


def test_one_mount_for_all_volumes_of_a_share(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given two volumes of one share, attached at the same time
    volume = bed.create_mount_volume()
    other = bed.create_mount_volume(on=volume)
    before = bed.snapshot()
    with futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(worker.attach, (volume, other)))
    assert {one.status for one in results} == {'attached'}, results
    mounted = bed.snapshot()['mounts']
    assert len(mounted) == len(before['mounts']) + 2  # with its directory
    # Then the mount is there as long as one of them is
    detached(worker, volume.name)
    assert bed.snapshot()['mounts'] == mounted
    assert bed.read(results[1].device.path) == other.pattern
    detached(worker, other.name)
    assert bed.snapshot() == before


def test_the_mount_of_somebody_else_is_used_and_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    with bed.mount_elsewhere(volume):
        mounted = bed.snapshot()
        for force in False, True:
            device = attached(worker, volume)
            assert bed.read(device.path) == volume.pattern
            assert bed.snapshot() == mounted
            detached(worker, volume.name, force=force)
            assert bed.snapshot() == mounted
        # And who looks is told that it is not ours
        report = worker.api.audit({}, worker.name)
        assert [(one.kind, one.what) for one in report.findings] == [
            ('foreign', f'mount {volume.target}')
        ]


def test_something_else_in_the_place_of_a_share(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    with bed.mount_elsewhere(volume, other=True):
        mounted = bed.snapshot()
        result = worker.attach(volume)
        assert result.error.code == 'in_use', result.as_dict()
        assert 'tmpfs' in result.error.message
        assert result.leftovers == []
        assert bed.snapshot() == mounted


def test_a_link_in_a_share_is_no_volume(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a link to a file of this host in the place of the volume
    volume = bed.create_mount_volume()
    file = bed.file_of(volume)
    file.unlink()
    file.symlink_to('/etc/passwd')
    before = bed.snapshot()
    # Then nobody gets the file
    result = worker.attach(volume)
    assert result.error.code == 'host_tool_failed', result.as_dict()
    assert 'no regular file' in result.error.message or (
        'symbolic link' in result.error.message
    )
    assert bed.snapshot() == before


def test_another_file_of_the_name_is_another_volume(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume that is attached, and whose file was made anew
    volume = bed.create_mount_volume()
    attached(worker, volume)
    file = bed.file_of(volume)
    fresh = file.with_name('volume-fresh')
    fresh.write_bytes(file.read_bytes())
    os.replace(fresh, file)
    # Then it does not count as the same
    result = worker.extend(volume.name, volume.size)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    detached(worker, volume.name)


def test_a_server_that_is_dead_when_a_volume_comes(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    before = bed.snapshot()
    (portal,) = volume.portals
    bed.kill_path(volume, portal)
    try:
        result = worker.attach(volume)
    finally:
        bed.restore_path(volume, portal)
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert result.error.retryable
    assert result.leftovers == []
    assert bed.snapshot() == before


def test_a_share_that_is_not_there(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    before = bed.snapshot()
    info = changed(volume, export='127.0.0.1:/run/exports/nothing')
    result = worker.attach(volume, connection_info=info)
    assert result.error.code == 'device_not_found', result.as_dict()
    assert bed.snapshot() == before


def test_what_others_have_open_keeps_the_mount_alone(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a file of the share that somebody uses without an attachment
    volume = bed.create_mount_volume()
    other = bed.create_mount_volume(on=volume)
    before = bed.snapshot()
    attached(worker, volume)
    mounted = bed.snapshot()
    with bed.opened(f'{point_of(volume)}/{other.name}'):
        # When the volume is detached, then the mount stays
        (warning,) = detached(worker, volume.name)
        assert 'somebody else uses it' in warning
        assert bed.snapshot() == mounted
    # And goes with the next volume of the share
    attached(worker, volume)
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_share_that_somebody_has_unmounted(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    before = bed.snapshot()
    device = attached(worker, volume)
    bed.unmount_share(volume)
    report = worker.api.audit({}, worker.name)
    assert [one.state for one in report.attachments] == ['missing']
    detached(worker, volume.name)
    assert bed.snapshot() == before
    # And it can be attached again
    assert attached(worker, volume).path == device.path
    detached(worker, volume.name)
    assert bed.snapshot() == before
