# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


import errno
import pathlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as hosts
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import rbd
from attachworker.connectors.rbd import mappings
from attachworker.connectors.rbd.mappings import Mappings
from attachworker.host import network
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.on_files import on_files

FSID = '12345678-1234-1234-1234-123456789012'
PORTAL = '192.0.2.1:6789,192.0.2.2:6789'


def made(root: pathlib.Path, **monitors: list[str]) -> Mappings:
    """On a tree of files; mapping N was made through monitors mN."""
    privileged = types.SimpleNamespace(
        monitors=lambda number: monitors[f'm{number}']
    )
    return Mappings(on_files(root, rbd=privileged))


def mapping(root: pathlib.Path, number: int, **values: object) -> None:
    directory = root / f'sys/bus/rbd/devices/{number}'
    directory.mkdir(parents=True)
    known = {
        'cluster_fsid': FSID,
        'pool': 'volumes',
        'pool_id': 2,
        'pool_ns': '',
        'name': 'one',
        'image_id': '10ab',
        'current_snap': '-',
        'size': 1 << 20,
    }
    for name, value in (known | values).items():
        if value is not None:
            (directory / name).write_text(f'{value}\n')


def test_a_kernel_without_the_driver(tmp_path: pathlib.Path) -> None:
    assert not made(tmp_path).available()
    assert made(tmp_path).mappings() == []
    mapping(tmp_path, 0)
    assert made(tmp_path).available()


def test_what_is_mapped(tmp_path: pathlib.Path) -> None:
    mapping(tmp_path, 0)
    mapping(tmp_path, 1, pool_ns='tenant', current_snap='daily')
    mapping(tmp_path, 2, pool_ns=None)
    mapping(tmp_path, 3, size=None)
    found = {one.number: one for one in made(tmp_path).mappings()}
    assert set(found) == {0, 1, 2}
    assert found[0].disk == 'rbd0'
    assert found[0].size == 1 << 20
    assert [one.spec for one in found.values()] == [
        'volumes/one',
        'volumes/tenant/one@daily',
        'volumes/one',
    ]


@pytest.mark.parametrize(
    'values',
    [
        {'cluster_fsid': 'another'},
        {'pool_id': 3},
        {'pool_ns': 'tenant'},
        {'image_id': '10ac'},
        {'current_snap': 'daily'},
    ],
    ids=str,
)
def test_images_that_differ(
    tmp_path: pathlib.Path, values: dict[str, object]
) -> None:
    mapping(tmp_path, 0)
    mapping(tmp_path, 1)
    mapping(tmp_path, 2, **values)
    first, same, other = made(tmp_path).mappings()
    assert first.identifier == same.identifier
    assert first.identifier != other.identifier


@pytest.mark.parametrize(
    'monitors',
    [
        ['192.0.2.2:6789'],
        ['192.0.2.9:6789', '192.0.2.1'],
        ['[2001:db8::1]:3300', '192.0.2.2'],
        # the same one, in the other version of the protocol
        ['192.0.2.1:3300'],
    ],
)
def test_one_monitor_tells_the_cluster(
    tmp_path: pathlib.Path, monitors: list[str]
) -> None:
    mapping(tmp_path, 0)
    (found,) = made(tmp_path, m0=monitors).at(PORTAL, 'volumes/one')
    assert found.number == 0
    assert made(tmp_path, m0=monitors).at(PORTAL, 'volumes/two') == []


def test_the_same_image_of_another_cluster(tmp_path: pathlib.Path) -> None:
    mapping(tmp_path, 0)
    for monitors in ['192.0.2.1:3301'], ['192.0.2.3'], ['[2001:db8::1]']:
        host = made(tmp_path, m0=monitors)
        assert host.at(PORTAL, 'volumes/one') == []


