# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The same for several things at the same time."""

from collections.abc import Callable
from collections.abc import Sequence
import threading
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')


def each(
    things: Sequence[T], act: Callable[[T], R]
) -> list[R | BaseException]:
    """Do something to each; returns once all of it has ended.

    There is a thread for each but the first one, which is the caller's. Where
    none can be started, the caller's does.

    :returns: in the order of the things, what was returned or raised
    """
    found: dict[int, R | BaseException] = {}

    def one(number: int) -> None:
        try:
            found[number] = act(things[number])
        except BaseException as error:
            found[number] = error

    threads: list[threading.Thread] = []
    left = list(range(min(len(things), 1)))
    for number in range(1, len(things)):
        thread = threading.Thread(
            target=one, args=(number,), name=f'{things[number]}', daemon=True
        )
        try:
            thread.start()
            threads.append(thread)
        except (RuntimeError, MemoryError):
            left.append(number)
    for number in left:
        one(number)
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(things))]
