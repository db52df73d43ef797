# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker is asked for its host, and to attach a volume of Cinder."""

import json
from typing import Any

from tempest import config
from tempest import test
from tempest.common import waiters
from tempest.lib import decorators
from tempest.lib.common.utils import data_utils

from attachworker import client

CONF = config.CONF


class WorkerTest(test.BaseTestCase):
    """Has a client of the worker that tempest.conf names."""

    @classmethod
    def skip_checks(cls) -> None:
        super().skip_checks()
        if not CONF.service_available.attachworker:
            raise cls.skipException('attachworker is not available')

    def setUp(self) -> None:
        super().setUp()
        self.worker = client.AttachWorkerClient(
            CONF.attachworker.transport_url,
            CONF.attachworker.host,
            timeout=CONF.attachworker.timeout,
        )
        self.addCleanup(self.worker.close)


class TestConnector(WorkerTest):
    """The worker alone; no other service is asked."""

    @decorators.idempotent_id('4f1d9c7e-52b0-4f0a-9d0e-6c8b7a31e2f5')
    def test_connector(self) -> None:
        connector = self.worker.get_connector_properties()

        self.assertEqual(CONF.attachworker.host, connector['host'])
        self.assertEqual(CONF.attachworker.host, self.worker.ping()['host'])


class TestAttachVolume(WorkerTest):
    """A volume of Cinder is on the host while it is attached."""

    credentials = ['primary']

    @classmethod
    def skip_checks(cls) -> None:
        super().skip_checks()
        if not CONF.service_available.cinder:
            raise cls.skipException('Cinder is not available')

    @classmethod
    def setup_clients(cls) -> None:
        super().setup_clients()
        cls.volumes = cls.os_primary.volumes_client_latest

    @decorators.idempotent_id('0b7a5d3c-8e21-4c64-b1f9-2d5e90c7a846')
    @decorators.attr(type='slow')
    def test_attach_volume(self) -> None:
        # Given a volume, and what Cinder says a host needs to connect to it
        volume = self._make_volume()
        connector = self.worker.get_connector_properties()
        self.volumes.reserve_volume(volume)
        self.addCleanup(self.volumes.unreserve_volume, volume)
        connection = self._initialize(volume, connector)
        self.addCleanup(self.volumes.terminate_connection, volume, connector)

        # When the worker attaches it
        attached = self.worker.attach_volume(
            connection, volume_id=volume, raise_on_failure=True
        )
        self.addCleanup(self._detach, attached.attachment_id)

        # Then its device is as large as the volume, and in the list
        self.assertEqual(
            CONF.volume.volume_size * 1024**3, attached.device.size
        )
        self.assertIn(attached.attachment_id, self._attachments())

        # When it is detached
        self._detach(attached.attachment_id)

        # Then it is no longer in the list
        self.assertNotIn(attached.attachment_id, self._attachments())

    def _make_volume(self) -> str:
        made = self.volumes.create_volume(
            name=data_utils.rand_name('attachworker'),
            size=CONF.volume.volume_size,
        )['volume']['id']
        self.addCleanup(self.volumes.wait_for_resource_deletion, made)
        self.addCleanup(self.volumes.delete_volume, made)
        waiters.wait_for_volume_resource_status(
            self.volumes, made, 'available'
        )
        return str(made)

    def _initialize(self, volume: str, connector: dict[str, Any]) -> Any:
        response, body = self.volumes.post(
            f'volumes/{volume}/action',
            json.dumps({'os-initialize_connection': {'connector': connector}}),
        )
        self.volumes.expected_success(200, response.status)
        return json.loads(body)['connection_info']

    def _attachments(self) -> list[str]:
        return [one.attachment_id for one in self.worker.list_attachments()]

    def _detach(self, attachment_id: str) -> None:
        # The clean-up asks again, and is told once more that it is detached.
        self.worker.detach_volume(attachment_id, raise_on_failure=True)
