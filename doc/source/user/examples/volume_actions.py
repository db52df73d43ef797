# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A compute service: Cinder's older sequence, a volume action a step."""

import uuid

from attachworker import client


def attach(
    worker: client.AttachWorkerClient,
    cinder,
    volume_id: str,
    instance_id: str,
    mountpoint: str,
) -> str:
    """Give an instance a volume; return the path of its device.

    :param worker: of the host that the instance is on
    :param cinder: a client of python-cinderclient, version 3
    :raises OperationFailed: everything is as it was before
    """
    attachment_id = f'{instance_id}-{volume_id}'
    connector = worker.get_connector_properties()
    cinder.volumes.reserve(volume_id)
    try:
        info = cinder.volumes.initialize_connection(volume_id, connector)
        try:
            result = worker.attach_volume(
                info,
                # The same again after a crash: nothing is done twice.
                attachment_id=attachment_id,
                volume_id=volume_id,
                multipath=connector['multipath'],
                raise_on_failure=True,
            )
        except Exception:
            # Nothing is there if the worker says failed. If nobody answered,
            # it may be: the detach waits in the queue until the worker is
            # back. Its request is a new one: the attachment may come again.
            worker.api.cast_detach_volume(
                {},
                worker.host,
                client.objects.DetachRequest(
                    request_id=str(uuid.uuid4()), attachment_id=attachment_id
                ),
            )
            cinder.volumes.terminate_connection(volume_id, connector)
            raise
    except Exception:
        cinder.volumes.unreserve(volume_id)
        raise
    cinder.volumes.attach(volume_id, instance_id, mountpoint)
    return result.device.path


def detach(
    worker: client.AttachWorkerClient, cinder, volume_id: str, instance_id: str
) -> None:
    """Take the volume away again.

    :raises OperationFailed: it is still there, and nothing is lost; with
        ``in_use`` the message names who has it open
    """
    cinder.volumes.begin_detaching(volume_id)
    try:
        worker.detach_volume(
            f'{instance_id}-{volume_id}', raise_on_failure=True
        )
    except client.OperationFailed:
        cinder.volumes.roll_detaching(volume_id)
        raise
    connector = worker.get_connector_properties()
    cinder.volumes.terminate_connection(volume_id, connector)
    cinder.volumes.detach(volume_id)
