# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Extend: the flow, and what it means for the journal."""

import dataclasses

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.host import encryption
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.worker import late_paths
from attachworker.worker.operation import Handler
from attachworker.worker.operation import Operation

_EXTENDED = (
    AttachmentState.ATTACHED,
    AttachmentState.DEGRADED,
    AttachmentState.DETACH_FAILED,
)


class ExtendHandler(Handler):
    status = 'extended'

    def info(
        self, request: objects.ExtendRequest
    ) -> objects.ConnectionInfo | None:
        known = self._known(request)
        return None if known is None else known.info()

    def run(self, operation: Operation) -> None:
        request = operation.request
        known = self._known(request)
        if known is None:
            missing = exception.AttachmentNotFound(
                attachment_id=request.attachment_id
            )
            self.conclude(operation, self.failed(operation, missing))
            return
        self._extend(operation, known)

    def _extend(self, operation: Operation, known: AttachmentRecord) -> None:
        device = known.device_info()
        assert device is not None  # by its state
        info = known.info()
        run = self.make_run(
            operation,
            info,
            targets=late_paths.connected(device, info.targets),
            encryption=operation.request.encryption,
            expected_wwn=known.wwn,
            expected_size=operation.request.expected_size,
        )
        run.opened = device.path == encryption.path_of(run.mapping)
        outcome = self.run_flow(operation, flows.extend(run), run)
        if outcome.error is not None:
            result = self.undone(operation, outcome, run)
            self.conclude(operation, result)
            return
        told, (found, device.size) = device.size, outcome.results['sizes']
        # The kernel may know of the new size already: an earlier worker has
        # died, or the storage has told it.
        old_size = min((size for size in (told, found) if size), default=None)
        result = self.succeeded(operation, outcome, run, device)
        result.old_size = old_size
        record = dataclasses.replace(known, device=device.obj_to_primitive())
        self.conclude(operation, result, record)

    def _known(
        self, request: objects.ExtendRequest
    ) -> AttachmentRecord | None:
        """What is attached, in part perhaps."""
        known = self._records.attachment(request.attachment_id)
        if known is None or known.state not in _EXTENDED:
            return None
        return known
