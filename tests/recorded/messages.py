# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""One message of each kind, as it travels: for the record of a release.

``python -m tests.recorded.messages VERSION`` writes the record of the RPC
version that a release has brought. A record is never written again: it is
what older programs send and expect.
"""

import json
import pathlib
import sys
from typing import Any

from attachworker import objects
from attachworker.objects import base

DIRECTORY = pathlib.Path(__file__).resolve().parent

_IQN = 'iqn.2010-10.org.openstack:volume-1'
_INFOS: dict[str, dict[str, Any]] = {
    'iscsi': {
        'target_portals': ['192.0.2.1:3260', '192.0.2.2:3260'],
        'target_iqns': [_IQN, _IQN],
        'target_luns': [1, 1],
        'auth_method': 'CHAP',
        'auth_username': 'user',
        'auth_password': 'password',
        'access_mode': 'rw',
        'volume_id': 'volume-1',
    },
    'nvmeof': {
        'target_nqn': 'nqn.2014-08.org.nvmexpress:uuid:1',
        'portals': [['192.0.2.1', 4420, 'tcp']],
        'vol_uuid': '6f70656e-7374-4163-8b21-000000000003',
    },
    'rbd': {
        'name': 'volumes/volume-1',
        'hosts': ['192.0.2.1', '192.0.2.2'],
        'ports': ['6789', '6789'],
        'cluster_name': 'ceph',
        'auth_enabled': True,
        'auth_username': 'cinder',
        'keyring': '[client.cinder]\n\tkey = AQ==\n',
    },
    'local': {'device_path': '/srv/volumes/volume-1'},
    'fibre_channel': {
        'target_wwn': ['5000001000000001', '5000001000000002'],
        'target_lun': 1,
        'initiator_target_map': {
            '2100000e1e000001': ['5000001000000001', '5000001000000002']
        },
    },
    'nfs': {
        'export': '192.0.2.1:/srv/volumes',
        'name': 'volume-1',
        'options': '-o vers=4.2,timeo=100',
    },
}


def _results() -> dict[str, base.AttachWorkerObject]:
    device = objects.DeviceInfo(
        path='/dev/dm-0',
        type='block',
        scsi_wwn='36001405a',
        multipath_id='36001405a',
        size=1 << 30,
        degraded=True,
        paths=[
            objects.PathInfo(
                device='sda',
                portal='192.0.2.1:3260',
                target=_IQN,
                lun=1,
                state='connected',
            ),
            objects.PathInfo(
                portal='192.0.2.2:3260',
                target=_IQN,
                lun=1,
                state='failed',
                error='target_unreachable',
            ),
        ],
    )
    values = {'request_id': 'request-1', 'attachment_id': 'attachment-1'}
    attached = objects.OperationResult(
        operation='attach',
        status='attached',
        device=device,
        timings={'FindWwn': 0.01},
        warnings=['one path is not there'],
        **values,
    )
    return {
        'result-attached': attached,
        'result-failed': objects.OperationResult(
            operation='attach',
            status='failed',
            error=objects.OperationError(
                code='identity_mismatch', message='m', step='FindWwn'
            ),
            leftovers=['device sda'],
            **values,
        ),
        'result-detached': objects.OperationResult(
            operation='detach', status='detached', **values
        ),
        'result-extended': objects.OperationResult(
            operation='extend',
            status='extended',
            device=device,
            old_size=1 << 29,
            **values,
        ),
        'result-rotated': objects.OperationResult(
            operation='rotate', status='rotated', device=device, **values
        ),
        'attachment': objects.Attachment(
            attachment_id='attachment-1',
            volume_id='volume-1',
            protocol='iscsi',
            state='degraded',
            device=device,
            last_result=attached,
            created_at='2026-01-02T03:04:05Z',
            updated_at='2026-01-02T03:04:06Z',
        ),
        'audit': objects.AuditReport(
            attachments=[
                objects.AuditedAttachment(
                    attachment_id='attachment-1', state='degraded', detail='d'
                )
            ],
            findings=[objects.AuditFinding(kind='foreign', what='map dm-1')],
        ),
    }


def messages() -> dict[str, Any]:
    """Primitives by name."""
    found: dict[str, base.AttachWorkerObject] = {
        f'attach-{protocol}': objects.AttachRequest(
            request_id='request-1',
            attachment_id='attachment-1',
            connection_info=objects.ConnectionInfo.from_dict(
                {'driver_volume_type': protocol, 'data': data}
            ),
            volume_id='volume-1',
            multipath=protocol == 'iscsi',
            expected_wwn='36001405a',
            min_paths=1,
            deadline_seconds=60,
            encryption={'provider': 'luks2', 'key': 'passphrase'},
            reply_to={'exchange': 'nova', 'topic': 't', 'server': 's'},
        )
        for protocol, data in _INFOS.items()
    }
    found |= {
        'detach': objects.DetachRequest(
            request_id='request-1', attachment_id='attachment-1', force=True
        ),
        'extend': objects.ExtendRequest(
            request_id='request-1',
            attachment_id='attachment-1',
            expected_size=1 << 30,
        ),
        'rotate': objects.RotateKeyRequest(
            request_id='request-1',
            attachment_id='attachment-1',
            old_key='passphrase',
            new_key='another',
        ),
        **_results(),
    }
    return {name: one.obj_to_primitive() for name, one in found.items()}


def record(version: str) -> pathlib.Path:
    """The file with what was recorded of a version."""
    return DIRECTORY / f'{version}.json'


def main(version: str) -> None:
    with open(record(version), 'x', encoding='utf-8') as file:
        json.dump(messages(), file, indent=1, sort_keys=True)
        file.write('\n')


if __name__ == '__main__':
    main(sys.argv[1])
