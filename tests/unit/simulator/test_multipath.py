# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""multipathd and its maps: what multipath-tools do, too."""

from collections.abc import Iterator
import errno
import threading

import pytest

from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import client
from tests.simulator.faults import Fault
from tests.unit.simulator import view


@pytest.fixture
def bed(bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    bed.set_multipathd()
    return bed


@pytest.fixture
def volume(bed: beds.SimulatedBed) -> contract.Volume:
    return bed.create_volume(portals=2)


def maps(bed: beds.SimulatedBed) -> list[str]:
    """The kernel names of the maps that are ready."""
    return sorted(
        path.name
        for path in (bed.root / 'sys/class/block').glob('dm-*')
        if view.text(path / 'size') not in ('', '0')
    )


def slaves(bed: beds.SimulatedBed, name: str = 'dm-0') -> list[str]:
    directory = bed.root / f'sys/class/block/{name}/slaves'
    return sorted(path.name for path in directory.iterdir())


def attach_both(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> list[view.Device]:
    devices = [kernel.attach(volume, portal) for portal in (0, 1)]
    view.until(lambda: maps(bed) and len(slaves(bed)) == 2)
    return devices


def test_two_paths_become_a_map(
    bed: beds.SimulatedBed,
    kernel: view.Kernel,
    events: client.UeventSource,
    volume: contract.Volume,
) -> None:
    devices = attach_both(bed, kernel, volume)

    disks = sorted(str(device.disk) for device in devices)
    directory = bed.root / 'sys/class/block/dm-0'
    wwid = f'3{volume.wwn}'
    assert view.text(directory / 'dm/uuid') == f'mpath-{wwid}'
    assert view.text(directory / 'dm/name') == wwid
    assert view.text(directory / 'dm/suspended') == '0'
    assert view.text(directory / 'size') == f'{volume.size // 512}'
    for disk in disks:
        below = bed.root / f'sys/class/block/{disk}'
        assert (directory / 'slaves' / disk).resolve() == below.resolve()
        assert (below / 'holders/dm-0').resolve() == directory.resolve()
    for action in ('add', 'change'):
        view.next_event(events, ACTION=action, DEVNAME='dm-0')
    assert bed.control('known_to_multipathd') == disks
    assert sorted(bed.verbs.multipath.map_paths('dm-0')) == [
        (disk, 'active') for disk in disks
    ]
    picture = bed.snapshot()
    assert picture['maps'] == [f'mpath-{wwid}']
    assert picture['wwids'] == [f'/{wwid}/']
    assert picture['multipathd_paths'] == picture['block_devices']
    assert len(disks) == len(picture['block_devices'])


def test_data_of_a_map_is_that_of_its_volume(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    assert bed.read('/dev/dm-0') == volume.pattern
    bed.write('/dev/dm-0', b'x' * 512, offset=8192)
    bed.verbs.block.flush('dm-0')
    bed.verbs.block.check_readable('dm-0', bed.instance('dm-0'))
    assert bed.read('/dev/dm-0', 512, 8192) == b'x' * 512
    assert bed.read(f'/dev/{devices[0].disk}', 512, 8192) == b'x' * 512


def test_single_path_becomes_a_map_only_if_wanted(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    # Given a path that multipathd has looked at, to no avail
    disk = str(kernel.attach(volume).disk)
    view.until(lambda: bed.control('known_to_multipathd') == [disk])
    bed.verbs.multipath.add_path(disk)
    assert maps(bed) == []
    # When its WWID is remembered, then asking makes the map at once
    bed.verbs.multipath.remember(f'3{volume.wwn}')
    bed.verbs.multipath.add_path(disk)
    assert maps(bed) == ['dm-0']
    # And the next path joins by itself
    kernel.attach(volume, 1)
    view.until(lambda: len(slaves(bed)) == 2)


@pytest.mark.parametrize(
    ('find', 'alone', 'together'),
    [
        ('no', 1, 1),
        ('greedy', 1, 1),
        ('yes', 0, 1),
        ('smart', 0, 1),
        ('strict', 0, 0),
        (None, 0, 0),
    ],
)
def test_find_multipaths(
    bed: beds.SimulatedBed,
    kernel: view.Kernel,
    volume: contract.Volume,
    find: str | None,
    alone: int,
    together: int,
) -> None:
    bed.set_multipathd(find)
    for portal, wanted in enumerate((alone, together)):
        kernel.attach(volume, portal)
        view.until(
            lambda known=portal + 1: (
                len(bed.control('known_to_multipathd')) == known
            )
        )
        assert len(maps(bed)) == wanted


def test_friendly_names(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    bed.set_multipathd('no', user_friendly_names=True)
    other = bed.create_volume()
    kernel.attach(volume)
    view.until(lambda: len(maps(bed)) == 1)
    kernel.attach(other)
    view.until(lambda: len(maps(bed)) == 2)
    names = [
        view.text(bed.root / f'sys/class/block/{name}/dm/name')
        for name in maps(bed)
    ]
    assert names == ['mpatha', 'mpathb']


def test_removing_paths_takes_the_map_along_with_the_last(
    bed: beds.SimulatedBed,
    kernel: view.Kernel,
    events: client.UeventSource,
    volume: contract.Volume,
) -> None:
    first, second = (
        str(device.disk) for device in attach_both(bed, kernel, volume)
    )
    bed.verbs.multipath.remove_path(first)
    assert slaves(bed) == [second]
    assert not list((bed.root / f'sys/class/block/{first}/holders').iterdir())
    bed.verbs.multipath.remove_path(first)  # not known any more: fine
    bed.verbs.multipath.remove_path(second)
    assert maps(bed) == []
    assert not (bed.root / 'dev/dm-0').exists()
    assert bed.control('known_to_multipathd') == []
    view.next_event(events, ACTION='remove', DEVNAME='dm-0')


def test_map_goes_with_the_last_disk_of_the_kernel(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    for device in devices:
        bed.verbs.scsi.delete(device.hctl)
    view.until(lambda: bed.snapshot()['maps'] == [])
    assert bed.control('known_to_multipathd') == []
    assert bed.snapshot()['wwids'] == [f'/3{volume.wwn}/']


def test_open_map_outlives_its_paths(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    with bed.opened('/dev/dm-0'):
        with pytest.raises(OSError, match='busy') as caught:
            bed.verbs.multipath.remove_map('dm-0')
        assert caught.value.errno == errno.EBUSY
        for device in devices:
            bed.verbs.scsi.delete(device.hctl)
        view.until(lambda: slaves(bed) == [])
        assert maps(bed) == ['dm-0']
        with pytest.raises(OSError, match='error'):
            bed.verbs.block.flush('dm-0')
    bed.verbs.multipath.remove_map('dm-0')
    assert maps(bed) == []


def test_map_with_something_on_top_is_not_removed(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    attach_both(bed, kernel, volume)
    bed.add_holder('dm-0', 'dm-7')
    with pytest.raises(OSError, match='busy'):
        bed.verbs.multipath.remove_map('dm-0')
    bed.remove_holder('dm-0', 'dm-7')
    bed.verbs.multipath.remove_map('dm-0')
    # what it was made of stays known
    assert len(bed.control('known_to_multipathd')) == 2


def test_size_changes_step_by_step(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    old, new = volume.size // 512, volume.size // 256

    def sizes() -> list[int]:
        names = [*(str(device.disk) for device in devices), 'dm-0']
        blocks = bed.root / 'sys/class/block'
        return [int(view.text(blocks / name / 'size')) for name in names]

    bed.resize_volume(volume, new * 512)
    assert sizes() == [old, old, old]
    bed.verbs.scsi.rescan(devices[0].hctl)
    assert sizes() == [new, old, old]
    with pytest.raises(OSError, match='differ'):
        bed.verbs.multipath.resize_map('dm-0')
    bed.verbs.scsi.rescan(devices[1].hctl)
    assert sizes() == [new, new, old]
    bed.verbs.multipath.resize_map('dm-0')
    assert sizes() == [new, new, new]
    assert bed.read('/dev/dm-0', 512, volume.size) == bytes(512)


def test_broken_path_is_failed_until_it_is_back(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    disk = str(devices[0].disk)
    bed.kill_path(volume, volume.portals[0])
    assert kernel.session(volume).state == 'FAILED'
    assert dict(bed.verbs.multipath.map_paths('dm-0'))[disk] == 'failed'
    with pytest.raises(OSError, match='error'):
        bed.verbs.block.check_readable(disk, bed.instance(disk))
    with pytest.raises(OSError, match='error'):
        bed.verbs.scsi.inquiry(disk, bed.instance(disk), 0x83)
    assert bed.read('/dev/dm-0') == volume.pattern
    bed.restore_path(volume, volume.portals[0])
    assert kernel.session(volume).state == 'LOGGED_IN'
    assert dict(bed.verbs.multipath.map_paths('dm-0'))[disk] == 'active'
    assert bed.read(f'/dev/{disk}') == volume.pattern


def test_queueing_waits_for_a_path(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    bed.set_multipathd(queueing=True)
    attach_both(bed, kernel, volume)
    for portal in volume.portals:
        bed.kill_path(volume, portal)
    done = threading.Event()

    def flush() -> None:
        bed.verbs.block.flush('dm-0')
        done.set()

    threading.Thread(target=flush, daemon=True).start()
    assert not done.wait(0.1)
    bed.restore_path(volume, volume.portals[1])
    assert done.wait(view.PATIENCE)


def test_queueing_switched_off_fails_what_waits(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    bed.set_multipathd(queueing=True)
    attach_both(bed, kernel, volume)
    for portal in volume.portals:
        bed.kill_path(volume, portal)
    failed = threading.Event()

    def flush() -> None:
        with pytest.raises(OSError, match='error'):
            bed.verbs.block.flush('dm-0')
        failed.set()

    threading.Thread(target=flush, daemon=True).start()
    assert not failed.wait(0.1)
    bed.verbs.multipath.set_queueing('dm-0', False)
    assert failed.wait(view.PATIENCE)


def test_without_multipathd_nothing_happens_to_maps(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    devices = attach_both(bed, kernel, volume)
    bed.stop_multipathd()
    assert not bed.verbs.multipath.running()
    assert maps(bed) == ['dm-0']
    bed.verbs.multipath.remove_path(str(devices[0].disk))
    for verb, argument in (
        ('add_path', ('sda',)),
        ('map_paths', ('dm-0',)),
        ('remove_map', ('dm-0',)),
        ('resize_map', ('dm-0',)),
    ):
        with pytest.raises(ConnectionRefusedError):
            getattr(bed.verbs.multipath, verb)(*argument)
    bed.set_multipathd()
    assert len(bed.control('known_to_multipathd')) == 2
    bed.verbs.multipath.remove_map('dm-0')


def test_list_of_wwids(bed: beds.SimulatedBed) -> None:
    for wwid in ('3600a', '3600b', '3600a'):
        bed.verbs.multipath.remember(wwid)
    assert bed.snapshot()['wwids'] == ['/3600a/', '/3600b/']
    for wwid in ('3600a', 'never-there'):
        bed.verbs.multipath.forget(wwid)
    assert bed.snapshot()['wwids'] == ['/3600b/']


def test_path_that_leads_elsewhere_tells_so_when_asked(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    other = bed.create_volume(on=volume, mapped=False)
    devices = attach_both(bed, kernel, volume)
    first, second = (str(device.disk) for device in devices)
    bed.remap(volume, other, portal=volume.portals[1])
    assert bed.read(f'/dev/{first}') == volume.pattern
    assert bed.read(f'/dev/{second}') == other.pattern
    assert bytes.fromhex(other.wwn) in bed.verbs.scsi.inquiry(
        second, bed.instance(second), 0x83
    )
    assert devices[1].wwid == f'naa.{volume.wwn}'
    bed.remap(volume, volume)
    assert bed.read(f'/dev/{second}') == volume.pattern


@pytest.mark.parametrize(
    ('fault', 'left'), [(Fault.FAIL_BEFORE, 1), (Fault.FAIL_AFTER, 0)]
)
def test_faults(
    bed: beds.SimulatedBed,
    kernel: view.Kernel,
    volume: contract.Volume,
    fault: Fault,
    left: int,
) -> None:
    attach_both(bed, kernel, volume)
    bed.arm(fault, 'multipath.remove_map', match={'map_name': 'dm-0'})
    with pytest.raises(OSError, match='injected'):
        bed.verbs.multipath.remove_map('dm-0')
    assert len(maps(bed)) == left


def test_map_vanishes(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    attach_both(bed, kernel, volume)
    bed.arm(Fault.VANISH, 'block.flush', match={'device': 'dm-0'})
    bed.verbs.block.flush('dm-0')
    assert maps(bed) == []


def test_reboot_leaves_no_map_and_multipathd_running(
    bed: beds.SimulatedBed, kernel: view.Kernel, volume: contract.Volume
) -> None:
    attach_both(bed, kernel, volume)
    bed.restart_host()
    assert maps(bed) == []
    assert bed.control('known_to_multipathd') == []
    attach_both(bed, kernel, volume)
