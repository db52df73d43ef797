# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A client that answers as it is told, and data to give it."""

from typing import Any

from attachworker import brick
from attachworker import objects

IQN = 'iqn.2010-10.org.openstack:volume-1'
DATA = {
    'target_discovered': False,
    'target_portal': '192.0.2.1:3260',
    'target_iqn': IQN,
    'target_lun': 1,
    'auth_method': 'CHAP',
    'auth_username': 'user',
    'auth_password': 'secret',
    'encrypted': False,
    'qos_specs': None,
    'access_mode': 'rw',
}
PORTALS = ['192.0.2.1:3260', '[2001:db8::1]:3260']
PLURAL = DATA | {
    'target_portals': PORTALS,
    'target_iqns': [IQN, IQN],
    'target_luns': [1, 1],
}
STATUS = {'attach': 'attached', 'detach': 'detached', 'extend': 'extended'}


class FakeClient:
    """Answers as it is told, and keeps what it was asked."""

    host = 'compute-1'

    def __init__(self) -> None:
        self.api = self
        self.asked: list[dict[str, Any]] = []
        self.code: str | None = None
        self.raises: Exception | None = None
        self.multipath_id: str | None = None

    def attach_volume(self, info: Any, **values: Any) -> Any:
        return self._answer('attach', connection_info=info, **values)

    def detach_volume(self, attachment_id: str, **values: Any) -> Any:
        return self._answer('detach', attachment_id=attachment_id, **values)

    def extend_volume(self, attachment_id: str, **values: Any) -> Any:
        return self._answer('extend', attachment_id=attachment_id, **values)

    def get_volume_paths(self, ctxt: Any, host: str, info: Any) -> list[str]:
        self.asked.append({'host': host, 'connection_info': info})
        return ['/dev/sda', '/dev/sdb']

    def get_connector_properties(self, **values: Any) -> dict[str, Any]:
        self.asked.append(values)
        return {
            'ip': '192.0.2.9',
            'host': 'compute-1',
            'initiator': 'iqn.1993-08.org.debian:01:one',
            'attachworker': {'version': '1'},
            **values,
        }

    def list_attachments(self) -> list[objects.Attachment]:
        return [
            objects.Attachment(
                attachment_id=state,
                protocol='iscsi',
                state=state,
                device=objects.DeviceInfo(path=f'/dev/{state}', size=1),
            )
            for state in ('attached', 'degraded', 'missing')
        ]

    def _answer(self, operation: str, **values: Any) -> Any:
        self.asked.append(values)
        if self.raises:
            raise self.raises
        result = objects.OperationResult(
            request_id='r-1',
            operation=operation,
            status='failed' if self.code else STATUS[operation],
            device=objects.DeviceInfo(
                path='/dev/sda',
                scsi_wwn='3600',
                multipath_id=self.multipath_id,
                size=4096,
            ),
        )
        if self.code:
            result.error = objects.OperationError(
                code=self.code, step='SomeStep', message='What is wrong.'
            )
        return result


def connect(worker: FakeClient, data: Any, **values: Any) -> dict[str, Any]:
    """What the worker was asked by a connect_volume."""
    brick.RemoteConnector(**values).connect_volume(data)
    return worker.asked[-1]
