# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Attach: the flow, and what it means for the journal."""

import dataclasses
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import if_without_secrets
from attachworker.journal import without_secrets
from attachworker.tasks import attach as steps
from attachworker.tasks import encryption
from attachworker.tasks.run import Run
from attachworker.worker import engine
from attachworker.worker import late_paths
from attachworker.worker.operation import Handler
from attachworker.worker.operation import Operation


class AttachHandler(Handler):
    """:param boot_id: of the running kernel"""

    status = 'attached'

    def __init__(self, *parts: Any, boot_id: str) -> None:
        super().__init__(*parts)
        self._boot_id = boot_id

    def info(self, request: objects.AttachRequest) -> objects.ConnectionInfo:
        return request.connection_info

    def run(self, operation: Operation) -> None:
        request = operation.request
        key = request.connection_key
        if not self._undo_earlier(operation):
            return
        known = self._records.attachment(request.attachment_id)
        if known is not None and known.connection_key != key:
            conflict = exception.AttachmentConflict(
                what=f'Attachment {request.attachment_id}'
            )
            self.conclude(operation, self.failed(operation, conflict))
        elif known is not None and known.state.may_have_device:
            self._attach_again(operation, known)
        else:
            self._attach(operation, known)

    def _attach(
        self, operation: Operation, known: AttachmentRecord | None
    ) -> None:
        """Make an attachment, or one again that is missing."""
        request = operation.request
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
        self._records.put_attachment(record)
        run = self._run_for(
            operation, request.connection_info.targets, record.wwn
        )
        outcome = self._run_flows(operation, run)
        if outcome.error is not None:
            self._undone(operation, outcome, run, record)
            return
        device = _device(outcome)
        made = dataclasses.replace(
            record,
            connection=without_secrets(run.info),
            wwn=outcome.results['wwn'],
            again=if_without_secrets(request),
        ).with_device(device)
        result = self.succeeded(operation, outcome, run, device)
        if self.conclude(operation, result, made):
            self._settle(operation, run, device, made)
        else:
            undone = _taken_back(run, outcome)
            self._undone(operation, undone, run, record)

    def _run_flows(self, operation: Operation, run: Run) -> engine.Outcome:
        """Attach, after finding the targets that the request does not name."""
        if run.info.is_complete(run.multipath):
            steps.prefer_shared(run)
            return self.run_flow(operation, flows.attach(run), run)
        found = self.run_flow(operation, flows.discover(run), run)
        if found.error is not None:
            return found
        run.targets = found.results['targets']
        run.info = run.info.with_targets(run.targets)
        steps.prefer_shared(run)
        outcome = self.run_flow(operation, flows.attach(run), run)
        return dataclasses.replace(
            outcome, timings=found.timings | outcome.timings
        )

    def _attach_again(
        self, operation: Operation, known: AttachmentRecord
    ) -> None:
        """Find the device that the attachment has; undo nothing of it.

        A disk that somebody has taken away is made again; if it turns out
        to be another volume's by now, it goes. Paths that a map lacks are
        tried once more.
        """
        device = known.device_info()
        assert device is not None  # by its state
        info = operation.request.connection_info
        stored = known.info()
        run = self._run_for(operation, stored.targets, known.wwn)
        run.map_wwid = device.multipath_id
        if not info.is_complete(run.multipath):
            run.info = info.with_targets(run.targets)
        connector = run.connector
        more = run.multipath and (
            device.multipath_id is not None or connector.puts_together()
        )
        targets = late_paths.connected(device, stored.targets)
        if not more:
            run.targets = targets
        run.kept = frozenset(filter(connector.paths, targets))
        outcome = self.run_flow(operation, flows.attach(run), run)
        if outcome.error is not None:
            result = self.undone(operation, outcome, run)
            self.conclude(operation, result)
            return
        device = _merged(_device(outcome), device)
        result = self.succeeded(operation, outcome, run, device)
        if not self.conclude(operation, result, known.with_device(device)):
            undone = _taken_back(run, outcome)
            self.conclude(operation, self.undone(operation, undone, run))
        elif more:
            self._settle(operation, run, device, known)

    def _run_for(
        self,
        operation: Operation,
        targets: list[objects.Target],
        wwn: str | None = None,
    ) -> Run:
        request = operation.request
        run = self.make_run(
            operation,
            request.connection_info,
            targets=list(targets),
            multipath=request.multipath,
            encryption=request.encryption,
            min_paths=request.min_paths,
            enforce_multipath=request.multipath and request.enforce_multipath,
            expected_wwn=request.expected_wwn or wwn,
        )
        operation.when_cancelled(run.attempts.stop_waiting)
        return run

    def _undone(
        self,
        operation: Operation,
        outcome: engine.Outcome,
        run: Run,
        record: AttachmentRecord,
    ) -> None:
        assert outcome.error is not None
        result = self.undone(operation, outcome, run)
        self._give_up(operation, result, record)

    def _give_up(
        self,
        operation: Operation,
        result: objects.OperationResult,
        record: AttachmentRecord,
    ) -> None:
        """End an attach that has failed and was undone, or is to be."""
        name = record.attachment_id
        after = record.state.when_given_up()
        if result.leftovers:
            left = record.with_state(record.state.when_left_over())
            self.conclude(operation, result, left)
            self._cleanup.later(name)
        elif after is not None:
            self.conclude(operation, result, record.with_state(after))
        else:
            self.conclude(operation, result, gone=name)

    def _settle(
        self,
        operation: Operation,
        run: Run,
        device: objects.DeviceInfo,
        record: AttachmentRecord,
    ) -> None:
        """See to the targets that the answer did not wait for.

        The attachment's next operation waits for this.
        """
        operation.when_to_wrap_up(run.attempts.wrap_up)
        run.undo_deadline = deadlines.Deadline.after(run.grace)
        if device.multipath_id is None and not (
            run.multipath and run.connector.puts_together()
        ):
            disk = late_paths.disk_of(device)
            for target in run.targets:
                if target not in late_paths.connected(device, run.targets):
                    run.leftovers += run.let_go(target, disk)
        else:
            self._join(run, device, record)
        if run.leftovers:
            self._cleanup.later(record.attachment_id)

    def _join(
        self, run: Run, device: objects.DeviceInfo, record: AttachmentRecord
    ) -> None:
        now = late_paths.join(
            run, device, device.multipath_id or str(record.wwn)
        )
        self._records.put_attachment(record.with_device(now))

    def abandon(self, operation: Operation) -> None:
        if not operation.resumed or self._undo_earlier(operation):
            super().abandon(operation)

    def _undo_earlier(self, operation: Operation) -> bool:
        """Put back what an attach did before the worker was stopped.

        Nothing of it is trusted. An attachment that was there before the
        request stays as it is.

        :returns: False if something is left; the operation has failed then
        """
        known = self._records.attachment(operation.attachment_id)
        if known is None or not known.state.is_being_made:
            return True
        # A login that goes on without its worker is met when it is repeated.
        again = operation.abandoned is None and not operation.deadline.passed
        left = self._cleanup.undo(known, cut_short=again)
        if not left:
            return True
        late = exception.DeadlineExceeded(step='recovery')
        error = operation.abandoned or (
            exception.UndoFailed() if again else late
        )
        result = self.failed(operation, error)
        result.leftovers = left
        self._give_up(operation, result, known)
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
