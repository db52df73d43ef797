# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Several paths under one map: what is attached, and what stays."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import time

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.contract import test_attach as steps


def attached(
    worker: harness.Harness,
    volume: beds.Volume,
    wwid: str | None = None,
    **values: object,
) -> objects.OperationResult:
    """An attach of a volume that must succeed with a map of it.

    :param wwid: what multipathd calls the volume, if that is not the default
    """
    wwid = wwid or f'3{volume.wwn}'
    result = steps.attached(worker, volume, multipath=True, **values)
    assert result.device.path.startswith('/dev/dm-'), result.as_dict()
    assert result.device.multipath_id == wwid
    assert f'mpath-{wwid}' in worker.bed.snapshot()['maps']
    return result


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.05)


def states(device: objects.DeviceInfo) -> dict[str, str]:
    """State of each path, by portal."""
    return {path.portal: path.state for path in device.paths}


def sysfs(bed: beds.Bed, device: str) -> pathlib.Path:
    return bed.root / 'sys/class/block' / device.removeprefix('/dev/')


def test_two_paths_one_map(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a volume behind two portals
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    # When it is attached with multipath
    result = attached(worker, volume, min_paths=2)
    # Then the caller gets a map of both paths, named by its identity
    device = result.device
    assert device.scsi_wwn == device.multipath_id
    assert (device.size, device.degraded) == (volume.size, False)
    assert states(device) == dict.fromkeys(volume.portals, 'connected')
    disks = {path.device for path in device.paths}
    slaves = sysfs(bed, device.path) / 'slaves'
    assert {path.name for path in slaves.iterdir()} == disks
    assert device.to_brick() == {
        'type': 'block',
        'path': device.path,
        'scsi_wwn': f'3{volume.wwn}',
        'multipath_id': f'3{volume.wwn}',
    }
    assert (result.warnings, result.leftovers) == ([], [])
    # And it takes I/O
    assert bed.read(device.path) == volume.pattern
    bed.write(device.path, b'written' * 64, offset=8192)
    # And when it is detached, then nothing is left: no map, no path that
    # multipathd knows, no line of its list, no session
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before
    again = attached(worker, volume)
    assert bed.read(again.device.path, 448, 8192) == b'written' * 64
    steps.detached(worker, volume.name)


def test_dead_portal_of_two(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given an attach that took so long with both portals alive
    volume = bed.create_volume(portals=2)
    started = time.monotonic()
    attached(worker, volume, min_paths=2)
    alive = time.monotonic() - started
    steps.detached(worker, volume.name)
    # When one is dead
    dead, good = volume.portals
    bed.stop_portal(dead)
    started = time.monotonic()
    result = attached(worker, volume)
    # Then the caller waits no longer, and is told; one measurement on a busy
    # machine is off by more than the tenth that is allowed
    assert time.monotonic() - started < 1.1 * alive + 2
    assert result.device.degraded
    assert states(result.device)[good] == 'connected'
    assert states(result.device)[dead] in ('failed', 'connecting')
    assert bed.read(result.device.path) == volume.pattern
    # And once it has been given up, it is seen to have failed

    def failed() -> bool:
        found = worker.api.get_attachment({}, worker.name, volume.name)
        (path,) = (one for one in found.device.paths if one.portal == dead)
        return (path.state, path.error) == ('failed', 'target_unreachable')

    until(failed)
    assert worker.attachments() == [f'{volume.name} degraded']
    bed.start_portal(dead)
    steps.detached(worker, volume.name)


def test_fewer_paths_than_wanted(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    bed.stop_portal(volume.portals[1])
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.error.code == 'not_enough_paths', result.as_dict()
    assert (result.device, result.leftovers) == (None, [])
    bed.start_portal(volume.portals[1])
    assert bed.snapshot() == before


def test_without_multipathd(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
) -> None:
    volume = bed.create_volume(portals=2)
    bed.stop_multipathd()
    before = bed.snapshot()
    # When a map is demanded, then that fails and leaves nothing
    result = worker.attach(volume, multipath=True, enforce_multipath=True)
    assert result.error.code == 'multipath_failed', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
    # And when it is only asked for, then the caller gets a path, is told so,
    # and the path does not claim to be a map
    result = steps.attached(worker, volume, multipath=True)
    assert result.device.multipath_id is None
    assert result.device.degraded
    assert len(result.warnings) == 1
    assert 'multipathd' in result.warnings[0]
    assert 'multipath_id' not in result.device.to_brick()
    assert bed.read(result.device.path) == volume.pattern
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('portals', [2, 1], ids=['two paths', 'one path'])
@pytest.mark.parametrize(
    'settings',
    [
        # What is not configured is strict, as on a plain Debian host.
        {'find_multipaths': None},
        {'find_multipaths': 'strict'},
        {'find_multipaths': 'off'},
        {'find_multipaths': 'on'},
        {'find_multipaths': 'greedy'},
        {'find_multipaths': 'smart'},
        {'user_friendly_names': True},
    ],
    ids=['default', 'strict', 'off', 'on', 'greedy', 'smart', 'friendly'],
)
def test_settings_of_multipathd_make_no_difference(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    settings: dict[str, object],
    portals: int,
) -> None:
    multipathd(**settings)
    volume = bed.create_volume(portals=portals)
    before = bed.snapshot()
    result = attached(worker, volume, min_paths=portals)
    assert not result.device.degraded
    assert bed.read(result.device.path) == volume.pattern
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('portals', [1, 2])
@pytest.mark.parametrize('find_multipaths', [None, 'on', 'off'])
def test_multipathd_calls_the_volume_something_else(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    find_multipaths: str | None,
    portals: int,
) -> None:
    # Given a multipathd that is to know volumes by another property
    multipathd(find_multipaths, uid_attribute='ID_WWN')
    volume = bed.create_volume(portals=portals)
    before = bed.snapshot()
    # When a volume is attached, then its map is the one that has its disks
    result = attached(
        worker, volume, wwid=f'0x{volume.wwn[:16]}', min_paths=portals
    )
    assert result.device.scsi_wwn == f'3{volume.wwn}'
    assert bed.read(result.device.path) == volume.pattern
    # And nothing is left of either name after the detach
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.fixture
def read_only_etc(bed: beds.Bed) -> Iterator[None]:
    bed.protect_etc(True)
    yield
    bed.set_up()


@pytest.mark.usefixtures('read_only_etc')
@pytest.mark.parametrize('find_multipaths', [None, 'on', 'off'])
@pytest.mark.parametrize('multipath', [False, True])
def test_etc_is_read_only(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    find_multipaths: str | None,
    multipath: bool,
) -> None:
    # Given a host whose list of WWIDs cannot be written
    multipathd(find_multipaths)
    volume = bed.create_volume()
    before = bed.snapshot()
    # When a volume is attached, then the caller gets what was asked for
    result = steps.attached(worker, volume, multipath=multipath)
    assert result.device.path.startswith(
        '/dev/dm-' if multipath else '/dev/sd'
    )
    assert bed.read(result.device.path) == volume.pattern
    # And the detach leaves nothing
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.fixture
def list_wwid(bed: beds.Bed) -> Iterator[Callable[[str], None]]:
    """Adds a WWID to multipath's list, as its administrator may."""
    added: list[str] = []

    def add(wwid: str) -> None:
        bed.verbs.multipath.remember(wwid)
        added.append(wwid)

    yield add
    for wwid in added:
        bed.verbs.multipath.forget(wwid)


@pytest.mark.parametrize('multipath', [False, True], ids=['disk', 'map'])
@pytest.mark.parametrize('find_multipaths', [None, 'on', 'off'])
def test_a_line_of_the_administrators_stays(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    list_wwid: Callable[[str], None],
    find_multipaths: str | None,
    multipath: bool,
) -> None:
    # Given a volume that multipathd is to make a map of, whoever attaches it
    multipathd(find_multipaths)
    volume = bed.create_volume(portals=2)
    list_wwid(f'3{volume.wwn}')
    before = bed.snapshot()
    # When it is attached twice, and one attach of it fails
    for name in ('one', 'two'):
        steps.attached(worker, volume, attachment_id=name, multipath=multipath)
    failed = worker.attach(volume, 'three', expected_wwn='naa.6' + '0' * 31)
    assert failed.error.code == 'identity_mismatch', failed.as_dict()
    # Then the line is there still after the last detach
    for name in ('one', 'two'):
        steps.detached(worker, name)
    assert bed.snapshot() == before
    # And after an attach of it alone that fails
    failed = worker.attach(volume, 'four', expected_wwn='naa.6' + '0' * 31)
    assert failed.error.code == 'identity_mismatch', failed.as_dict()
    assert bed.snapshot() == before


def test_a_line_of_the_administrators_in_another_spelling_stays(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    list_wwid: Callable[[str], None],
) -> None:
    # Given a multipathd that knows volumes by another property
    multipathd(None, uid_attribute='ID_WWN')
    volume = bed.create_volume()
    wwid = f'0x{volume.wwn[:16]}'
    list_wwid(wwid)
    before = bed.snapshot()
    # When a volume with a line is attached and detached, then the line stays
    attached(worker, volume, wwid=wwid)
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_map_that_nobody_asked_for_goes_with_its_path(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
) -> None:
    # Given a volume attached without multipath
    multipathd(find_multipaths='no')
    volume = bed.create_volume()
    before = bed.snapshot()
    result = steps.attached(worker, volume)
    # When multipathd makes a map on top of it by itself, be it that it looks
    # at the disk once more
    disk = result.device.path.removeprefix('/dev/')

    def has_map() -> bool:
        with contextlib.suppress(OSError):  # udev has yet to look at it
            bed.verbs.multipath.add_path(disk)
        return bool(bed.snapshot()['maps'])

    until(has_map)
    assert not result.device.path.startswith('/dev/dm-')
    # Then the detach takes both away
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_map_in_use(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a map that a process has open
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = attached(worker, volume, min_paths=2).device.path
    during = bed.snapshot()
    with bed.opened(path):
        # When it is detached, then that is refused, and the process is named
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        assert 'process' in result.error.message
        assert bed.snapshot() == during
        assert bed.read(path) == volume.pattern
    # And it goes when nobody has it open any more
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_no_path_works(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
) -> None:
    # Given a map that waits for a path when none works, as none does
    multipathd(queueing=True)
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = attached(worker, volume, min_paths=2).device.path
    name = path.removeprefix('/dev/')
    for portal in volume.portals:
        bed.kill_path(volume, portal)
    until(
        lambda: (
            {state for _, state in bed.verbs.multipath.map_paths(name)}
            == {'failed'}
        )
    )
    during = bed.snapshot()
    # When it is detached, then what was written last might be lost: no
    result = worker.detach(volume.name)
    assert result.error.code == 'flush_failed', result.as_dict()
    assert bed.snapshot() == during
    # But force does it, in time, and says so
    started = time.monotonic()
    result = worker.detach(volume.name, force=True)
    assert time.monotonic() - started < 60
    assert result.status == 'detached', result.as_dict()
    assert 'may be lost' in ' '.join(result.warnings)
    for portal in volume.portals:
        bed.restore_path(volume, portal)
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    'removed',
    [
        ('map',),
        ('path', 'wwid'),
        ('session', 'map'),
        ('session', 'other session', 'wwid'),
    ],
    ids=' and '.join,
)
def test_parts_removed_by_others(
    bed: beds.Bed, worker: harness.Harness, removed: tuple[str, ...]
) -> None:
    # Given a volume of which somebody has taken away parts
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    device = attached(worker, volume, min_paths=2).device
    disk = sysfs(bed, str(device.paths[0].device)) / 'device'
    hctl = disk.resolve().name
    ways: dict[str, Callable[[], object]] = {
        'map': lambda: bed.verbs.multipath.remove_map(
            device.path.removeprefix('/dev/')
        ),
        'path': lambda: bed.verbs.scsi.delete(hctl),
        'session': lambda: bed.drop_session(volume, volume.portals[0]),
        'other session': lambda: bed.drop_session(volume, volume.portals[1]),
        'wwid': lambda: bed.verbs.multipath.forget(f'3{volume.wwn}'),
    }
    for part in removed:
        ways[part]()
    # When it is detached, then the rest goes
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


def test_path_to_another_volume(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a portal that shows another volume at the same LUN
    volume = bed.create_volume(portals=2)
    other = bed.create_volume(on=volume, mapped=False)
    bed.remap(volume, other, portal=volume.portals[1])
    before = bed.snapshot()
    # When the volume is attached through both, then that is refused
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before


def test_one_map_for_all_who_ask(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attached volume
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    first = attached(worker, volume, attachment_id='first', min_paths=2)
    # When it is attached again, then it is the same map
    # (a path that is slow to be found again would be told as connecting)
    again = attached(worker, volume, attachment_id='first', min_paths=2)
    second = attached(worker, volume, attachment_id='second', min_paths=2)
    for result in (again, second):
        assert result.device.path == first.device.path
        assert states(result.device) == states(first.device)
    # And it stays until the last has detached it
    result = worker.detach('first')
    assert result.status == 'detached', result.as_dict()
    assert 'another attachment' in result.warnings[0]
    assert bed.read(second.device.path) == volume.pattern
    steps.detached(worker, 'second')
    assert bed.snapshot() == before


def test_forced_detach_of_an_open_map(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a map that a process has open
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = attached(worker, volume, min_paths=2).device.path
    with bed.opened(path):
        # When its detach is forced
        result = worker.detach(volume.name, force=True)
        # Then all goes that can go
        now = bed.snapshot()
        assert (now['sessions'], now['block_devices']) == ([], [])
        # But an open map cannot, and is not said to be gone
        assert result.status == 'failed', result.as_dict()
        assert path.removeprefix('/dev/') in ' '.join(result.leftovers)
        assert 'was in use by' in ' '.join(result.warnings)
    # And the rest goes as soon as it can
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before
