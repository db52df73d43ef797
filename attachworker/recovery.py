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
from attachworker.journal import Records
from attachworker.operations.attach import AttachHandler
from attachworker.operations.intake import Operations
from attachworker.operations.intake import result_from

LOG = logging.getLogger(__name__)


def run(
    records: Records,
    attach: AttachHandler,
    operations: Operations,
    clean_later: Callable[[str], None],
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    """Undo unfinished attaches, go on with the rest, send results again.

    Runs once, before new requests are taken.

    :param clean_later: has what is left of a failed attach put back
    :param deliver: sends the result of a cast to where it is wanted
    """
    unfinished = records.unfinished()
    for attachment in records.attachments():
        attach.release_unused(attachment)
    for record in unfinished:
        LOG.info(
            'Unfinished %s of %s (request %s) is brought to an end',
            record.operation,
            record.attachment_id,
            record.request_id,
        )
        if record.operation == 'attach':
            attach.undo_unfinished(record)
    for attachment in records.attachments():
        clean_later(attachment.attachment_id)
    for record in records.undelivered():
        deliver(record.request_id, record.reply_to, result_from(record))
    for record in unfinished:
        if record.operation != 'attach':
            operations.resume(record)
