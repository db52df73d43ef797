# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is particular to Ceph RBD."""

from concurrent import futures
from typing import Any
import uuid

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_audit import findings


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.DeviceInfo:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(worker: harness.Harness, attachment_id: str) -> None:
    result = worker.detach(attachment_id)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []


def detach_by_connection(worker: harness.Harness, volume: beds.Volume) -> None:
    """Detach what no attachment of the worker has."""
    request = objects.DetachRequest(
        request_id=str(uuid.uuid4()),
        connection_info=objects.ConnectionInfo.from_dict(
            volume.connection_info()
        ),
    )
    result = worker.api.detach_volume({}, worker.name, request)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []


def images(bed: beds.Bed) -> list[list[str]]:
    """Pool, name and identifier of each image that is mapped."""
    found: list[list[str]] = bed.snapshot()['rbd_images']
    return found


def changed(volume: beds.Volume, **data: object) -> dict[str, Any]:
    """Its connection_info with other data."""
    info = volume.connection_info()
    info['data'] |= data
    return info


def map_by_hand(bed: beds.Bed, volume: beds.Volume) -> None:
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    assert isinstance(info, objects.RBDConnectionInfo)
    bed.verbs.rbd.add(
        [each.portal for each in info.monitors],
        info.pool,
        info.image,
        '',
        {'name': info.auth_username},
        info.cluster_name,
        info.keyring,
    )


def remove_by_hand(bed: beds.Bed, device: objects.DeviceInfo) -> None:
    number = device.path.removeprefix('/dev/rbd')
    directory = bed.root / 'sys/bus/rbd/devices' / number
    bed.verbs.rbd.remove(int(number), directory.stat().st_ino, False)


def test_what_the_caller_is_told(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    device = attached(worker, volume)
    assert device.path.startswith('/dev/rbd')
    assert device.scsi_wwn is device.multipath_id is None
    assert device.to_brick() == {'type': 'block', 'path': device.path}
    (path,) = device.paths
    assert path.portal == ','.join(sorted(volume.portals))
    assert (path.device, path.state) == (device.path[5:], 'connected')
    detached(worker, volume.name)


def test_two_pools_have_an_image_of_one_name(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an image of one name in each of two pools, and one in other case
    volumes = [
        bed.create_rbd_volume(pool='volumes', name='same'),
        bed.create_rbd_volume(pool='backups', name='same'),
        bed.create_rbd_volume(pool='backups', name='Same'),
    ]
    before = bed.snapshot()
    # When all are attached
    names = ['first', 'second', 'third']
    for volume, name in zip(volumes, names, strict=True):
        device = attached(worker, volume, attachment_id=name)
        # Then each is its own device
        assert bed.read(device.path) == volume.pattern
    assert len(images(bed)) == 3
    # And the detach of one takes no other away
    detached(worker, 'first')
    assert [pool for pool, _, _ in images(bed)] == ['backups', 'backups']
    detached(worker, 'third')
    assert [name for _, name, _ in images(bed)] == ['same']
    detached(worker, 'second')
    assert bed.snapshot() == before


def test_many_at_once_are_one_mapping(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    names = [f'attachment-{number}' for number in range(4)]
    with futures.ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda name: worker.attach(volume, name), names)
        )
    assert {one.status for one in results} == {'attached'}
    assert len({one.device.path for one in results}) == 1
    assert len(images(bed)) == 1
    with futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(worker.detach, names))
    assert {one.status for one in results} == {'detached'}
    assert bed.snapshot() == before


