# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is left is put back at last, whatever happens on the way."""

from collections.abc import Callable
from collections.abc import Iterator
import threading
from typing import Any

import pytest

from attachworker import exception
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.dispatcher import Dispatcher

PATIENCE = 20.0


class Left(Cleanup):
    """Of an attachment of which something is left, for some attempts.

    :param attempts: what each of them does
    """

    def __init__(
        self, dispatcher: Dispatcher, *attempts: Callable[[], bool]
    ) -> None:
        nothing: Any = None  # what the real attempts use
        super().__init__(dispatcher, nothing, nothing)
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
    dispatcher: Dispatcher, error: BaseException
) -> None:
    cleanup = Left(dispatcher, fails(error), lambda: True)
    cleanup.later('attachment')
    assert cleanup.pending() == 1
    assert cleanup.done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert cleanup.pending() == 0


def test_what_is_left_is_tried_again(dispatcher: Dispatcher) -> None:
    cleanup = Left(dispatcher, lambda: False, lambda: True)
    for _ in range(3):  # by whoever has noticed
        cleanup.later('attachment')
    assert cleanup.pending() == 1
    assert cleanup.done.wait(PATIENCE)
    assert dispatcher.stop(PATIENCE)
    assert cleanup.pending() == 0