@pytest.mark.parametrize(
    ('ours', 'wanted'), [([1], [1]), ([], [0, 1]), ([0, 1], [0, 1])]
)
def test_what_somebody_else_has_made_beside_ours(
    tmp_path: pathlib.Path, ours: list[int], wanted: list[int]
) -> None:
    mapping(tmp_path, 0)
    mapping(tmp_path, 1)
    privileged = types.SimpleNamespace(
        monitors=lambda number: ['192.0.2.1'],
        is_ours=lambda number: number in ours,
    )
    host = Mappings(on_files(tmp_path, rbd=privileged))
    found = host.at(PORTAL, 'volumes/one')
    assert sorted(one.number for one in found) == wanted


def test_an_address_of_ipv6_has_one_spelling(tmp_path: pathlib.Path) -> None:
    mapping(tmp_path, 0)
    host = made(tmp_path, m0=['[2001:0db8:0::1]'])
    assert len(host.at('[2001:db8::1]:6789', 'volumes/one')) == 1


def test_one_that_goes_meanwhile(tmp_path: pathlib.Path) -> None:
    mapping(tmp_path, 0)

    def monitors(number: int) -> list[str]:
        raise FileNotFoundError(errno.ENOENT, 'gone')

    privileged = types.SimpleNamespace(monitors=monitors)
    host = Mappings(on_files(tmp_path, rbd=privileged))
    assert host.at(PORTAL, 'volumes/one') == []


def test_busy_for_a_moment(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    # Given an image that udev has open when it is to go
    found = mapped(bed, host, deadline)
    fault = plan.arm(
        faults.Fault.FAIL_BEFORE, 'rbd.remove', times=2, number=errno.EBUSY
    )
    assert Mappings(host).remove(found, deadline)
    assert fault.fired == 2
    assert Mappings(host).mappings() == []


def test_a_mapping_that_has_the_number_by_now_stays(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given an image that somebody unmaps, and maps again, while it is decided
    # whether it may go
    volume = bed.create_rbd_volume()
    first = mapped(bed, host, deadline, volume)
    settings = types.SimpleNamespace(device_timeout=10)
    connector = rbd.RBDConnector(host, settings)
    (target,) = objects.ConnectionInfo.from_dict(
        volume.connection_info()
    ).targets
    (path,) = connector.paths(target)
    assert connector.current(path) == path

    def may_remove(path: base.Path) -> tuple[bool, list[str]]:
        assert Mappings(host).remove(first, deadline)
        assert mapped(bed, host, deadline, volume).disk == first.disk
        return True, []

    holdings: Any = types.SimpleNamespace(
        made_device=lambda target: True, release=lambda target: None
    )
    # When the path is taken away
    claim = base.Claim(target, holdings, deadline)
    assert connector.disconnect(claim, may_remove) == []
    # Then what has its number is none of ours
    assert [one.disk for one in Mappings(host).mappings()] == [first.disk]
    assert connector.current(path) is None


def test_busy_for_good(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    found = mapped(bed, host, deadline)
    with bed.opened(f'/dev/{found.disk}'):
        with pytest.raises(OSError, match='busy') as caught:
            Mappings(host).remove(found, deadlines.Deadline.after(0.5))
    assert caught.value.errno == errno.EBUSY
    assert Mappings(host).find(found.disk) is not None


def test_any_monitor_that_answers(bed: beds.SimulatedBed) -> None:
    portals = list(bed.create_rbd_volume().portals)
    bed.hang_portal(portals[0])
    bed.stop_portal(portals[1])
    assert network.probe_any(portals, 10.0) == portals[2]
    bed.stop_portal(portals[2])
    with pytest.raises(exception.TargetUnreachable) as caught:
        network.probe_any(portals, 0.5)
    assert portals[0] in str(caught.value)


def mapped(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    deadline: deadlines.Deadline,
    volume: contract.Volume | None = None,
) -> mappings.Mapping:
    volume = volume or bed.create_rbd_volume()
    assert volume.chap is not None
    user, key = volume.chap
    pool, _, image = volume.target.partition('/')
    host.call(
        'rbd.add',
        deadline,
        list(volume.portals),
        pool,
        image,
        '',
        {'name': user},
        'ceph',
        f'[client.{user}]\n\tkey = {key}\n',
        about='test',
    )
    (found,) = Mappings(host).mappings()
    return found
