# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Attaches that must fail, quickly, with the right code, leaving nothing."""

import time

import pytest

from tests import harness
from tests.contract import bed as beds


def refused(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> tuple[str, str]:
    """Error code and step of an attach that must leave nothing behind."""
    before = worker.bed.snapshot()
    result = worker.attach(volume, **values)
    assert result.status == 'failed', result.as_dict()
    assert result.device is None
    assert result.leftovers == []
    assert worker.bed.snapshot() == before
    assert worker.attachments() == []
    step = (result.error.step or '').partition(':')[0]
    return result.error.code, step


def test_dead_portal(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    bed.stop_portal(volume.portals[0])
    started = time.monotonic()
    assert refused(worker, volume) == ('target_unreachable', 'ConnectTarget')
    assert time.monotonic() - started < 30  # os-brick: 363 s
    bed.start_portal(volume.portals[0])


def test_all_portals_dead_tells_the_first(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    for portal in volume.portals:
        bed.stop_portal(portal)
    result = worker.attach(volume)
    assert result.error.code == 'target_unreachable'
    first = f'{volume.portals[0]},{volume.target},{volume.lun}'
    assert result.error.step == f'ConnectTarget:{first}'
    for portal in volume.portals:
        bed.start_portal(portal)


def test_wrong_password(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume(chap=('user', 'a secret word'))
    info = volume.connection_info()
    info['data']['auth_password'] = 'another secret'
    assert refused(worker, volume, connection_info=info) == (
        'auth_failed',
        'ConnectTarget',
    )


def test_target_that_is_not_there(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    info = volume.connection_info()
    info['data']['target_iqn'] += '-other'
    assert refused(worker, volume, connection_info=info) == (
        'login_failed',
        'ConnectTarget',
    )


def test_lun_not_mapped(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_volume()
    other = bed.create_volume(on=volume)
    bed.remove_volume(other)
    assert refused(worker, other) == ('device_not_found', 'ConnectTarget')


def test_other_volume_than_expected(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    assert refused(worker, volume, expected_wwn='naa.6' + '0' * 31) == (
        'identity_mismatch',
        'FindWwn',
    )


def test_more_paths_than_there_can_be(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    assert refused(worker, volume, min_paths=2) == (
        'not_enough_paths',
        'GatherPaths',
    )


def test_failure_harms_no_other_volume_of_the_target(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attached volume
    volume = bed.create_volume()
    path = worker.attach(volume).device.path
    # When another attach to the same target fails
    other = bed.create_volume(on=volume)
    bed.remove_volume(other)
    before = bed.snapshot()
    result = worker.attach(other)
    assert result.error.code == 'device_not_found'
    # Then the first volume is still there
    assert bed.snapshot() == before
    assert bed.read(path) == volume.pattern
    assert worker.detach(volume.name).status == 'detached'


@pytest.mark.parametrize('again', ['same volume', 'unmapped volume'])
def test_lun_given_to_another_volume(
    bed: beds.Bed, worker: harness.Harness, again: str
) -> None:
    # Given an attached volume whose LUN is mapped to another one meanwhile
    first = bed.create_volume()
    keeper = bed.create_volume(on=first)
    worker.attach(keeper)
    worker.attach(first)
    bed.remove_volume(first)
    other = bed.create_volume(on=keeper, lun=first.lun)
    # When the other one is attached, then it is refused: the kernel has the
    # first one at this LUN, and somebody owns it
    result = worker.attach(other)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    # But once the first is detached, the other one can come
    assert worker.detach(first.name).status == 'detached'
    result = worker.attach(other)
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == other.pattern
    assert result.device.scsi_wwn == f'3{other.wwn}'
    for volume in (other, keeper):
        assert worker.detach(volume.name).status == 'detached'
