# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What an earlier worker left, brought to an end at start."""

from collections.abc import Callable
from collections.abc import Collection
from typing import Any
import uuid

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.journal.reading import as_object
from attachworker.journal.reading import legible
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from attachworker.worker.operation import failure

LOG = logging.getLogger(__name__)


def run(
    records: Records,
    operations: Operations,
    cleanup: Cleanup,
    deliver: Callable[[str, Any, objects.OperationResult], None],
    boot_id: str,
    reattach: bool,
) -> None:
    """Go on with what is unfinished, send results again.

    Runs once, before new requests are taken. The operations run after it,
    each before any new one of the same attachment.

    :param cleanup: puts back what is left of attaches
    :param deliver: sends the result of a cast to where it is wanted
    :param boot_id: of the running kernel
    :param reattach: whether what a reboot has taken away is attached again
    :raises JournalUnavailable: it cannot be read or written
    """
    unfinished = _recalled(records, operations)
    records.begin_boot(boot_id)
    _break_off(records, {one.attachment_id for one in unfinished})
    for found in records.contents().unreadable.values():
        LOG.error('%s', found)
    attachments = records.attachments()
    missing = [
        each for each in attachments if each.state is AttachmentState.MISSING
    ]
    # Others go on with what is attached again before them.
    busy = {
        each.attachment_id
        for each in unfinished
        if each.kind in ('attach', 'detach')
    }
    again = _requests_again(missing, busy, reattach)
    for attachment in attachments:
        try:
            cleanup.after_start(attachment)
        except exception.RecordUnreadable:
            continue  # it was told above
    for request in again:
        operations.attach_again(request)
    for operation in unfinished:
        LOG.info(
            'Unfinished %s of %s (request %s): %s',
            operation.kind,
            operation.attachment_id,
            operation.request.request_id,
            operation.abandoned or 'it is resumed',
        )
        operations.resume(operation)
    unsent = records.undelivered()
    for record in unsent:
        _send(record, deliver)
    LOG.info(
        'Recovery: %d requests unfinished, %d results to be sent, '
        '%d attachments missing, of which %d are attached again',
        len(unfinished),
        len(unsent),
        len(missing),
        len(again),
    )


def _recalled(records: Records, operations: Operations) -> list[Operation]:
    """The operations of unfinished requests; what makes no sense is ended."""
    found = []
    for record in records.unfinished():
        try:
            found.append(operations.recall(record))
        except exception.RecordUnreadable as error:
            LOG.error('%s', error)
            _give_up(records, record, error)
    return found


def _give_up(
    records: Records,
    record: RequestRecord,
    error: exception.AttachWorkerError,
) -> None:
    if record.cancelled:
        error = exception.OperationCancelled(step='its end')
    try:
        with legible(f'request {record.request_id}'):
            result = failure(record.operation, record, error)
    except exception.RecordUnreadable as worse:
        # Not even the kind of its result: whoever asks for it is told so.
        LOG.error('%s', worse)
        return
    records.finish(
        record.request_id,
        result.obj_to_primitive(),
        None,
        None,
        record.cancelled,
    )


def _break_off(records: Records, busy: Collection[str]) -> None:
    """See to attachments whose request makes no sense any more."""
    for record in records.attachments():
        state = record.state.when_broken_off()
        if record.attachment_id not in busy and state is not record.state:
            records.put_attachment(record.with_state(state))


def _requests_again(
    missing: list[AttachmentRecord], busy: Collection[str], wanted: bool
) -> list[objects.AttachRequest]:
    """Those that attach again what a reboot has taken away.

    The log has the attachments that stay away, and why.

    :param busy: attachments that have an attach or a detach unfinished
    """
    made = []
    for record in missing:
        why_not = _why_not(record, busy, wanted)
        LOG.warning(
            'Attachment %s is missing since this host was started again: %s',
            record.attachment_id,
            why_not or 'it is attached again',
        )
        if why_not is None:
            try:
                made.append(_request_again(record))
            except exception.RecordUnreadable as error:
                LOG.error('%s', error)
    return made


def _why_not(
    record: AttachmentRecord, busy: Collection[str], wanted: bool
) -> str | None:
    if record.attachment_id in busy:
        return 'a request for it is unfinished'
    if not wanted:
        return 'option reattach_after_reboot is off'
    if record.again is None:
        return (
            'it takes a secret, a detach has begun, or an older version '
            'attached it'
        )
    return None


def _request_again(record: AttachmentRecord) -> objects.AttachRequest:
    """:raises RecordUnreadable: what the journal has makes no sense"""
    what = f'attachment {record.attachment_id}'
    request = as_object(record.again, objects.AttachRequest, what)
    request.request_id = str(uuid.uuid4())
    request.reply_to = None
    request.deadline_seconds = None
    return request


def _send(
    record: RequestRecord,
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    try:
        result = record.result_object()
        with legible(f'request {record.request_id}'):
            receivers = [objects.ReplyTo(**one) for one in record.receivers]
    except exception.RecordUnreadable as error:
        LOG.error('%s', error)
        return
    assert result is not None  # it is finished
    LOG.info(
        'Result of the %s of %s (request %s) is sent again: %s',
        result.operation,
        result.attachment_id,
        record.request_id,
        result.status,
    )
    for receiver in receivers:
        deliver(record.request_id, receiver, result)
