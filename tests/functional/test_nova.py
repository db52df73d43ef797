# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Nova's released volume drivers, through attachworker.brick and RabbitMQ."""

from collections.abc import Iterator
import pathlib
from typing import Any

import pytest

from tests import harness
from tests.callers import process
from tests.contract import bed as beds
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed


@pytest.fixture
def nova(
    broker: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
) -> Iterator[process.Caller]:
    made = process.nova(broker.url, worker.name, tmp_path)
    yield made
    made.close()


def life(
    bed: SimulatedBed,
    nova: process.Caller,
    driver: str,
    volume: beds.Volume,
    **values: Any,
) -> None:
    before = bed.snapshot()
    info = volume.connection_info()
    # When Nova connects it
    found = nova('connect', driver, connection_info=info, **values)
    # Then the device is where Nova looks for it, and it is the volume
    path = found['connection_info']['data'].pop('device_path')
    assert bed.read(path) == volume.pattern
    # And nothing else was changed
    assert found['connection_info'] == info
    # When it has grown
    size = 2 * volume.size
    bed.resize_volume(volume, size)
    info['data']['device_path'] = path
    found = nova('extend', driver, connection_info=info, size=size, **values)
    # Then Nova is told how large it is
    assert found['returned'] == size
    # When Nova disconnects it, which it does without the device_info
    nova('disconnect', driver, connection_info=info, **values)
    # Then nothing is left
    assert bed.snapshot() == before


def test_iscsi(bed: SimulatedBed, nova: process.Caller) -> None:
    life(
        bed,
        nova,
        'iscsi',
        bed.create_volume(chap=('user', 'secret-of-it'), resizable=True),
    )


def test_iscsi_with_multipath(bed: SimulatedBed, nova: process.Caller) -> None:
    bed.set_multipathd()
    volume = bed.create_volume(portals=2, resizable=True)
    life(bed, nova, 'iscsi', volume, multipath=True)


def test_fibre_channel(bed: SimulatedBed, nova: process.Caller) -> None:
    life(bed, nova, 'fibre_channel', bed.create_fc_volume(portals=2))


def test_nvme(bed: SimulatedBed, nova: process.Caller) -> None:
    life(bed, nova, 'nvmeof', bed.create_nvme_volume())


@pytest.mark.parametrize('version', [1, 2])
def test_nvme_as_cinder_tells_it(
    bed: SimulatedBed,
    nova: process.Caller,
    tmp_path: pathlib.Path,
    version: int,
) -> None:
    # Given what Cinder's driver makes of a namespace, in either format
    volume = bed.create_nvme_volume(portals=version)
    cinder = process.cinder(
        tuple(portal.rpartition(':')[0] for portal in volume.portals),
        tmp_path,
    )
    one = {
        'id': volume.wwn,
        'target': volume.target,
        'namespace': volume.lun,
    }
    port = int(volume.portals[0].rpartition(':')[2])
    asked = {'port': port, 'version': version}
    made = cinder('create_export', 'nvmeof', volume=one, **asked)
    info = cinder(
        'initialize_connection',
        'nvmeof',
        volume=one | {'provider_location': made['returned']['location']},
        connector={},
        **asked,
    )['returned']
    cinder.close()
    assert ('portals' in info['data']) is (version == 2)
    # Then Nova gets the volume, and all paths to it are there
    before = bed.snapshot()
    found = nova('connect', 'nvmeof', connection_info=info)
    path = found['connection_info']['data']['device_path']
    assert bed.read(path) == volume.pattern
    nova('disconnect', 'nvmeof', connection_info=found['connection_info'])
    assert bed.snapshot() == before


def test_what_nova_sees_of_a_failure(
    bed: SimulatedBed, nova: process.Caller
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    info = volume.connection_info()
    info['data']['target_portal'] = '127.0.0.9:1'
    found = nova.ask('connect', 'iscsi', connection_info=info)
    assert 'TargetPortalNotFound' in found['raised']
    assert bed.snapshot() == before
