# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Code written for os-brick, with a real worker and a real broker."""

from collections.abc import Iterator
import json
import pathlib
import subprocess
import sys

import pytest

from attachworker import brick
from attachworker import exception
from attachworker.brick import bus
from attachworker.brick import factory
from tests import harness
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed


@pytest.fixture
def configured(
    broker: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """The configuration of this host's worker, as its callers read it."""
    monkeypatch.setenv('OS_DEFAULT__TRANSPORT_URL', broker.url)
    monkeypatch.setenv('OS_DEFAULT__HOST', worker.name)
    yield
    bus.close()


def test_a_service_that_was_written_for_os_brick(
    bed: SimulatedBed, worker: harness.Harness, configured: None
) -> None:
    # Given a service that knows os-brick's interface only
    properties = brick.get_connector_properties(
        'sudo', '192.0.2.5', True, False, host='compute-1'
    )
    assert properties['initiator'].startswith('iqn.')
    assert (properties['ip'], properties['host']) == ('192.0.2.5', 'compute-1')
    volume = bed.create_volume(chap=('user', 'CANARY-secret'))
    data = volume.connection_info()['data']
    connector = brick.InitiatorConnector.factory(
        'ISCSI', 'sudo', use_multipath=False, device_scan_attempts=3
    )

    # When it connects a volume
    device_info = connector.connect_volume(data)

    # Then it has the device, and os-brick's description of it
    assert bed.read(device_info['path']) == volume.pattern
    assert device_info == {
        'type': 'block',
        'path': device_info['path'],
        'scsi_wwn': f'3{volume.wwn}',
    }
    assert connector.check_valid_device(device_info['path'])
    # And connecting it again changes nothing
    assert connector.connect_volume(data) == device_info
    assert len(worker.attachments()) == 1
    # And another connector disconnects it, after Nova added to the data
    data['device_path'] = device_info['path']
    other = brick.InitiatorConnector.factory('iscsi', None)
    other.disconnect_volume(data, device_info)
    assert worker.attachments() == []
    assert not other.check_valid_device(device_info['path'])
    # also twice
    other.disconnect_volume(data, device_info)


def test_errors_have_the_names_of_os_brick(
    bed: SimulatedBed, configured: None
) -> None:
    volume = bed.create_volume()
    data = volume.connection_info()['data']
    connector = brick.RemoteConnector()
    bed.stop_portal(volume.portals[0])
    with pytest.raises(exception.TargetPortalNotFound) as caught:
        connector.connect_volume(data)
    assert caught.value.result.error.code == 'target_unreachable'
    assert volume.portals[0] in caught.value.msg
    bed.start_portal(volume.portals[0])
    with pytest.raises(exception.VolumeDeviceNotFound):
        connector.connect_volume(data | {'target_lun': volume.lun + 1})


def test_a_device_in_use(bed: SimulatedBed, configured: None) -> None:
    volume = bed.create_volume()
    data = volume.connection_info()['data']
    connector = brick.RemoteConnector()
    device_info = connector.connect_volume(data)
    with bed.opened(device_info['path']):
        with pytest.raises(exception.VolumePathNotRemoved, match='in use'):
            connector.disconnect_volume(data, device_info)
        assert bed.read(device_info['path']) == volume.pattern
    connector.disconnect_volume(data, device_info)


def test_what_is_not_served(worker: harness.Harness, configured: None) -> None:
    connector = brick.InitiatorConnector.factory('NVMEOF', None)
    with pytest.raises(exception.ProtocolNotSupported, match='replicas'):
        connector.connect_volume({'replica_count': 2})


def test_nobody_serves_the_host(broker: rabbitmq.RabbitMQNode) -> None:
    connector = brick.RemoteConnector(transport_url=broker.url, host='nobody')
    with pytest.raises(exception.BrickException, match='nobody'):
        connector.check_valid_device('/dev/sda')
    bus.close()


def test_each_protocol_of_os_brick_is_served_or_refused() -> None:
    # Given what os-brick itself says of each architecture
    script = (
        'import json; from os_brick.initiator import connector; '
        'print(json.dumps({arch: sorted(connector.get_connector_mapping('
        'arch)) for arch in ("x86_64", "s390x", "ppc64le")}))'
    )
    os_brick = pathlib.Path(sys.prefix).with_name('.venv-os-brick')
    said = subprocess.run(
        [str(os_brick / 'bin/python'), '-W', 'ignore', '-c', script],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for arch, names in json.loads(said.stdout).items():
        # Then each of its names is known here
        assert set(names) <= factory.SERVED.keys() | factory.NOT_SERVED.keys()
        # And those that are served are so where os-brick has them
        served = factory.get_connector_mapping(arch).keys()
        assert served == factory.SERVED.keys() & set(names)