def test_two_attachments_know_other_monitors(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an image whose second attachment was told of one monitor more,
    # and a third one of another one more
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    hosts = [portal.rpartition(':')[0] for portal in volume.portals]
    ports = [portal.rpartition(':')[2] for portal in volume.portals]
    device = attached(worker, volume, attachment_id='first')
    for name, host in (('second', '127.0.0.9'), ('third', '127.0.0.8')):
        info = changed(volume, hosts=[host, *hosts], ports=['1', *ports])
        other = attached(
            worker, volume, attachment_id=name, connection_info=info
        )
        assert other.path == device.path
    assert len(images(bed)) == 1
    # Then the device stays until the last of them is gone
    detached(worker, 'first')
    assert bed.read(device.path) == volume.pattern
    detached(worker, 'third')
    assert bed.read(device.path) == volume.pattern
    detached(worker, 'second')
    assert bed.snapshot() == before


def test_an_image_that_somebody_else_has_mapped(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an image that is mapped already
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    map_by_hand(bed, volume)
    mapped = bed.snapshot()
    report = worker.api.audit({}, worker.name)
    assert 'foreign' in {one.kind for one in report.findings}
    # When an attach of it fails, then the mapping stays
    result = worker.attach(volume, expected_wwn='another')
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert bed.snapshot() == mapped
    # And it serves one that does not, and stays after its detach as well
    device = attached(worker, volume)
    assert bed.read(device.path) == volume.pattern
    assert bed.snapshot() == mapped
    assert findings(worker) == []
    with bed.opened(device.path):
        for force in False, True:
            result = worker.detach(volume.name, force=force)
            assert result.status == 'detached', result.as_dict()
            assert result.leftovers == []
            (warning,) = result.warnings
            assert device.path.removeprefix('/dev/') in warning
            assert bed.snapshot() == mapped
            attached(worker, volume)
    # And through a second attachment it is no more ours than through one
    attached(worker, volume, attachment_id='second')
    detached(worker, volume.name)
    detached(worker, 'second')
    assert bed.snapshot() == mapped
    # And whoever says so by its connection alone has it unmapped
    detach_by_connection(worker, volume)
    assert bed.snapshot() == before


def test_a_key_that_the_cluster_does_not_know(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    key = 'AQBSdFhcGdRZLRAAexEfvAfLuGI3LMtJ3n7ZEA=='
    wrong = f'[client.cinder]\n\tkey = {key}\n'
    result = worker.attach(
        volume, connection_info=changed(volume, keyring=wrong)
    )
    assert result.error.code == 'auth_failed', result.as_dict()
    assert result.leftovers == []
    # No key at all is told before anybody is asked
    result = worker.attach(
        volume, connection_info=changed(volume, auth_username='nobody')
    )
    assert result.error.code == 'auth_failed', result.as_dict()
    assert bed.snapshot() == before


def test_read_only(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_rbd_volume()
    device = attached(
        worker, volume, connection_info=changed(volume, access_mode='ro')
    )
    name = device.path.removeprefix('/dev/')
    file = bed.root / f'sys/class/block/{name}/ro'
    assert file.read_text().strip() == '1'
    detached(worker, volume.name)


def test_a_dead_monitor_of_two(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a monitor that nobody answers at, beside those that do
    volume = bed.create_rbd_volume()
    hosts = [portal.rpartition(':')[0] for portal in volume.portals]
    ports = [portal.rpartition(':')[2] for portal in volume.portals]
    info = changed(volume, hosts=['127.0.0.9', *hosts], ports=['1', *ports])
    # Then the volume is attached
    device = attached(worker, volume, connection_info=info)
    assert bed.read(device.path) == volume.pattern
    detached(worker, volume.name)
    # And with no other, it is not
    result = worker.attach(
        volume,
        connection_info=changed(volume, hosts=['127.0.0.9'], ports=['1']),
    )
    assert result.error.code == 'target_unreachable', result.as_dict()


def test_monitors_with_names(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given monitors that are named, one of them by a name that nobody knows
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    ports = [portal.rpartition(':')[2] for portal in volume.portals]
    info = changed(
        volume,
        hosts=['nobody.invalid', *('localhost' for _ in ports)],
        ports=['6789', *ports],
    )
    # Then the image is attached through their addresses
    device = attached(worker, volume, connection_info=info)
    assert bed.read(device.path) == volume.pattern
    assert volume.portals[0] in device.paths[0].portal
    # And it is the same attachment when it is asked for again
    again = attached(worker, volume, connection_info=info)
    assert again.path == device.path
    detached(worker, volume.name)
    assert bed.snapshot() == before
    # And without any name that is known, it says so
    result = worker.attach(
        volume,
        connection_info=changed(
            volume, hosts=['nobody.invalid'], ports=['6789']
        ),
    )
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert 'nobody.invalid' in result.error.message


def test_unmapped_by_somebody_else(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    device = attached(worker, volume)
    assert bed.snapshot() != before  # and udev has let go of it
    remove_by_hand(bed, device)
    report = worker.api.audit({}, worker.name)
    assert [one.state for one in report.attachments] == ['missing']
    # What has its name by then is another one's
    other = bed.create_rbd_volume()
    assert attached(worker, other).path == device.path
    detached(worker, volume.name)
    assert bed.read(device.path) == other.pattern
    detached(worker, other.name)
    assert bed.snapshot() == before


def test_a_read_only_mapping_is_not_given_to_a_writer(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an image that is mapped read-only
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    attached(worker, volume, connection_info=changed(volume, access_mode='ro'))
    # When somebody is to write to it, then the mapping is refused, and stays
    result = worker.attach(volume, 'writer')
    assert result.error.code == 'in_use', result.as_dict()
    assert 'read-only' in result.error.message
    assert worker.attachments() == [f'{volume.name} attached']
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_forced_detach_unmaps_what_is_open(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    device = attached(worker, volume)
    with bed.opened(device.path):
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        result = worker.detach(volume.name, force=True)
        assert result.status == 'detached', result.as_dict()
        assert result.leftovers == []
        assert bed.snapshot() == before


def test_a_host_that_is_blocklisted_is_told_so(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an image that is mapped, and a cluster that refuses this host
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    attached(worker, volume)
    bed.blocklist(True)
    try:
        # When the mapping is asked for again, then it is not given as good
        for name in (volume.name, 'another'):
            result = worker.attach(volume, name)
            assert result.error.code == 'host_tool_failed', result.as_dict()
            assert 'blocklisted' in result.error.message
    finally:
        bed.blocklist(False)
    # And it can be had when the host is served again
    attached(worker, volume)
    detached(worker, volume.name)
    assert bed.snapshot() == before
