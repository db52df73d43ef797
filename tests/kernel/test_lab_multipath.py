# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What tests take for granted of multipathd and of storage that changes.

Nothing of attachworker is used here: if these fail, it is not its fault.
"""

import pathlib
import shutil
import subprocess

import pytest

from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel import daemons
from tests.kernel import test_lab as by_hand

pytestmark = pytest.mark.kernel

BLOCK = pathlib.Path('/sys/class/block')


def disks(volume: contract.Volume) -> dict[str, str]:
    """The disk of a volume by portal."""
    found = {}
    for path in pathlib.Path('/dev/disk/by-path').glob('ip-*'):
        portal, _, rest = path.name.removeprefix('ip-').partition('-iscsi-')
        if rest == f'{volume.target}-lun-{volume.lun}':
            found[portal] = path.resolve().name
    return found


def settled() -> bool:
    """True when udevd has handled all events."""
    subprocess.run(['udevadm', 'settle', '--timeout=30'], check=True)
    return True


def attach(volume: contract.Volume) -> dict[str, str]:
    for portal in volume.portals:
        assert by_hand.log_in(volume, portal) == 0
    by_hand.scan(volume.lun)
    by_hand.wait_until(
        lambda: settled() and len(disks(volume)) == len(volume.portals)
    )
    return disks(volume)


def detach(volume: contract.Volume) -> None:
    # multipathd gives up a map whose last path goes while udev has it open
    by_hand.wait_until(lambda: settled() and flushed(volume))
    by_hand.log_out(volume)
    by_hand.forget(volume)
    pathlib.Path('/etc/multipath/wwids').unlink(missing_ok=True)


def flushed(volume: contract.Volume) -> bool:
    subprocess.run(
        ['multipath', '-f', f'3{volume.wwn}'],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    uuids = [path.read_text().strip() for path in BLOCK.glob('dm-*/dm/uuid')]
    return f'mpath-3{volume.wwn}' not in uuids


def states() -> list[str]:
    answer = daemons.ask_multipathd('show paths raw format %t')
    return sorted(answer.splitlines())


def test_map_of_two_paths_survives_one(bed: kernel_bed.KernelBed) -> None:
    # iscsiadm, used by hand, may leave its lock; the next one takes it away
    pathlib.Path('/run/lock/iscsi/lock').unlink(missing_ok=True)
    before = bed.snapshot()
    volume = bed.create_volume(portals=2)
    names = attach(volume)
    by_hand.wait_until(lambda: bed.snapshot()['maps'])
    picture = bed.snapshot()
    assert picture['maps'] == [f'mpath-3{volume.wwn}']
    assert picture['wwids'] == [f'/3{volume.wwn}/']
    assert sorted(daemons.multipathd_paths()) == sorted(names.values())
    assert picture['multipathd_paths'] == picture['block_devices']
    by_hand.wait_until(lambda: states() == ['active'] * 2)

    bed.kill_path(volume, volume.portals[0])
    # until then, I/O through the path waits
    by_hand.wait_until(lambda: states() == ['active', 'failed'], 30)
    assert bed.read('/dev/dm-0') == volume.pattern
    bed.restore_path(volume, volume.portals[0])
    by_hand.wait_until(lambda: states() == ['active'] * 2, 30)

    detach(volume)
    by_hand.wait_for_snapshot(bed, before)


def test_settings_of_multipathd(bed: kernel_bed.KernelBed) -> None:
    bed.set_multipathd('no', user_friendly_names=True, queueing=True)
    volume = bed.create_volume()
    attach(volume)
    by_hand.wait_until(lambda: bed.snapshot()['maps'])
    assert (BLOCK / 'dm-0/dm/name').read_text() == 'mpatha\n'
    command = 'show maps raw format %Q'
    assert daemons.ask_multipathd(command).strip() == 'on'
    bed.stop_multipathd()
    assert bed.snapshot()['multipathd_paths'] == []
    assert len(bed.snapshot()['maps']) == 1
    bed.set_multipathd()
    assert len(bed.snapshot()['multipathd_paths']) == 1
    detach(volume)
    by_hand.wait_until(lambda: not bed.snapshot()['maps'])


@pytest.mark.parametrize('block_size', [512, 4096])
def test_volume_grows(bed: kernel_bed.KernelBed, block_size: int) -> None:
    volume = bed.create_volume(resizable=True, block_size=block_size)
    (disk,) = attach(volume).values()
    queue = BLOCK / disk / 'queue'
    assert int((queue / 'logical_block_size').read_text()) == block_size
    assert bed.read(f'/dev/{disk}') == volume.pattern

    bed.resize_volume(volume, 2 * volume.size)
    (BLOCK / disk / 'device/rescan').write_text('1')

    assert int((BLOCK / disk / 'size').read_text()) * 512 == 2 * volume.size
    detach(volume)


def test_one_path_leads_to_another_volume(
    bed: kernel_bed.KernelBed,
) -> None:
    bed.stop_multipathd()
    volume = bed.create_volume(portals=2)
    other = bed.create_volume(on=volume, mapped=False)
    bed.remap(volume, other, portal=volume.portals[1])
    names = attach(volume)
    first, second = (names[portal] for portal in volume.portals)
    assert bed.read(f'/dev/{first}') == volume.pattern
    assert bed.read(f'/dev/{second}') == other.pattern
    assert set(by_hand.disks()) == {volume.wwn, other.wwn}
    bed.remap(volume, volume)
    assert bed.read(f'/dev/{second}') == volume.pattern
    detach(volume)
    bed.set_multipathd()


def test_discovery_may_want_a_password(bed: kernel_bed.KernelBed) -> None:
    volume = bed.create_volume(portals=2)
    portal = volume.portals[0]
    command = ('-m', 'discovery', '-t', 'sendtargets', '-p', portal)
    assert by_hand.iscsiadm(*command) == 0
    bed.set_discovery_chap(('user', 'a-long-password'))
    assert by_hand.iscsiadm(*command) == 24
    bed.set_discovery_chap(None)
    assert by_hand.iscsiadm(*command) == 0
    by_hand.forget(volume)
    shutil.rmtree(f'/etc/iscsi/send_targets/{portal.replace(":", ",")}')
