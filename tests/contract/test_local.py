# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""local: block devices and files of the host itself."""

import contextlib
import errno
import os
import pathlib
import shutil
import sqlite3
import uuid

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.connectors.local import loops
from tests import harness
from tests.contract import bed as beds


def info(path: str, **data: object) -> dict[str, object]:
    return {
        'driver_volume_type': 'local',
        'data': {'device_path': path, **data},
    }


def inside(bed: beds.Bed, path: str) -> pathlib.Path:
    return bed.root / path.lstrip('/')


def linked(bed: beds.Bed, disk: str, name: str = 'link') -> str:
    """The path of a link to a disk, below the root of local volumes."""
    link = inside(bed, f'{beds.LOCAL_ROOT}/{name}')
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    link.symlink_to(inside(bed, disk))
    return f'{beds.LOCAL_ROOT}/{name}'


def test_result_of_a_file(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_local_volume()
    device = worker.attach(volume).device
    assert device.path.startswith('/dev/loop')
    assert device.to_brick() == {'type': 'local', 'path': device.path}
    (path,) = device.paths
    assert (path.portal, path.target, path.lun) == (None, volume.target, None)
    assert (path.device, path.state) == (device.path[5:], 'connected')
    assert worker.detach(volume.name).status == 'detached'


def test_a_block_device_is_used_as_it_is(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a disk of this host, with a link to it in a directory of volumes
    backing = bed.create_volume()
    disk = worker.attach(backing).device.path
    path = linked(bed, disk)
    try:
        before = bed.snapshot()
        # When the link is attached as a volume
        result = worker.attach(backing, 'local', connection_info=info(path))
        # Then it is the disk itself, and nothing was done to it
        assert result.status == 'attached', result.as_dict()
        assert result.device.path == disk
        assert result.device.scsi_wwn is None
        assert bed.snapshot() == before
        report = worker.api.audit({}, worker.name)
        assert {one.state for one in report.attachments} == {'ok'}
        # And it is still there when it is detached
        result = worker.detach('local')
        assert result.status == 'detached', result.as_dict()
        assert bed.snapshot() == before
        assert bed.read(disk) == backing.pattern
    finally:
        inside(bed, path).unlink()
    assert worker.detach(backing.name).status == 'detached'


@pytest.mark.parametrize(
    'path', ['/etc/passwd', '/dev/null', f'{beds.LOCAL_ROOT}/link']
)
def test_other_places_are_refused(
    bed: beds.Bed, worker: harness.Harness, path: str
) -> None:
    volume = bed.create_local_volume()
    link = inside(bed, f'{beds.LOCAL_ROOT}/link')
    link.symlink_to(inside(bed, '/etc/passwd'))
    before = bed.snapshot()
    result = worker.attach(volume, connection_info=info(path))
    link.unlink()
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert 'local_roots' in result.error.message
    assert result.error.step == f'ConnectTarget:{path}'
    assert bed.snapshot() == before


def test_a_link_to_a_device_that_others_can_make(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a directory below a root, to which others may write
    volume = bed.create_volume()
    disk = worker.attach(volume).device.path
    path = linked(bed, disk, 'shared/below/link')
    inside(bed, f'{beds.LOCAL_ROOT}/shared').chmod(0o777)
    before = bed.snapshot()
    # When there is a link to a device, however deep below it
    result = worker.attach(volume, 'local', connection_info=info(path))
    # Then it is refused: it could lead to any device
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert 'nobody but root may write' in result.error.message
    assert bed.snapshot() == before
    # And when nobody can make such a link any more, it is not
    inside(bed, f'{beds.LOCAL_ROOT}/shared').chmod(0o755)
    result = worker.attach(volume, 'local', connection_info=info(path))
    assert result.status == 'attached', result.as_dict()
    assert worker.detach('local').status == 'detached'
    shutil.rmtree(inside(bed, f'{beds.LOCAL_ROOT}/shared'))
    assert worker.detach(volume.name).status == 'detached'


def test_a_block_device_of_which_somebody_has_made_another(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a disk below the loop device of somebody else
    volume = bed.create_volume()
    disk = worker.attach(volume).device.path
    path = linked(bed, disk)
    with bed.loop_device(disk):
        before = bed.snapshot()
        # When it is to be attached as a local volume, then it is refused
        result = worker.attach(volume, 'local', connection_info=info(path))
        assert result.error.code == 'in_use', result.as_dict()
        assert 'loop' in result.error.message
        assert result.leftovers == []
        assert bed.snapshot() == before
    # And who has it may have it again, whatever he puts on top of it
    assert (
        worker.attach(volume, 'local', connection_info=info(path)).device.path
        == disk
    )
    with bed.loop_device(disk):
        for name in ('local', 'another'):
            result = worker.attach(volume, name, connection_info=info(path))
            assert result.status == 'attached', result.as_dict()
    for name in ('another', 'local', volume.name):
        assert worker.detach(name).status == 'detached'
    inside(bed, path).unlink()


def test_paths_of_what_is_not_allowed_are_not_told(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a file that is attached, and a disk that is elsewhere
    volume, backing = bed.create_local_volume(), bed.create_volume()
    device = worker.attach(volume).device.path
    disk = worker.attach(backing).device.path

    def paths(where: str) -> list[str]:
        given = objects.ConnectionInfo.from_dict(info(where))
        return worker.api.get_volume_paths({}, worker.name, given)

    # Then the paths of the file are told
    assert paths(volume.target) == [device]
    # And not that there is a disk, or anything else
    for where in (disk, '/etc/passwd', '/etc/missing'):
        with pytest.raises(exception.InvalidConnectionInfo) as caught:
            paths(where)
        assert 'local_roots' in str(caught.value)
    assert worker.detach(volume.name).status == 'detached'
    assert worker.detach(backing.name).status == 'detached'


@pytest.mark.parametrize('force', [False, True])
def test_a_detach_of_what_is_not_allowed(
    bed: beds.Bed, worker: harness.Harness, force: bool
) -> None:
    # Given a disk that is no local volume, and a file elsewhere
    volume = bed.create_volume()
    disk = worker.attach(volume).device.path
    before = bed.snapshot()
    for where in (disk, '/etc/passwd'):
        # When somebody wants it detached by its connection
        request = objects.DetachRequest(
            request_id=str(uuid.uuid4()),
            connection_info=objects.ConnectionInfo.from_dict(info(where)),
            force=force,
        )
        result = worker.api.detach_volume({}, worker.name, request)
        # Then nothing is done with it
        assert result.error.code == 'invalid_connection_info', result.as_dict()
        assert result.error.step == 'FindPaths'
        assert bed.snapshot() == before
    assert worker.detach(volume.name).status == 'detached'


def test_what_was_attached_can_be_detached_when_its_root_is_no_more(
    bed: beds.Bed,
) -> None:
    volume = bed.create_local_volume()
    before = bed.snapshot()
    with harness.Harness(bed) as worker:
        assert worker.attach(volume).status == 'attached'
        # When the operator allows another directory only
        worker.conf.set_override('local_roots', ['/elsewhere'], group='local')
        result = worker.attach(volume, 'second')
        assert result.error.code == 'invalid_connection_info', result.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


def test_the_helper_itself_refuses_what_is_elsewhere_or_in_use(
    bed: beds.Bed,
) -> None:
    """Whoever has taken over the worker has nobody else to ask."""
    volume = bed.create_local_volume()
    link = inside(bed, f'{beds.LOCAL_ROOT}/link')
    link.symlink_to(inside(bed, volume.target))
    before = bed.snapshot()
    for path in ('/etc/passwd', f'{beds.LOCAL_ROOT}/link'):
        with pytest.raises(PermissionError):
            bed.verbs.loop.attach(path, True)
    with bed.loop_device(volume.target):
        with pytest.raises(OSError, match='has this file') as caught:
            bed.verbs.loop.attach(volume.target, True)
        assert caught.value.errno == errno.ETXTBSY
    assert bed.snapshot() == before
    link.unlink()


def test_a_file_of_somebody_else(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a file behind a loop device that is not ours
    volume = bed.create_local_volume()
    with bed.loop_device(volume.target):
        before = bed.snapshot()
        # Then it is refused, and the device stays
        result = worker.attach(volume)
        assert result.error.code == 'in_use', result.as_dict()
        assert 'loop' in result.error.message
        assert result.leftovers == []
        assert bed.snapshot() == before


def test_what_somebody_else_makes_of_our_file_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attached file, of which somebody else makes a device, too
    volume = bed.create_local_volume()
    device = worker.attach(volume).device
    with bed.loop_device(volume.target):
        # When it is attached again, then it is the one that it was
        assert worker.attach(volume).device.path == device.path
        # When it is detached, then only ours goes
        result = worker.detach(volume.name)
        assert result.status == 'detached', result.as_dict()
        assert result.leftovers == []
        host = bed.host()
        (left,) = loops.Loops(host).devices(volume.target)
        host.close()
        assert f'/dev/{left}' != device.path
        assert bed.read(f'/dev/{left}') == volume.pattern


def test_a_device_of_somebody_else_is_not_taken_by_its_name(
    bed: beds.Bed,
) -> None:
    # Given a device that has the name of one of ours by now
    volume, other = bed.create_local_volume(), bed.create_local_volume()
    bed.verbs.loop.attach(other.target, False)
    host = bed.host()
    found = loops.Loops(host)
    (ours,) = found.devices(other.target)
    with bed.loop_device(volume.target):
        (device,) = found.devices(volume.target)
        # When ours is to go, then neither another's goes, nor another of ours
        for name, path in (
            (device, volume.target),
            (device, other.target),
            (ours, volume.target),
        ):
            with pytest.raises(OSError, match='not made by') as caught:
                bed.verbs.loop.detach(name, path)
            assert caught.value.errno == errno.ESTALE
        assert found.devices(volume.target) == [device]
    bed.verbs.loop.detach(ours, other.target)
    assert found.devices(other.target) == []
    host.close()


def test_a_file_that_loses_its_name(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_local_volume()
    before = bed.snapshot()
    device = worker.attach(volume).device
    os.unlink(inside(bed, volume.target))
    assert bed.read(device.path) == volume.pattern
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_a_file_that_was_made_anew_is_another_volume(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attached file that was deleted, and made anew by the same name
    volume = bed.create_local_volume()
    before = bed.snapshot()
    device = worker.attach(volume).device
    file = inside(bed, volume.target)
    # (the old one keeps its inode, so that the new one gets another)
    os.unlink(file)
    file.write_bytes(b'THE NEW VOLUME'.ljust(volume.size, b'.'))
    # When that name is attached again
    result = worker.attach(volume, 'second')
    # Then nobody is given the data of the old one
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert bed.read(device.path) == volume.pattern
    # And the new one can be had once the old one is gone
    assert worker.detach(volume.name).status == 'detached'
    result = worker.attach(volume, 'second')
    assert bed.read(result.device.path).startswith(b'THE NEW VOLUME')
    assert worker.detach('second').status == 'detached'
    assert bed.snapshot() == before


def test_a_file_that_is_read_only_is_not_given_to_a_writer(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a file that is attached read-only
    volume = bed.create_local_volume()
    before = bed.snapshot()
    reader = info(volume.target, access_mode='ro')
    device = worker.attach(volume, connection_info=reader).device
    # When somebody is to write to it
    result = worker.attach(volume, 'writer')
    # Then that is refused, and the reader keeps it
    assert result.error.code == 'in_use', result.as_dict()
    assert 'read-only' in result.error.message
    assert result.leftovers == []
    assert bed.read(device.path) == volume.pattern
    assert worker.attachments() == [f'{volume.name} attached']
    # And another one that reads may have it, too
    again = worker.attach(volume, 'reader', connection_info=reader)
    assert again.device.path == device.path
    assert worker.detach(volume.name).status == 'detached'
    assert worker.detach('reader').status == 'detached'
    # And then the writer
    result = worker.attach(volume, 'writer')
    assert result.status == 'attached', result.as_dict()
    # whose device is told from one that nobody can write to
    result = worker.attach(volume, 'reader', connection_info=reader)
    assert result.status == 'attached', result.as_dict()
    assert 'can be written to' in ' '.join(result.warnings)
    assert worker.detach('reader').status == 'detached'
    assert worker.detach('writer').status == 'detached'
    assert bed.snapshot() == before


def test_an_attachment_that_an_earlier_version_knows_by_the_inode_alone(
    bed: beds.Bed, tmp_path: pathlib.Path
) -> None:
    # Given a journal of a version that did not know the file system
    volume = bed.create_local_volume()
    before = bed.snapshot()
    with harness.Harness(bed, state_path=tmp_path) as earlier:
        device = earlier.attach(volume).device
    journal = sqlite3.connect(tmp_path / 'journal.sqlite')
    with contextlib.closing(journal), journal:
        journal.execute(
            'UPDATE attachments SET wwn = ?, volume = ?', (volume.wwn,) * 2
        )
    with harness.Harness(bed, state_path=tmp_path) as worker:
        # When it is attached again, or once more, then it is what it was
        for name in (volume.name, 'second'):
            result = worker.attach(volume, name)
            assert result.status == 'attached', result.as_dict()
            assert result.device.path == device.path
        # And it grows, and goes with the last
        bed.resize_volume(volume, 2 * volume.size)
        result = worker.extend(volume.name, 2 * volume.size)
        assert result.status == 'extended', result.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        assert bed.read(device.path) == volume.pattern
        assert worker.detach('second').status == 'detached'
        assert bed.snapshot() == before


def test_read_only(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_local_volume()
    result = worker.attach(
        volume, connection_info=info(volume.target, access_mode='ro')
    )
    assert result.status == 'attached', result.as_dict()
    name = result.device.path.removeprefix('/dev/')
    read_only = inside(bed, f'/sys/class/block/{name}/ro').read_text()
    assert read_only.strip() == '1'
    assert worker.detach(volume.name).status == 'detached'
