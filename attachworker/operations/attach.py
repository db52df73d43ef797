# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Attach: the flow, and what it means for the journal."""

import contextlib
import dataclasses

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.host import encryption as host_encryption
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Holdings
from attachworker.journal import if_without_secrets
from attachworker.journal import without_secrets
from attachworker.operations import engine
from attachworker.operations import handler
from attachworker.operations import late_paths
from attachworker.operations.operation import Operation
from attachworker.tasks import attach as steps
from attachworker.tasks import encryption
from attachworker.tasks import takedown
from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)


class AttachHandler(handler.BaseHandler):
    status = 'attached'

    def attachment_id(self, request: objects.AttachRequest) -> str:
        return str(request.attachment_id)

    def info(self, request: objects.AttachRequest) -> objects.ConnectionInfo:
        return request.connection_info

    def run(self, operation: Operation) -> None:
        request = operation.request
        key = request.connection_key
        if not self._undo_earlier(operation):
            return
        known = self.services.records.attachment(request.attachment_id)
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
            boot_id=self.services.boot_id,
        )
        if known is not None:
            record = record.in_place_of(known)
        self.services.records.put_attachment(record)
        run = self._make_run(
            operation, request.connection_info.targets, record.wwn
        )
        outcome = self._run_flows(operation, run)
        if outcome.error is not None:
            self._undone(operation, outcome, run, record)
            return
        device = _device(outcome)
        made = _with_device(
            dataclasses.replace(
                record,
                connection=without_secrets(run.info),
                wwn=outcome.results['wwn'],
                again=if_without_secrets(request),
            ),
            device,
        )
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
        run = self._make_run(operation, stored.targets, known.wwn)
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
        if not self.conclude(operation, result, _with_device(known, device)):
            undone = _taken_back(run, outcome)
            self.conclude(operation, self.undone(operation, undone, run))
        elif more:
            self._settle(operation, run, device, known)

    def _make_run(
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
            self.services.clean_later(name)
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
            self.services.clean_later(record.attachment_id)

    def _join(
        self, run: Run, device: objects.DeviceInfo, record: AttachmentRecord
    ) -> None:
        now = late_paths.join(
            run, device, device.multipath_id or str(record.wwn)
        )
        self.services.records.put_attachment(_with_device(record, now))

    # -- later

    def clean(self, attachment_id: str) -> bool:
        """Put back what an attach has left; True if nothing is.

        That is all that a failed one has made, and what one that has
        succeeded does without.
        """
        known = self.services.records.readable(attachment_id)
        if known is None:
            return True
        try:
            left = self._clean(known)
        except exception.RecordUnreadable as error:
            LOG.error('%s', error)
            return True
        except (exception.AttachWorkerError, OSError) as error:
            left = [str(error)]
        if left:
            LOG.warning('Left over of %s: %s', attachment_id, ', '.join(left))
        return not left

    def _clean(self, known: AttachmentRecord) -> list[str]:
        if known.state.has_device:
            return self._release_unused(known)
        if not known.state.is_left_over:
            return []
        left = self._put_back(known)
        if not left:
            LOG.info('Nothing is left of %s any more', known.attachment_id)
            self._forget(known)
        return left

    def needs_cleaning(self, known: AttachmentRecord) -> bool:
        """Whether :meth:`clean` may find something to do.

        :raises RecordUnreadable: nobody knows
        """
        info, device = known.info(), known.device_info()
        if not known.state.has_device or device is None:
            return known.state.is_left_over
        used = late_paths.connected(device, info.targets)
        held = Holdings(
            self.services.database, known.attachment_id, self.services.boot_id
        ).paths(type(info.targets[0]))
        return device.degraded or {one.key for one in held} != {
            one.key for one in used
        }

    def _forget(self, known: AttachmentRecord) -> None:
        """Nothing is left of an attach."""
        records = self.services.records
        after = known.state.when_given_up()
        if after is None:
            records.forget_attachment(known.attachment_id)
        else:
            records.put_attachment(known.with_state(after))

    def abandon(self, operation: Operation) -> None:
        if not operation.resumed or self._undo_earlier(operation):
            super().abandon(operation)

    def _undo_earlier(self, operation: Operation) -> bool:
        """Put back what an attach did before the worker was stopped.

        Nothing of it is trusted. An attachment that was there before the
        request stays as it is.

        :returns: False if something is left; the operation has failed then
        """
        request, records = operation.request, self.services.records
        known = records.attachment(request.attachment_id)
        if known is None or not known.state.is_being_made:
            return True
        # A login that goes on without its worker is met when it is repeated.
        again = operation.abandoned is None and not operation.deadline.passed
        left = self._put_back(known, cut_short=again)
        if not left:
            self._forget(known)
            return True
        late = exception.DeadlineExceeded(step='recovery')
        error = operation.abandoned or (
            exception.UndoFailed() if again else late
        )
        result = self.failed(operation, error)
        result.leftovers = left
        self._give_up(operation, result, known)
        return False

    def _release_unused(self, known: AttachmentRecord) -> list[str]:
        """Put back paths that an attach tried and did not use."""
        device = self._with_late_paths(known)
        info = known.info()
        used = {one.key for one in late_paths.connected(device, info.targets)}
        self.services.records.put_attachment(_with_device(known, device))
        down = self._takedown(known, cut_short=False)
        disk = None if device.multipath_id else late_paths.disk_of(device)
        left: list[str] = []
        for target in info.targets:
            if target.key not in used:
                left += down.disconnect(target, disk)
        return left

    def _put_back(
        self, known: AttachmentRecord, cut_short: bool = False
    ) -> list[str]:
        """Take down what a failed attach has left on the host.

        From journal and kernel alone: nothing is known of how it came there.

        :param cut_short: see :class:`attachworker.journal.Holdings`
        :returns: what is left
        """
        try:
            with contextlib.ExitStack() as held:
                if known.wwn is not None:
                    held.enter_context(self._lock(known.wwn))
                return self._takedown(known, cut_short).everything()
        except exception.AttachWorkerError as error:
            return [f'{known.attachment_id}: {error}']

    def _lock(self, identity: str) -> contextlib.AbstractContextManager[None]:
        services = self.services
        return services.volumes.hold(
            objects.normalise_wwn(identity),
            deadlines.Deadline.after(services.grace),
        )

    def _takedown(
        self, known: AttachmentRecord, cut_short: bool
    ) -> takedown.Takedown:
        """:raises AttachWorkerError: its protocol cannot be used now"""
        services = self.services
        info = known.info()
        connector = services.connectors.get(info.protocol)
        holdings = Holdings(
            services.database,
            known.attachment_id,
            services.boot_id,
            cut_short,
        )
        return takedown.Takedown(
            services.host,
            connector,
            holdings,
            deadlines.Deadline.after(services.grace),
            holdings.paths(connector.target_class),
            host_encryption.name_of(known.attachment_id),
            known.wwn,
            undo=True,
        )

    def _with_late_paths(self, known: AttachmentRecord) -> objects.DeviceInfo:
        """The device with those paths that joined its map unrecorded."""
        device = known.device_info()
        assert device is not None  # by its state
        services = self.services
        if device.multipath_id is None:
            return device
        found = services.host.multipath.find(device.multipath_id)
        info = known.info()
        connector = services.connectors.get(info.protocol)
        for path in device.paths:
            for now in connector.paths(late_paths.target_of(path)):
                if found is not None and now.disk in found.disks:
                    path.device, path.state, path.error = (
                        now.disk,
                        'connected',
                        None,
                    )
        device.degraded = _degraded(device)
        return device


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


def _with_device(
    record: AttachmentRecord, device: objects.DeviceInfo
) -> AttachmentRecord:
    return dataclasses.replace(
        record,
        state=AttachmentState.DEGRADED
        if device.degraded
        else AttachmentState.ATTACHED,
        device=device.obj_to_primitive(),
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
        found.degraded = _degraded(found)
    return found


def _degraded(device: objects.DeviceInfo) -> bool:
    return any(path.state != 'connected' for path in device.paths)
