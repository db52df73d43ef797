# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""os-brick's interface: the same dicts, on the same host."""

from collections.abc import Iterator
import copy

import pytest

from attachworker import brick
from attachworker import exception
from attachworker.brick import bus
from tests import harness
from tests.contract import bed as beds


@pytest.fixture
def connector(worker: harness.Harness) -> Iterator[brick.RemoteConnector]:
    yield brick.RemoteConnector(transport_url=harness.BUS, host=worker.name)
    bus.close()


def test_connect_and_disconnect(
    bed: beds.Bed, worker: harness.Harness, connector: brick.RemoteConnector
) -> None:
    # Given a volume, in the words of Cinder
    volume = bed.create_volume(chap=('user', 'a secret word'))
    data = volume.connection_info()['data']
    given, before = copy.deepcopy(data), bed.snapshot()
    # When it is connected
    device_info = connector.connect_volume(data)
    # Then the caller has the right device
    assert bed.read(device_info['path']) == volume.pattern
    assert device_info['scsi_wwn'] == f'3{volume.wwn}'
    assert set(device_info) == {'type', 'path', 'scsi_wwn'}
    # And when it is disconnected, in other words, then nothing is left
    data |= {
        'device_path': device_info['path'],
        'target_portal': f'{volume.portals[0]},1',
        'target_iqn': volume.target.upper(),
        'target_lun': str(volume.lun),
    }
    changed = copy.deepcopy(data)
    connector.disconnect_volume(data, device_info)
    assert bed.snapshot() == before
    assert worker.attachments() == []
    # And what was given is as it was
    assert data == changed
    assert volume.connection_info()['data'] == given


def test_connected_with_and_disconnected_without_multipath(
    bed: beds.Bed, worker: harness.Harness, connector: brick.RemoteConnector
) -> None:
    volume = bed.create_volume(portals=2)
    data = volume.connection_info()['data']
    before = bed.snapshot()
    multipath = brick.RemoteConnector(
        transport_url=harness.BUS, host=worker.name, use_multipath=True
    )
    device_info = multipath.connect_volume(data)
    assert bed.read(device_info['path']) == volume.pattern
    connector.disconnect_volume(data, device_info)
    assert worker.attachments() == []
    assert bed.snapshot() == before


def test_a_dead_portal_leaves_nothing(
    bed: beds.Bed, worker: harness.Harness, connector: brick.RemoteConnector
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.stop_portal(volume.portals[0])
    with pytest.raises(exception.VolumeDeviceNotFound):
        connector.connect_volume(volume.connection_info()['data'])
    bed.start_portal(volume.portals[0])
    assert bed.snapshot() == before
    assert worker.attachments() == []


def test_a_device_in_use_goes_by_force(
    bed: beds.Bed, worker: harness.Harness, connector: brick.RemoteConnector
) -> None:
    volume = bed.create_volume()
    data = volume.connection_info()['data']
    before = bed.snapshot()
    device_info = connector.connect_volume(data)
    with bed.opened(device_info['path']):
        with pytest.raises(exception.VolumePathNotRemoved):
            connector.disconnect_volume(data, device_info)
        assert bed.read(device_info['path']) == volume.pattern
        connector.disconnect_volume(
            data, device_info, force=True, ignore_errors=True
        )
    assert worker.attachments() == []
    assert bed.snapshot() == before
