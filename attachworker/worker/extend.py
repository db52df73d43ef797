# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Extend: the flow, and what it means for the journal."""

import dataclasses

from attachworker import flows
from attachworker import objects
from attachworker.host import encryption
from attachworker.journal import AttachmentRecord
from attachworker.worker import late_paths
from attachworker.worker.operation import OfAttached


class Extend(OfAttached):
    kind = 'extend'
    status = 'extended'

    def change(
        self, known: AttachmentRecord, device: objects.DeviceInfo
    ) -> None:
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
