# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What an earlier worker left, brought to an end at start."""

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
from typing import Any

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.operations.cleanup import Cleanup
from attachworker.operations.operation import Operation

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reattach:
    """What becomes of attachments that a reboot has taken away.

    :ivar wanted: whether they are attached again
    :ivar boot_id: of the running kernel
    :ivar recall: makes a new request of an attachment that has what it takes
    :ivar accept: takes such a request
    """

    wanted: bool
    boot_id: str
    recall: Callable[[AttachmentRecord], objects.AttachRequest]
    accept: Callable[[objects.AttachRequest], None]

    def requests(
        self, missing: list[AttachmentRecord], busy: Collection[str]
    ) -> list[objects.AttachRequest]:
        """Those to accept; the log has the others, and why.

        :param busy: attachments that have an attach or a detach unfinished
        """
        made = []
        for record in missing:
            why_not = self._why_not(record, busy)
            LOG.warning(
                'Attachment %s is missing since this host was started '
                'again: %s',
                record.attachment_id,
                why_not or 'it is attached again',
            )
            made += [] if why_not else self._recalled(record)
        return made

    def _recalled(
        self, record: AttachmentRecord
    ) -> list[objects.AttachRequest]:
        try:
            return [self.recall(record)]
        except exception.RecordUnreadable as error:
            LOG.error('%s', error)
            return []

    def _why_not(
        self, record: AttachmentRecord, busy: Collection[str]
    ) -> str | None:
        if record.attachment_id in busy:
            return 'a request for it is unfinished'
        if not self.wanted:
            return 'option reattach_after_reboot is off'
        if record.again is None:
            return (
                'it takes a secret, a detach has begun, or an older version '
                'attached it'
            )
        return None


def run(
    records: Records,
    needs_cleaning: Callable[[AttachmentRecord], bool],
    reattach: Reattach,
    recall: Callable[[RequestRecord], Operation],
    resume: Callable[[Operation], None],
    give_up: Callable[[RequestRecord, exception.RecordUnreadable], None],
    cleanup: Cleanup,
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    """Go on with what is unfinished, send results again.

    Runs once, before new requests are taken. The operations run after it,
    each before any new one of the same attachment.

    :param needs_cleaning: whether something of an attachment is to be put
        back
    :param reattach: sees to what a reboot has taken away
    :param recall: makes an operation of an unfinished request
    :param resume: goes on with it
    :param give_up: ends an unfinished request that makes no sense
    :param cleanup: puts back what is left of attaches
    :param deliver: sends the result of a cast to where it is wanted
    :raises JournalUnavailable: it cannot be read or written
    """
    unfinished = []
    for record in records.unfinished():
        try:
            unfinished.append(recall(record))
        except exception.RecordUnreadable as error:
            LOG.error('%s', error)
            give_up(record, error)
    records.begin_boot(reattach.boot_id)
    _break_off(records, {one.attachment_id for one in unfinished})
    for found in records.unreadable().values():
        LOG.error('%s', found)
    attachments = records.attachments()
    missing = [
        each for each in attachments if each.state is AttachmentState.MISSING
    ]
    again = reattach.requests(
        missing,
        # An extend goes on with what is attached again before it.
        {each.attachment_id for each in unfinished if each.kind != 'extend'},
    )
    for attachment in attachments:
        _clean(attachment, needs_cleaning, cleanup)
    for request in again:
        reattach.accept(request)
    for operation in unfinished:
        LOG.info(
            'Unfinished %s of %s (request %s): %s',
            operation.kind,
            operation.attachment_id,
            operation.request.request_id,
            operation.abandoned or 'it is resumed',
        )
        resume(operation)
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


def _send(
    record: RequestRecord,
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    try:
        result = record.result_object()
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
    for receiver in record.receivers:
        deliver(record.request_id, receiver, result)


def _break_off(records: Records, busy: Collection[str]) -> None:
    """See to attachments whose request makes no sense any more."""
    for record in records.attachments():
        state = record.state.when_broken_off()
        if record.attachment_id not in busy and state is not record.state:
            records.put_attachment(record.with_state(state))


def _clean(
    record: AttachmentRecord,
    needs_cleaning: Callable[[AttachmentRecord], bool],
    cleanup: Cleanup,
) -> None:
    try:
        needed = needs_cleaning(record)
    except exception.RecordUnreadable:
        return
    if record.state.is_left_over:
        cleanup.later(record.attachment_id)
    elif needed:
        cleanup.now(record.attachment_id)
