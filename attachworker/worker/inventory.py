# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What this host has attached, and how requests ended: reads only."""

import datetime
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.journal import Listed
from attachworker.journal import Records


def attachment(records: Records, attachment_id: str) -> dict[str, Any]:
    """One attachment, as a primitive.

    :raises AttachmentNotFound: there is no such attachment
    :raises RecordUnreadable: what the journal has of it makes no sense
    """
    found = records.listed_one(attachment_id)
    if found is None:
        raise exception.AttachmentNotFound(attachment_id=attachment_id)
    return _primitive(found)


def attachments(records: Records) -> list[dict[str, Any]]:
    """All attachments, oldest first, as primitives.

    The audit tells of one that makes no sense.
    """
    return [_primitive(one) for one in records.listed()]


def result(records: Records, request_id: str) -> Any:
    """The final result; None while the request is under way.

    :raises RequestNotFound: there is no such request, or its result is older
        than results are kept
    """
    record = records.request(request_id)
    if record is None:
        raise exception.RequestNotFound(request_id=request_id)
    return record.result_object()


def _primitive(listed: Listed) -> dict[str, Any]:
    """What was stored as a primitive goes out as it is."""
    found = objects.Attachment(
        attachment_id=listed.attachment_id,
        volume_id=listed.volume_id,
        protocol=listed.protocol,
        state=listed.state.shown,
        created_at=datetime.datetime.fromisoformat(listed.created_at),
        updated_at=datetime.datetime.fromisoformat(listed.updated_at),
    ).obj_to_primitive()
    found[f'{objects.Attachment.OBJ_SERIAL_NAMESPACE}.data'] |= {
        'device': listed.device,
        'last_result': listed.last_result,
    }
    return found
