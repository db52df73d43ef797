# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Detach: the flow, and what it means for the journal."""

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.worker.operation import Operation


class Detach(Operation):
    kind = 'detach'
    status = 'detached'

    def find_attachment(self) -> str:
        """What was attached by somebody else goes by its connection."""
        if self.request.attachment_id:
            return str(self.request.attachment_id)
        info: objects.ConnectionInfo = self.request.connection_info
        return info.connection_key(multipath=False)

    def find_info(self) -> objects.ConnectionInfo | None:
        return self._info(self._known())

    def perform(self) -> None:
        known = self._known()
        info = self._info(known)
        if info is None:
            result = self.result_of(
                self.status,
                warnings=[objects.NOT_KNOWN],
            )
            self.conclude(result)
            return
        self._detach(info, known)

    def abandon(self) -> None:
        assert self.abandoned is not None
        self._failed(self.failed(self.abandoned))

    def _detach(
        self,
        info: objects.ConnectionInfo,
        known: AttachmentRecord | None,
    ) -> None:
        run = self.make_run(
            info,
            targets=info.targets,
            force=self.request.force,
            undoes=known is not None and known.state.is_left_over,
            expected_wwn=known.wwn if known else info.wwn,
            map_wwid=_map_wwid(known, self.request.force),
            on_change=self._begin,
        )
        try:
            # Until then another attachment of the volume may leave its paths
            # to this one.
            run.lock_known_volume()
        except exception.DeadlineExceeded as error:
            self._failed(self.failed(error))
            return
        held = run.holdings.paths(type(info.targets[0]))
        run.adopts = known is None and not held
        # What is recorded is ours, legible or not.
        run.forces_foreign = run.forces_foreign or self._is_unreadable()
        targets = {target.key: target for target in (*info.targets, *held)}
        run.targets = list(targets.values())
        outcome = self.run_flow(flows.detach(run), run)
        if outcome.error is None:
            result = self.succeeded(outcome, run)
            gone = self.request.attachment_id
            self.conclude(result, gone=gone)
            self._cleanup.links_later()
            return
        self._failed(self.undone(outcome, run))

    def _begin(self) -> None:
        """From here on the attachment is not what it was."""
        known = self._known()
        if known is not None:
            self._records.put_attachment(known.being_taken_down())

    def _failed(self, result: objects.OperationResult) -> None:
        known = self._known()
        self.conclude(
            result,
            known and known.with_state(known.state.when_detach_failed()),
        )

    def _known(self) -> AttachmentRecord | None:
        request = self.request
        if not request.attachment_id:
            return None
        if request.force and request.connection_info is not None:
            # All that is needed is in the request, and what is ours.
            return self._records.readable(request.attachment_id)
        return self._records.attachment(request.attachment_id)

    def _is_unreadable(self) -> bool:
        """Whether the journal has a record that makes no sense."""
        try:
            if self.request.attachment_id:
                self._records.attachment(self.request.attachment_id)
        except exception.RecordUnreadable:
            return True
        return False

    def _info(
        self, known: AttachmentRecord | None
    ) -> objects.ConnectionInfo | None:
        given: objects.ConnectionInfo | None = self.request.connection_info
        try:
            return known.info() if known else given
        except exception.RecordUnreadable:
            if self.request.force and given is not None:
                return given
            raise


def _map_wwid(known: AttachmentRecord | None, force: bool) -> str | None:
    try:
        device = known.device_info() if known else None
    except exception.RecordUnreadable:
        if not force:
            raise
        return None
    return device.multipath_id if device else None
