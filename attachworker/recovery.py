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


"""What an earlier worker left unfinished, brought to an end at start."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.operations.intake import result_from
from attachworker.operations.operation import Operation

LOG = logging.getLogger(__name__)


def run(
    records: Records,
    release_unused: Callable[[AttachmentRecord], None],
    recall: Callable[[RequestRecord], Operation],
    resume: Callable[[Operation], None],
    clean_later: Callable[[str], None],
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    """Go on with what is unfinished, send results again.

    Runs once, before new requests are taken. The operations run after it,
    each before any new one of the same attachment.

    :param release_unused: puts back what an attachment does not need
    :param recall: makes an operation of an unfinished request
    :param resume: goes on with it
    :param clean_later: has what is left of a failed attach put back
    :param deliver: sends the result of a cast to where it is wanted
    :raises JournalUnavailable: the journal makes no sense; nothing of what
        it says is done
    """
    unfinished = [recall(record) for record in records.unfinished()]
    unsent = [
        (record.request_id, record.reply_to, result_from(record))
        for record in records.undelivered()
    ]
    for attachment in records.attachments():
        release_unused(attachment)
    for operation in unfinished:
        LOG.info(
            'Unfinished %s of %s (request %s): %s',
            operation.kind,
            operation.attachment_id,
            operation.request.request_id,
            operation.abandoned or 'it is gone on with',
        )
        resume(operation)
    for attachment in records.attachments():
        clean_later(attachment.attachment_id)
    for found in unsent:
        deliver(*found)
