# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Handlers of operations that do what a test says."""

from collections.abc import Callable
import threading
from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.journal import Records
from tests.unit.objects import shapes

PATIENCE = 10.0


def attach(request_id: str = 'request', **values: Any) -> Any:
    values.setdefault('attachment_id', 'attachment')
    values.setdefault('connection_info', shapes.lio())
    made = objects.AttachRequest(request_id=request_id, **values)
    made.validate()
    return made


def detach(request_id: str = 'request', **values: Any) -> Any:
    values.setdefault('attachment_id', 'attachment')
    made = objects.DetachRequest(request_id=request_id, **values)
    made.validate()
    return made


class FakeHandler:
    """Ends operations at once, or when it is told to.

    :ivar act: is called with the operation first
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self.act: Callable[[Any], None] = lambda operation: None
        self.runs: list[str] = []
        self.ran = threading.Event()
        self.failed: list[str] = []
        self.mended: list[str] = []

    def attachment_id(self, request: Any) -> str:
        return str(request.attachment_id)

    def info(self, request: Any) -> None:
        return None

    def run(self, operation: Any) -> None:
        self.runs.append(operation.request.request_id)
        self.ran.set()
        self.act(operation)
        self.conclude(operation, 'attached')

    def abandon(self, operation: Any) -> None:
        self.failed.append(operation.request.request_id)
        self.conclude(operation, 'failed', operation.abandoned)

    def refuse(
        self, operation: Any, error: exception.AttachWorkerError
    ) -> None:
        self.failed.append(operation.request.request_id)
        self.conclude(operation, 'failed', error)

    def fail(self, operation: Any, error: BaseException) -> None:
        self.failed.append(operation.request.request_id)
        known = isinstance(error, exception.AttachWorkerError)
        self.conclude(operation, 'failed', error if known else None)

    def mend_later(self, operation: Any) -> None:
        self.mended.append(operation.request.request_id)

    def conclude(
        self,
        operation: Any,
        status: str,
        cause: exception.AttachWorkerError | None = None,
    ) -> None:
        error = None
        if status == 'failed':
            error = objects.OperationError.from_exception(
                cause or exception.AttachWorkerError()
            )
        result = objects.OperationResult(
            request_id=operation.request.request_id,
            attachment_id=operation.request.attachment_id,
            operation=operation.kind,
            status=status,
            error=error,
        )
        operation.persist(
            lambda: self._records.finish(
                operation.request.request_id,
                result.obj_to_primitive(),
                None,
                None,
                cancelled=isinstance(cause, exception.OperationCancelled),
            )
        )
        operation.finish(result)


class Gate:
    """Holds an operation until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, operation: Any) -> None:
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()
