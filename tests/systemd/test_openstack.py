# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Cinder's LIO driver exports, Nova's driver attaches, on a real kernel."""

from collections.abc import Iterator
import json
import pathlib
import uuid

import pytest

from attachworker import client
from tests.callers import process
from tests.functional import rabbitmq
from tests.kernel import lio
from tests.kernel.bed import KernelBed
from tests.systemd import machine

#: Nova and Cinder take long to start in User-Mode Linux.
pytestmark = pytest.mark.timeout(900)

ADDRESSES = lio.ADDRESSES[:2]


@pytest.fixture
def nova(
    broker: rabbitmq.RabbitMQNode, tmp_path: pathlib.Path
) -> Iterator[process.Caller]:
    made = process.nova(broker.url, machine.HOST, tmp_path)
    yield made
    made.close()


@pytest.fixture
def cinder(tmp_path: pathlib.Path) -> Iterator[process.Caller]:
    made = process.cinder(ADDRESSES, tmp_path)
    yield made
    made.close()


def test_from_cinder_to_nova(
    bed: KernelBed,
    worker: client.AttachWorkerClient,
    cinder: process.Caller,
    nova: process.Caller,
) -> None:
    # Given a logical volume, which a loop device stands for
    local = bed.create_local_volume()
    device = machine.run('losetup', '--find', '--show', local.target).strip()
    identifier = str(uuid.uuid4())
    volume = {'id': identifier, 'name': f'volume-{identifier}'}
    before = bed.snapshot()
    # When Cinder exports it
    made = cinder(
        'create_export', 'iscsi', port=lio.PORT, volume=volume, path=device
    )['returned']
    volume['provider_location'] = made['location']
    volume['provider_auth'] = made['auth']
    # And lets this host in, and Nova connects, with one path and with two
    for multipath in (False, True):
        connector = worker.get_connector_properties() | {
            'multipath': multipath
        }
        asked = {
            'driver': 'iscsi',
            'port': lio.PORT,
            'volume': volume,
            'connector': connector,
        }
        info = cinder('initialize_connection', **asked)['returned']
        assert len(info['data']['target_portals']) == len(ADDRESSES)
        found = nova(
            'connect', 'iscsi', connection_info=info, multipath=multipath
        )['connection_info']
        # Then it is the volume
        path = found['data']['device_path']
        assert ('dm-' in str(pathlib.Path(path).resolve())) is multipath
        assert bed.read(path) == local.pattern
        (listed,) = worker.list_attachments()
        assert listed.state == 'attached', machine.journal()
        # When Nova disconnects, then nothing is left on the host
        nova('disconnect', 'iscsi', connection_info=found, multipath=multipath)
        cinder('terminate_connection', **asked)
        assert worker.list_attachments() == []
    # And the host is let in no more
    refused = nova.ask('connect', 'iscsi', connection_info=info)
    assert 'raised' in refused, json.dumps(refused)
    cinder('remove_export', 'iscsi', port=lio.PORT, volume=volume)
    assert bed.snapshot() == before
    machine.run('losetup', '--detach', device)
    assert 'Traceback' not in machine.journal()
