# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations that do what a test says."""

from collections.abc import Callable
import concurrent.futures
import threading
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.worker.operation import Operation
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


class FakeKind:
    """Makes operations that end at once, or when they are told to.

    :ivar act: is called with the operation first
    :ivar find_info: what an operation is about
    :ivar fail: notes how one has broken down; None: as it is
    """

    def __init__(self, records: Any) -> None:
        self.records = records
        self.act: Callable[[Any], None] = lambda operation: None
        self.find_info: Callable[[], Any] = lambda: None
        self.runs: list[str] = []
        self.ran = threading.Event()
        self.failed: list[str] = []
        self.mended: list[str] = []
        self.fail: Callable[[Any], None] | None = None

    def __call__(
        self,
        request: Any,
        deadline: deadlines.Deadline,
        on_finish: Callable[[Any], None],
        stopping: threading.Event | None = None,
    ) -> 'FakeOperation':
        return FakeOperation(
            self, request, deadline, on_finish, stopping or threading.Event()
        )


class FakeOperation(Operation):
    status = 'attached'

    def __init__(self, made_by: FakeKind, request: Any, *more: Any) -> None:
        self._made_by = made_by
        is_attach = isinstance(request, objects.AttachRequest)
        self.kind = 'attach' if is_attach else 'detach'
        unused: Any = None
        super().__init__(made_by.records, unused, unused, [], request, *more)

    def find_info(self) -> Any:
        return self._made_by.find_info()

    def perform(self) -> None:
        self._made_by.runs.append(self.request.request_id)
        self._made_by.ran.set()
        self._made_by.act(self)
        self.succeed()

    def succeed(self) -> None:
        self.conclude(self.result_of(self.status))

    def conclude(self, result: Any, *values: Any, **more: Any) -> bool:
        if result.error is not None:
            self._made_by.failed.append(self.request.request_id)
        return super().conclude(result, *values, **more)

    def fail(self, error: Any) -> None:
        (self._made_by.fail or super().fail)(error)

    def mend_later(self) -> None:
        self._made_by.mended.append(self.request.request_id)


class Gate:
    """Holds an operation until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, operation: Any) -> None:
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


def ended(operation: Any) -> objects.OperationResult:
    """The result, without waiting for ever."""
    assert isinstance(operation, Operation)
    found: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def wait() -> None:
        try:
            found.set_result(operation.wait())
        except exception.JournalUnavailable as error:
            found.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return found.result(PATIENCE)
