# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What attach, detach and extend have in common: run a flow, tell the end."""

from collections.abc import Callable
import dataclasses
from typing import Any

from taskflow.flow import Flow

from attachworker import exception
from attachworker import objects
from attachworker.connectors import Connectors
from attachworker.host import Host
from attachworker.host import locks
from attachworker.journal import AttachmentRecord
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.operations import engine
from attachworker.operations.operation import Operation
from attachworker.tasks.run import Run
from attachworker.telemetry.progress import Progress


@dataclasses.dataclass(frozen=True)
class Services:
    """The parts of the worker that operations use.

    :ivar boot_id: of the running kernel
    :ivar executor: threads for flows, shared by all of them
    :ivar grace: seconds for undoing beyond the deadline
    :ivar observe: tells listeners of the steps of an operation
    :ivar clean_later: has what is left of an attachment put back later
    :ivar volumes: locks, by the identity of volumes
    :ivar limits: further fields of a Run that bound its waits, in seconds
    :ivar run_class: tests pass one that fails at a chosen step
    """

    host: Host
    connectors: Connectors
    database: Database
    records: Records
    boot_id: str
    executor: Any
    grace: float
    observe: Callable[[Operation], Progress]
    clean_later: Callable[[str], None]
    volumes: locks.NamedLocks = dataclasses.field(
        default_factory=locks.NamedLocks
    )
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)
    run_class: type[Run] = Run


class BaseHandler:
    """Runs the flow of an operation and writes down how it ended."""

    status = 'failed'

    def __init__(self, services: Services) -> None:
        self.services = services

    def make_run(
        self,
        operation: Operation,
        info: objects.ConnectionInfo,
        **values: Any,
    ) -> Run:
        services = self.services
        return services.run_class(
            info=info,
            host=services.host,
            get_connector=services.connectors.get,
            holdings=self.holdings(operation),
            volumes=services.volumes,
            held=operation.held,
            deadline=operation.deadline,
            grace=services.grace,
            name=operation.attachment_id,
            **services.limits,
            **values,
        )

    def holdings(self, operation: Operation) -> Holdings:
        services = self.services
        return Holdings(
            services.database, operation.attachment_id, services.boot_id
        )

    def run_flow(
        self, operation: Operation, flow: Flow, run: Run
    ) -> engine.Outcome:
        several = len(run.targets) > 1
        return engine.run(
            flow,
            self.services.executor if several else None,
            self.services.observe(operation),
        )

    def succeeded(
        self,
        operation: Operation,
        outcome: engine.Outcome,
        run: Run,
        device: objects.DeviceInfo | None = None,
    ) -> objects.OperationResult:
        return objects.OperationResult(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            operation=operation.kind,
            status=self.status,
            device=device,
            warnings=run.warnings,
            timings=outcome.timings,
        )

    def failed(
        self,
        operation: Operation,
        error: BaseException,
        step: str | None = None,
    ) -> objects.OperationResult:
        return objects.OperationResult(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            operation=operation.kind,
            status='failed',
            error=objects.OperationError.from_exception(error, step),
        )

    def undone(
        self, operation: Operation, outcome: engine.Outcome, run: Run
    ) -> objects.OperationResult:
        """The result of a flow that failed."""
        assert outcome.error is not None
        result = self.failed(operation, outcome.error, outcome.step)
        result.warnings = run.warnings
        result.leftovers = run.leftovers
        result.timings = outcome.timings
        return result

    def conclude(
        self,
        operation: Operation,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None = None,
        gone: str | None = None,
    ) -> bool:
        """Make the result final, then tell it.

        :returns: False if it is a success, and the journal says that the
            request was cancelled before
        """
        if not self._finish(operation, result, attachment, gone):
            if result.error is None:
                return False
            result.error = cancelled(result.error.step)
            if not self._finish(operation, result, attachment, gone):
                result = self._written(operation) or result
        operation.finish(result)
        return True

    def _written(self, operation: Operation) -> objects.OperationResult | None:
        """The result that somebody has broken down after writing it."""
        found = operation.persist(
            lambda: self.services.records.request(operation.request.request_id)
        )
        return found.result_object() if found else None

    def _finish(
        self,
        operation: Operation,
        result: objects.OperationResult,
        attachment: AttachmentRecord | None,
        gone: str | None,
    ) -> bool:
        error = result.error
        primitive = result.obj_to_primitive()
        return operation.persist(
            lambda: self.services.records.finish(
                operation.request.request_id,
                primitive,
                attachment,
                gone,
                error is not None
                and error.code == exception.OperationCancelled.code,
            )
        )

    def abandon(self, operation: Operation) -> None:
        assert operation.abandoned is not None
        self.conclude(operation, self.failed(operation, operation.abandoned))

    def refuse(
        self, operation: Operation, error: exception.AttachWorkerError
    ) -> None:
        self.conclude(operation, self.failed(operation, error))

    def fail(
        self, operation: Operation, error: exception.AttachWorkerError
    ) -> None:
        """End an operation that has broken down, wherever that was."""
        result = self.failed(operation, error)
        known = self.services.records.readable(operation.attachment_id)
        if known is None:
            self.conclude(operation, result)
            return
        left = known.with_state(known.state.when_broken_off())
        if left.state.is_left_over:
            result.leftovers = [f'what was done for {known.attachment_id}']
            self.services.clean_later(known.attachment_id)
        self.conclude(operation, result, left)

    def mend_later(self, operation: Operation) -> None:
        self.services.clean_later(operation.attachment_id)


def cancelled(step: str | None) -> objects.OperationError:
    """The error of a request that was cancelled in, or before, a step."""
    return objects.OperationError.from_exception(
        exception.OperationCancelled(step=step or 'its first step'), step
    )
