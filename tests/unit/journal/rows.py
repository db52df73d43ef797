# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Rows to put into a journal."""

from typing import Any

from attachworker.journal import AttachmentRecord
from attachworker.journal import RequestRecord

REPLY_TO = {'exchange': 'e', 'topic': 't', 'server': 's'}


def request(request_id: str = 'request', **values: Any) -> RequestRecord:
    return RequestRecord(
        **{
            'request_id': request_id,
            'operation': 'attach',
            'attachment_id': 'attachment',
            'digest': 'digest',
            'body': {'is': 'the body'},
            'reply_to': None,
            'boot_id': 'boot',
            'accepted': 12.5,
            'deadline': 72.5,
            'created_at': '2026-11-22T10:00:00.000000Z',
            **values,
        }
    )


def attachment(name: str = 'attachment', **values: Any) -> AttachmentRecord:
    return AttachmentRecord(
        **{
            'attachment_id': name,
            'volume_id': 'volume',
            'connection_key': 'iscsi single …',
            'connection': {'is': 'the connection'},
            'state': 'attaching',
            'last_request': 'request',
            'boot_id': 'boot',
            **values,
        }
    )
