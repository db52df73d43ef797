# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which storage a verb has to do with."""

import pytest

from attachworker import host as hosts
from attachworker import privileged
from attachworker.host import backends
from tests.simulator import bed as beds
from tests.unit.host import test_scsi


@pytest.fixture
def found(bed: beds.SimulatedBed) -> backends.Backends:
    return backends.Backends(bed.root)


def test_all_that_leads_to_one_storage(
    bed: beds.SimulatedBed, host: hosts.Host, found: backends.Backends
) -> None:
    # Given a disk that comes through a session
    volume = bed.create_volume()
    session, device = test_scsi.connected(host, volume)
    (portal,) = volume.portals
    # Then whatever a verb is about there, it is the same storage
    for about in (
        portal,
        f'{portal},{volume.target}',
        f'session{session.sid}',
        f'host{session.host}',
        device.hctl,
        str(device.disk),
    ):
        assert found.of(about) == '127.0.0.1', about


def test_a_map_is_at_the_storage_of_its_disks(
    bed: beds.SimulatedBed, host: hosts.Host, found: backends.Backends
) -> None:
    _, device = test_scsi.connected(host, bed.create_volume())
    directory = bed.root / 'sys/devices/virtual/block/dm-0/slaves'
    (directory / str(device.disk)).mkdir(parents=True)
    (bed.root / 'sys/class/block/dm-0').symlink_to(directory.parent)
    assert found.of('dm-0') == '127.0.0.1'


@pytest.mark.parametrize(
    'about',
    ['', 'this host', 'sdzz', 'host99', '9:0:0:1', 'session99', 'nvme0']
    + ['/run/volumes/file', 'attachworker-0a', '3600140500000000'],
)
def test_what_is_unknown_stands_for_itself(
    found: backends.Backends, about: str
) -> None:
    assert found.of(about) == about


@pytest.mark.parametrize(
    ('about', 'address'),
    [
        ('192.0.2.1:3260,iqn.2026-01.example:a', '192.0.2.1'),
        ('[2001:db8::1]:4420,nqn.x', '[2001:db8::1]'),
        ('storage.example:3260', 'storage.example'),
    ],
)
def test_portals(found: backends.Backends, about: str, address: str) -> None:
    assert found.of(about) == address


def test_what_cannot_be_read_stands_for_itself(
    bed: beds.SimulatedBed, host: hosts.Host, found: backends.Backends
) -> None:
    """It is for sharing alone: whoever reads next is told."""
    _, device = test_scsi.connected(host, bed.create_volume())
    with bed.unreadable('sys/class/block'):
        assert found.of(str(device.disk)) == str(device.disk)


def test_the_helper_has_the_threads_that_are_counted_on() -> None:
    for context in privileged.CONTEXTS:
        assert context.conf.thread_pool_size == privileged.THREADS
