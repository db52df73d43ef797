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
from attachworker.worker.operation import Operation

_EXTENDED = (
    AttachmentState.ATTACHED,
    AttachmentState.DEGRADED,
    AttachmentState.DETACH_FAILED,
)


class Extend(Operation):
    kind = 'extend'
    status = 'extended'

    def find_info(self) -> objects.ConnectionInfo | None:
        known = self._known()
        return None if known is None else known.info()

    def perform(self) -> None:
        known = self._known()
        if known is None:
            missing = exception.AttachmentNotFound(
                attachment_id=self.attachment_id
            )
            self.conclude(self.failed(missing))
            return
        device = known.device_info()
        assert device is not None  # by its state
        info = known.info()
        run = self.make_run(
            info,
            targets=late_paths.connected(device, info.targets),
            encryption=self.request.encryption,
            expected_wwn=known.wwn,
            expected_size=self.request.expected_size,
        )
        run.opened = device.path == encryption.path_of(run.mapping)
        outcome = self.run_flow(flows.extend(run), run)
        if outcome.error is not None:
            self.conclude(self.undone(outcome, run))
            return
        told, (found, device.size) = device.size, outcome.results['sizes']
        # The kernel may know of the new size already: an earlier worker has
        # died, or the storage has told it.
        old_size = min((size for size in (told, found) if size), default=None)
        result = self.succeeded(outcome, run, device)
        result.old_size = old_size
        record = dataclasses.replace(known, device=device.obj_to_primitive())
        self.conclude(result, record)

    def _known(self) -> AttachmentRecord | None:
        """What is attached, in part perhaps."""
        known = self._records.attachment(self.attachment_id)
        if known is None or known.state not in _EXTENDED:
            return None
        return known
