# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is left is put back at last, whatever happens on the way."""

from collections.abc import Callable
from collections.abc import Iterator
import threading
from typing import Any

import pytest

from attachworker import exception
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Records
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.dispatcher import Job
from tests.unit.journal import rows

PATIENCE = 20.0


class Left(Cleanup):
    """Of an attachment of which something is left, for some attempts.

    :param attempts: what each of them does
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        records: Records,
        *attempts: Callable[[], bool],
    ) -> None:
        nothing: Any = None  # what the real attempts use
        super().__init__(dispatcher, records, nothing)
        self._attempts = list(attempts)
        self.done = threading.Event()

    def clean(self, attachment_id: str) -> bool:
        found = self._attempts.pop(0)()
        if not self._attempts:
            self.done.set()
        return found


def fails(error: BaseException) -> Callable[[], bool]:
    def attempt() -> bool:
        raise error

    return attempt


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher(2, 2, 10)
    made.start()
    yield made
    assert made.stop(PATIENCE)


@pytest.mark.parametrize(
    'error',
    [
        exception.JournalUnavailable(path='journal', reason='it is full'),
        OSError(5, 'an error of the disk'),
        LookupError('a bug'),
        SystemExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_attempt_that_breaks_is_not_the_last(
    dispatcher: Dispatcher, records: Records, error: BaseException
) -> None:
    cleanup = Left(dispatcher, records, fails(error), lambda: True)
    cleanup.later('attachment')
    assert cleanup.pending() == 1
    assert cleanup.done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert cleanup.pending() == 0


def test_an_attempt_is_never_beside_an_operation_on_the_volume(
    records: Records,
) -> None:
    # Given a thread for one of each backend, and what is left of an attach
    dispatcher = Dispatcher(4, 1, 10)
    record = rows.attachment()
    rows.put(records, record.with_state(AttachmentState.ATTACH_FAILED))
    # When another attachment of the same volume is at it
    beside, other = Beside('other', record), Beside('elsewhere', None)
    dispatcher.start()
    dispatcher.add(beside)
    assert beside.begun.wait(PATIENCE)
    cleanup = Left(dispatcher, records, lambda: True)
    cleanup.later(record.attachment_id)
    # Then clean-up waits for its end, and other storage does not
    assert not cleanup.done.wait(2)
    dispatcher.add(other)
    assert other.begun.wait(PATIENCE)
    for one in (beside, other):
        one.ends.set()
    assert cleanup.done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)


class Beside(Job):
    """An operation that goes on until it is told to end.

    :param like: the attachment whose volume it is about
    """

    def __init__(self, name: str, like: AttachmentRecord | None) -> None:
        self.concerns(name, like.info() if like else None)
        self.begun = threading.Event()
        self.ends = threading.Event()

    def run(self) -> None:
        self.begun.set()
        self.ends.wait(PATIENCE)


def test_what_is_left_is_tried_again(
    dispatcher: Dispatcher, records: Records
) -> None:
    cleanup = Left(dispatcher, records, lambda: False, lambda: True)
    for _ in range(3):  # by whoever has noticed
        cleanup.later('attachment')
    assert cleanup.pending() == 1
    assert cleanup.done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert cleanup.pending() == 0
