# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
