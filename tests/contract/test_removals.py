# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged helper never removes, whoever asks it, and however.

The verbs are called as a worker would that somebody has taken over.
"""

from collections.abc import Callable
import pathlib
import uuid

import pytest

from attachworker import objects
from attachworker.host import encryption
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds
from tests.contract import test_every_connector as every

Make = every.Make
Removal = Callable[[], object]

_SIZE = 64 << 20


@pytest.fixture(
    params=sorted(every.MAKERS.keys() - beds.ELSEWHERE - every.FILES)
)
def make(request: pytest.FixtureRequest, bed: beds.Bed) -> Make:
    """Makes a volume of each protocol whose volumes are disks."""
    return lambda: every.MAKERS[request.param](bed)


def removals_of_disk(bed: beds.Bed, disk: str) -> list[Removal]:
    """All verbs by which a disk can be taken away, or what it depends on."""
    place = (bed.root / 'sys/class/block' / disk).resolve()
    if disk.startswith('loop'):
        raise ValueError('which path it was made for, the disk does not say')
    if disk.startswith('rbd'):
        number = int(disk.removeprefix('rbd'))
        directory = bed.root / 'sys/bus/rbd/devices' / str(number)
        instance = directory.stat().st_ino
        return [
            lambda: bed.verbs.rbd.remove(number, instance, False),
            lambda: bed.verbs.rbd.remove(number, instance, True),
        ]
    if disk.startswith('nvme'):
        return [
            lambda one=one: bed.verbs.nvme.delete(one.name, one.stat().st_ino)
            for one in (bed.root / 'sys/class/nvme').iterdir()
        ]
    hctl = place.parent.parent.name
    sessions = (
        int(part.removeprefix('session'))
        for part in place.parts
        if part.startswith('session')
    )
    return [
        lambda: bed.verbs.multipath.remove_path(disk),
        lambda: bed.verbs.scsi.delete(hctl),
        # a port of Fibre Channel has none
        *(
            lambda session=session: bed.verbs.iscsi.logout(session, 30.0)
            for session in sessions
        ),
    ]


def removals_of_map(
    bed: beds.Bed, device: objects.DeviceInfo
) -> list[Removal]:
    name = device.path.removeprefix('/dev/')
    return [
        lambda: bed.verbs.multipath.set_queueing(name, False),
        lambda: bed.verbs.multipath.forget(device.multipath_id),
        lambda: bed.verbs.multipath.remove_map(name),
    ]


def all_refused(bed: beds.Bed, removals: list[Removal], what: str) -> None:
    before = bed.snapshot()
    assert removals
    for removal in removals:
        with pytest.raises(PermissionError, match=f'carries {what} of this'):
            removal()
    assert bed.snapshot() == before


def detached(worker: harness.Harness, volume: beds.Volume) -> None:
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []


@pytest.mark.parametrize('use', ['/boot', 'swap'])
def test_a_disk_that_the_host_lives_on(
    bed: beds.Bed, worker: harness.Harness, make: Make, use: str
) -> None:
    # Given a volume that the host itself uses
    volume = make()
    result = worker.attach(volume)
    assert result.status == 'attached', result.as_dict()
    path = result.device.path
    disk = path.removeprefix('/dev/')
    removals: list[Removal] = (
        [lambda: bed.verbs.loop.detach(disk, volume.target)]
        if volume.protocol == 'local'
        else removals_of_disk(bed, disk)
    )
    with bed.used_by_host(path, use):
        # Then no verb takes it away, and no request does
        all_refused(bed, removals, use)
        forced = worker.detach(volume.name, force=True)
        assert forced.error.code == 'in_use', forced.as_dict()
        assert f'this host: {use}' in forced.error.message
    # And once the host does without, it goes
    detached(worker, volume)


def test_a_map_that_the_host_lives_on(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a map with two paths that the host itself uses
    volume = bed.create_volume(portals=2, size=_SIZE)
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.status == 'attached', result.as_dict()
    device = result.device
    with bed.used_by_host(device.path, '/boot'):
        # Then neither it nor anything below it goes
        all_refused(bed, removals_of_map(bed, device), '/boot')
        for path in device.paths:
            all_refused(bed, removals_of_disk(bed, path.device), '/boot')
    detached(worker, volume)


def test_a_mapping_that_the_host_lives_on(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an encrypted volume that the host itself uses
    volume = bed.create_volume(size=_SIZE)
    key = {'provider': 'plain', 'key': 'a key'}
    result = worker.attach(volume, encryption=key)
    assert result.status == 'attached', result.as_dict()
    device = result.device
    name = encryption.name_of(volume.name)
    with bed.used_by_host(device.path, '/boot'):
        # Then neither the mapping goes nor what is below it
        all_refused(bed, [lambda: bed.verbs.encryption.close(name)], '/boot')
        disk = device.paths[0].device
        all_refused(bed, removals_of_disk(bed, disk), '/boot')
    detached(worker, volume)


def detach_by_connection(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.OperationResult:
    """Of what the worker has no record of."""
    request = objects.DetachRequest(
        request_id=str(uuid.uuid4()),
        connection_info=volume.connection_info(),
        **values,
    )
    return worker.api.detach_volume({}, worker.name, request)


def test_what_others_have_attached_does_not_go_by_force(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a disk that somebody else has attached, and uses
    volume = bed.create_volume()
    somebody = actors.Somebody(bed, volume)
    path = f'/dev/{somebody.node().name}'
    with bed.opened(path):
        # Then force does not take it, whatever the attachment is called
        for name in (None, 'any'):
            result = detach_by_connection(
                worker, volume, force=True, attachment_id=name
            )
            assert result.error.code == 'in_use', result.as_dict()
            assert 'allow_forced_foreign_detach' in result.error.message
            assert not result.error.retryable
    somebody.check()
    # And without force it goes once nobody uses it
    result = detach_by_connection(worker, volume)
    assert result.status == 'detached', result.as_dict()
    assert not somebody.node().exists()
    # Of what is not there any more, there is nothing to refuse
    result = detach_by_connection(worker, volume, force=True)
    assert result.status == 'detached', result.as_dict()
    somebody.close()


def test_the_operator_may_allow_it(
    bed: beds.Bed, tmp_path: pathlib.Path
) -> None:
    volume = bed.create_volume()
    somebody = actors.Somebody(bed, volume)
    options = {'allow_forced_foreign_detach': True}
    with harness.Harness(bed, state_path=tmp_path, **options) as allowed:
        with bed.opened(f'/dev/{somebody.node().name}'):
            result = detach_by_connection(allowed, volume, force=True)
        assert result.status == 'detached', result.as_dict()
    assert not somebody.node().exists()
    somebody.close()


def test_a_disk_of_others_that_the_host_lives_on(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """A request names what it connects to, and the worker has no record."""
    volume = bed.create_volume(size=_SIZE)
    somebody = actors.Somebody(bed, volume)
    path = f'/dev/{somebody.node().name}'
    with bed.used_by_host(path, '/boot'):
        result = detach_by_connection(worker, volume, force=True)
        assert result.error.code == 'in_use', result.as_dict()
        assert 'this host: /boot' in result.error.message
        assert somebody.node().exists()
    somebody.close()
