# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Rotation of a key: the flow, and what it means for the result."""

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.tasks import rotate
from attachworker.tasks.run import Rotation
from attachworker.tasks.run import Run
from attachworker.worker import late_paths
from attachworker.worker.operation import OfAttached

#: What is left of a rotation that could not be taken back.
_PERHAPS_BOTH = (
    'the new key may open the volume as well as the old one; send a new '
    'request with the same keys'
)


class Rotate(OfAttached):
    kind = 'rotate'
    status = 'rotated'

    def change(
        self, known: AttachmentRecord, device: objects.DeviceInfo
    ) -> None:
        run, rotation = self._parts(known, device)
        outcome = self.run_flow(flows.rotate(run), run)
        # What has removed the old key may have been told so too late.
        if outcome.error is None or rotation.done:
            self.conclude(self.succeeded(outcome, run, device))
            return
        result = self.undone(outcome, run)
        if rotation.intended and not rotation.settled:
            result.leftovers.append(_PERHAPS_BOTH)
        self.conclude(result)

    def abandon(self) -> None:
        """End it; what an earlier worker may have added is taken back."""
        assert self.abandoned is not None
        result = self.failed(self.abandoned)
        if self.adds_key:
            try:
                device = self._take_back()
            except (exception.AttachWorkerError, OSError) as error:
                result.leftovers = [f'{error} So {_PERHAPS_BOTH}']
            else:
                if device is not None:
                    result = self.result_of(self.status, device=device)
        self.conclude(result)

    def _take_back(self) -> objects.DeviceInfo | None:
        """Have one of the two keys alone open the volume.

        :returns: its device, if that is the new one
        :raises AttachWorkerError: nobody knows, or it cannot be done
        """
        if isinstance(self.abandoned, exception.SecretsLost):
            raise self.abandoned
        known = self._known()
        if known is None:
            raise exception.AttachmentNotFound(
                attachment_id=self.attachment_id
            )
        device = known.device_info()
        assert device is not None  # by its state
        run, rotation = self._parts(known, device)
        rotate.take_back(run)
        return device if rotation.done else None

    def _parts(
        self, known: AttachmentRecord, device: objects.DeviceInfo
    ) -> tuple[Run, Rotation]:
        info, request_id = known.info(), self.request.request_id
        rotation = Rotation(
            self.request.old_key,
            self.request.new_key,
            lambda: self._records.intend_key(request_id),
            intended=self.adds_key,
        )
        run = self.make_run(
            info,
            targets=late_paths.connected(device, info.targets),
            rotation=rotation,
            expected_wwn=known.wwn,
        )
        return run, rotation
