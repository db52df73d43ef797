# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What an earlier worker left, brought to an end at start."""

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
from typing import Any

from oslo_log import log as logging

from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.operations.intake import result_from
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
            made += [] if why_not else [self.recall(record)]
        return made

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
    release_unused: Callable[[AttachmentRecord], None],
    reattach: Reattach,
    recall: Callable[[RequestRecord], Operation],
    resume: Callable[[Operation], None],
    clean_later: Callable[[str], None],
    deliver: Callable[[str, Any, objects.OperationResult], None],
) -> None:
    """Go on with what is unfinished, send results again.

    Runs once, before new requests are taken. The operations run after it,
    each before any new one of the same attachment.

    :param release_unused: puts back what an attachment does not need
    :param reattach: sees to what a reboot has taken away
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
    records.begin_boot(reattach.boot_id)
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
        try:
            release_unused(attachment)
        except OSError as error:
            # A detach takes what this leaves.
            LOG.warning(
                'What attachment %s does not need stays: %s',
                attachment.attachment_id,
                error,
            )
    for request in again:
        reattach.accept(request)
    for operation in unfinished:
        LOG.info(
            'Unfinished %s of %s (request %s): %s',
            operation.kind,
            operation.attachment_id,
            operation.request.request_id,
            operation.abandoned or 'it is gone on with',
        )
        resume(operation)
    for attachment in attachments:
        if attachment.state.is_left_over:
            clean_later(attachment.attachment_id)
    for request_id, reply_to, result in unsent:
        LOG.info(
            'Result of the %s of %s (request %s) is sent again: %s',
            result.operation,
            result.attachment_id,
            request_id,
            result.status,
        )
        deliver(request_id, reply_to, result)
    LOG.info(
        'Recovery: %d requests unfinished, %d results to be sent, '
        '%d attachments missing, of which %d are attached again',
        len(unfinished),
        len(unsent),
        len(missing),
        len(again),
    )
