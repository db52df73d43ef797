# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Detach: the flow, and what it means for the journal."""

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.worker.operation import Handler
from attachworker.worker.operation import Operation


class DetachHandler(Handler):
    status = 'detached'

    def attachment_id(self, request: objects.DetachRequest) -> str:
        """What was attached by somebody else goes by its connection."""
        if request.attachment_id:
            return str(request.attachment_id)
        info = request.connection_info
        assert info is not None  # validated: one of the two is there
        return info.connection_key(multipath=False)

    def info(
        self, request: objects.DetachRequest
    ) -> objects.ConnectionInfo | None:
        return self._info(request, self._known(request))

    def run(self, operation: Operation) -> None:
        request = operation.request
        known = self._known(request)
        info = self._info(request, known)
        if info is None:
            result = objects.OperationResult(
                request_id=request.request_id,
                attachment_id=request.attachment_id,
                operation=operation.kind,
                status=self.status,
                warnings=['nothing to do: the attachment is not known'],
            )
            self.conclude(operation, result)
            return
        self._detach(operation, info, known)

    def abandon(self, operation: Operation) -> None:
        assert operation.abandoned is not None
        self._failed(operation, self.failed(operation, operation.abandoned))

    def _detach(
        self,
        operation: Operation,
        info: objects.ConnectionInfo,
        known: AttachmentRecord | None,
    ) -> None:
        run = self.make_run(
            operation,
            info,
            targets=info.targets,
            force=operation.request.force,
            expected_wwn=known.wwn if known else info.wwn,
            map_wwid=_map_wwid(known, operation.request.force),
            on_change=lambda: self._begin(operation.request),
        )
        try:
            if run.expected_wwn is not None:
                # Until then another attachment of the volume may leave its
                # paths to this one.
                run.lock_volume(run.expected_wwn)
        except exception.DeadlineExceeded as error:
            self._failed(operation, self.failed(operation, error))
            return
        held = run.holdings.paths(type(info.targets[0]))
        targets = {target.key: target for target in (*info.targets, *held)}
        run.targets = list(targets.values())
        outcome = self.run_flow(operation, flows.detach(run), run)
        if outcome.error is None:
            result = self.succeeded(operation, outcome, run)
            gone = operation.request.attachment_id
            self.conclude(operation, result, gone=gone)
            return
        self._failed(operation, self.undone(operation, outcome, run))

    def _begin(self, request: objects.DetachRequest) -> None:
        """From here on the attachment is not what it was."""
        known = self._known(request)
        if known is not None:
            self._records.put_attachment(known.being_taken_down())

    def _failed(
        self, operation: Operation, result: objects.OperationResult
    ) -> None:
        known = self._known(operation.request)
        self.conclude(
            operation,
            result,
            known and known.with_state(known.state.when_detach_failed()),
        )

    def _known(
        self, request: objects.DetachRequest
    ) -> AttachmentRecord | None:
        if not request.attachment_id:
            return None
        records = self._records
        if request.force and request.connection_info is not None:
            # All that is needed is in the request, and what is ours.
            return records.readable(request.attachment_id)
        return records.attachment(request.attachment_id)

    @staticmethod
    def _info(
        request: objects.DetachRequest, known: AttachmentRecord | None
    ) -> objects.ConnectionInfo | None:
        try:
            return known.info() if known else request.connection_info
        except exception.RecordUnreadable:
            if request.force and request.connection_info is not None:
                return request.connection_info
            raise


def _map_wwid(known: AttachmentRecord | None, force: bool) -> str | None:
    try:
        device = known.device_info() if known else None
    except exception.RecordUnreadable:
        if not force:
            raise
        return None
    return device.multipath_id if device else None
