# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A compute service: the attachments of Cinder, as Nova uses them."""

from attachworker import client


def attach(
    worker: client.AttachWorkerClient, cinder, volume_id: str, instance_id: str
) -> tuple[str, str]:
    """Give an instance a volume; return the attachment and the device's path.

    :param worker: of the host that the instance is on
    :param cinder: a client of python-cinderclient, microversion 3.44 or later
    :raises OperationFailed: everything is as it was before
    """
    connector = worker.get_connector_properties()
    created = cinder.attachments.create(volume_id, None, instance_id)
    attachment_id = created['id']
    try:
        updated = cinder.attachments.update(attachment_id, connector)
        result = worker.attach_volume(
            updated.connection_info,
            attachment_id=attachment_id,
            volume_id=volume_id,
            multipath=connector['multipath'],
            raise_on_failure=True,
        )
    except Exception:
        # Nothing is there if the worker says failed. If nobody answered, it
        # may be: the detach waits in the queue until the worker is back.
        _leave(worker, attachment_id)
        cinder.attachments.delete(attachment_id)
        raise
    cinder.attachments.complete(attachment_id)
    return attachment_id, result.device.path


def detach(
    worker: client.AttachWorkerClient, cinder, attachment_id: str
) -> None:
    """Take the volume away again.

    :raises OperationFailed: it is still there, and nothing is lost
    """
    worker.detach_volume(attachment_id, raise_on_failure=True)
    cinder.attachments.delete(attachment_id)


def _leave(worker: client.AttachWorkerClient, attachment_id: str) -> None:
    """Have the host free of it: at once, or when its worker is back."""
    worker.api.cast_detach_volume(
        {},
        worker.host,
        client.objects.DetachRequest(
            request_id=f'{attachment_id}-undo', attachment_id=attachment_id
        ),
    )
