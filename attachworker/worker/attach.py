# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Attach: the flow, and what it means for the journal."""

import dataclasses
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.host import block
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import if_without_secrets
from attachworker.journal import without_secrets
from attachworker.tasks import encryption
from attachworker.tasks import multipath
from attachworker.tasks.attach import prefer_shared
from attachworker.tasks.run import Run
from attachworker.worker import engine
from attachworker.worker import late_paths
from attachworker.worker.operation import Operation


class Attach(Operation):
    """:param boot_id: of the running kernel"""

    kind = 'attach'
    status = 'attached'

    def __init__(self, *parts: Any, boot_id: str) -> None:
        super().__init__(*parts)
        self._boot_id = boot_id

    def find_info(self) -> objects.ConnectionInfo:
        found: objects.ConnectionInfo = self.request.connection_info
        return found

    def perform(self) -> None:
        request = self.request
        if not self._undo_earlier():
            return
        known = self._records.attachment(request.attachment_id)
        if known is not None and (
            known.connection_key != request.connection_key
        ):
            conflict = exception.AttachmentConflict(
                what=f'Attachment {request.attachment_id}'
            )
            self.conclude(self.failed(conflict))
        elif known is not None and known.state.may_have_device:
            self._attach_again(known)
        else:
            self._attach(known)

    def _attach(self, known: AttachmentRecord | None) -> None:
        """Make an attachment, or one again that is missing."""
        request = self.request
        record = AttachmentRecord(
            attachment_id=request.attachment_id,
            volume_id=request.volume_id,
            connection_key=request.connection_key,
            connection=without_secrets(request.connection_info),
            state=AttachmentState.ATTACHING,
            last_request=request.request_id,
            boot_id=self._boot_id,
        )
        if known is not None:
            record = record.in_place_of(known)
        # With the power all that comes before FindWwn's note would be gone.
        self._records.put_attachment(record, lasting=False)
        known_by = block.lasting(record.wwn) if record.wwn else None
        run = self._run_for(request.connection_info.targets, known_by)
        multipath.note_listed(run)
        outcome = self._run_flows(run)
        if outcome.error is not None:
            self._give_up(self.undone(outcome, run), record)
            return
        device = _device(outcome)
        made = dataclasses.replace(
            record,
            connection=without_secrets(run.info),
            wwn=run.wwn,
            again=if_without_secrets(request),
        ).with_device(device)
        result = self.succeeded(outcome, run, device)
        if self.conclude(result, made):
            self._settle(run, device, made)
        else:
            undone = _taken_back(run, outcome)
            self._give_up(self.undone(undone, run), record)

    def _run_flows(self, run: Run) -> engine.Outcome:
        """Attach, after finding the targets that the request does not name."""
        if run.info.is_complete(run.multipath):
            prefer_shared(run)
            return self.run_flow(flows.attach(run), run)
        found = self.run_flow(flows.discover(run), run)
        if found.error is not None:
            return found
        run.targets = found.results['targets']
        run.info = run.info.with_targets(run.targets)
        prefer_shared(run)
        outcome = self.run_flow(flows.attach(run), run)
        return dataclasses.replace(
            outcome, timings=found.timings | outcome.timings
        )

    def _attach_again(self, known: AttachmentRecord) -> None:
        """Find the device that the attachment has; undo nothing of it.

        A disk that somebody has taken away is made again; if it turns out
        to be another volume's by now, it goes. Paths that a map lacks are
        tried once more.
        """
        device = known.device_info()
        assert device is not None  # by its state
        info = self.request.connection_info
        stored = known.info()
        run = self._run_for(stored.targets, known.wwn)
        run.map_wwid = device.multipath_id
        if not info.is_complete(run.multipath):
            run.info = info.with_targets(run.targets)
        connector = run.connector
        more = run.multipath and (
            device.multipath_id is not None or connector.puts_together()
        )
        targets = late_paths.connected(device, stored.targets)
        if not more and targets:
            run.targets = targets
        run.kept = frozenset(filter(connector.paths, targets))
        outcome = self.run_flow(flows.attach(run), run)
        if outcome.error is not None:
            self.conclude(self.undone(outcome, run))
            return
        device = _merged(_device(outcome), device)
        result = self.succeeded(outcome, run, device)
        if not self.conclude(result, known.with_device(device)):
            undone = _taken_back(run, outcome)
            self.conclude(self.undone(undone, run))
        elif more:
            self._settle(run, device, known)

    def _run_for(
        self,
        targets: list[objects.Target],
        wwn: str | None = None,
    ) -> Run:
        request = self.request
        run = self.make_run(
            request.connection_info,
            targets=list(targets),
            multipath=request.multipath,
            encryption=request.encryption,
            min_paths=request.min_paths,
            enforce_multipath=request.multipath and request.enforce_multipath,
            expected_wwn=request.expected_wwn or wwn,
        )
        self.when_cancelled(run.attempts.stop_waiting)
        return run

    def _give_up(
        self,
        result: objects.OperationResult,
        record: AttachmentRecord,
    ) -> None:
        """End an attach that has failed and was undone, or is to be."""
        name = record.attachment_id
        after = record.state.when_given_up()
        if result.leftovers:
            left = record.with_state(record.state.when_left_over())
            self.conclude(result, left)
            self._cleanup.later(name)
        elif after is not None:
            self.conclude(result, record.with_state(after))
        else:
            self.conclude(result, gone=name)
        self._cleanup.links_later()

    def _settle(
        self,
        run: Run,
        device: objects.DeviceInfo,
        record: AttachmentRecord,
    ) -> None:
        """See to the targets that the answer did not wait for.

        The attachment's next operation waits for this.
        """
        self.when_to_wrap_up(run.attempts.wrap_up)
        run.undo_deadline = deadlines.Deadline.after(run.grace)
        if device.multipath_id is None and not (
            run.multipath and run.connector.puts_together()
        ):
            disk = late_paths.disk_of(device)
            for target in run.targets:
                if target not in late_paths.connected(device, run.targets):
                    run.leftovers += run.let_go(target, disk)
        else:
            now = late_paths.join(run, device)
            self._records.put_attachment(record.with_device(now))
        if run.leftovers:
            self._cleanup.later(record.attachment_id)

    def abandon(self) -> None:
        if not self.resumed or self._undo_earlier():
            super().abandon()

    def _undo_earlier(self) -> bool:
        """Put back what an attach did before the worker was stopped.

        Nothing of it is trusted. An attachment that was there before the
        request stays as it is.

        :returns: False if something is left; the operation has failed then
        """
        known = self._records.attachment(self.attachment_id)
        if known is None or not known.state.is_being_made:
            return True
        # A login that goes on without its worker is met when it is repeated.
        again = self.abandoned is None and not self.deadline.passed
        left = self._cleanup.undo(known, cut_short=again)
        if not left:
            return True
        late = exception.DeadlineExceeded(step='recovery')
        error = self.abandoned or (exception.UndoFailed() if again else late)
        result = self.failed(error)
        result.leftovers = left
        self._give_up(result, known)
        return False


def _device(outcome: engine.Outcome) -> objects.DeviceInfo:
    """What the caller is told; opened, if it is to be."""
    results = outcome.results
    found: objects.DeviceInfo = results.get('opened') or results['device']
    return found


def _taken_back(run: Run, outcome: engine.Outcome) -> engine.Outcome:
    """Undo a flow that has succeeded: the request was cancelled meanwhile."""
    run.leftovers += encryption.close_opened(run)
    # With its paths one by one, the last one would be one that works still.
    run.leftovers += run.remove_own_map()
    for target in run.targets:
        run.leftovers += run.let_go(target)
    return dataclasses.replace(
        outcome, error=exception.OperationCancelled(step='its answer')
    )


def _merged(
    found: objects.DeviceInfo, known: objects.DeviceInfo
) -> objects.DeviceInfo:
    """What was found again, with the paths that were not looked for."""
    again = {late_paths.target_of(path): path for path in found.paths}
    found.paths = [
        again.get(late_paths.target_of(path), path) for path in known.paths
    ]
    if found.multipath_id is not None:
        found.degraded = late_paths.lacks_paths(found)
    return found
