# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What this host has attached, and how requests ended: reads only."""

import datetime

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import Records


class Inventory:
    """Answers from the journal."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def attachment(self, attachment_id: str) -> objects.Attachment:
        """:raises AttachmentNotFound: there is no such attachment"""
        record = self._records.attachment(attachment_id)
        if record is None:
            raise exception.AttachmentNotFound(attachment_id=attachment_id)
        return self._object(record)

    def attachments(self) -> list[objects.Attachment]:
        """All attachments, oldest first."""
        return [self._object(one) for one in self._records.attachments()]

    def result(self, request_id: str) -> objects.OperationResult | None:
        """The final result; None while the request is under way.

        :raises RequestNotFound: there is no such request, or its result is
            older than results are kept
        """
        record = self._records.request(request_id)
        if record is None:
            raise exception.RequestNotFound(request_id=request_id)
        if record.result is None:
            return None
        return objects.OperationResult.obj_from_primitive(record.result)

    def _object(self, record: AttachmentRecord) -> objects.Attachment:
        last = self._records.request(record.last_request)
        info = objects.ConnectionInfo.obj_from_primitive(record.connection)
        return objects.Attachment(
            attachment_id=record.attachment_id,
            volume_id=record.volume_id,
            protocol=info.protocol,
            state=record.state.shown,
            device=record.device
            and objects.DeviceInfo.obj_from_primitive(record.device),
            last_result=last
            and last.result
            and objects.OperationResult.obj_from_primitive(last.result),
            created_at=datetime.datetime.fromisoformat(record.created_at),
            updated_at=datetime.datetime.fromisoformat(record.updated_at),
        )
