# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Memory of this host, for tools that take much of it for a moment."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import math
import pathlib
import re
import threading

from attachworker import deadline as deadlines
from attachworker.host import sysfs

_LIMIT = 2 << 30
_AVAILABLE = re.compile(r'^MemAvailable:[ \t]+([0-9]{1,18}) kB$', re.MULTILINE)
#: Seconds between two looks: others give memory back, too.
_INTERVAL = 1.0


@dataclasses.dataclass(eq=False)
class _Share:
    """What one run of a tool may take.

    :ivar ended: whether its caller waits no longer for it
    """

    name: str
    amount: int
    ended: bool = False


class Memory:
    """Gives each run of a tool its share, in the order in which they came.

    What a tool was given counts until it has ended, also where its caller has
    given it up. It counts as not taken yet, so that what the host has
    available is for newcomers only as far as all others have theirs.

    :param runs: whether a verb still acts on a thing, by name
    :ivar limit: bytes for all together
    """

    def __init__(
        self, root: pathlib.Path, runs: Callable[[str], bool]
    ) -> None:
        self.limit = _LIMIT
        self._root = root
        self._runs = runs
        self._changed = threading.Condition()
        self._waiting: list[_Share] = []
        self._held: list[_Share] = []

    def spare(self) -> int:
        """Bytes that one run can have without being a burden to others."""
        return int(min(self.limit, self._available() / 2))

    @contextlib.contextmanager
    def held(
        self, name: str, amount: int, deadline: deadlines.Deadline
    ) -> Iterator[None]:
        """Have so many bytes while this is entered.

        :param name: of what the verb acts on
        :raises OSError: ENOMEM: there will never be so many
        :raises DeadlineExceeded: others have them
        """
        if amount > self.limit:
            raise OSError(
                errno.ENOMEM,
                f'it takes {_mib(amount)} of memory, and option '
                f'encryption_memory allows {_mib(self.limit)}',
            )
        share = _Share(name, amount)
        with self._changed:
            self._waiting.append(share)
            try:
                while self._waiting[0] is not share or not self._fits(amount):
                    deadline.check(f'Waiting for memory for {name}')
                    self._changed.wait(min(_INTERVAL, deadline.remaining()))
                self._held.append(share)
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                share.ended = True
                self._changed.notify_all()

    def _fits(self, amount: int) -> bool:
        """Whether there is so much for one more.

        :raises OSError: there is not, though nobody else has any
        """
        self._held = [
            one for one in self._held if not one.ended or self._runs(one.name)
        ]
        wanted = amount + sum(one.amount for one in self._held)
        available = self._available()
        if not self._held and wanted > available:
            raise OSError(
                errno.ENOMEM,
                f'it takes {_mib(amount)} of memory, and this host has '
                f'{_mib(available)} available',
            )
        return wanted <= min(self.limit, available)

    def _available(self) -> float:
        text = sysfs.read(self._root / 'proc/meminfo') or ''
        found = _AVAILABLE.search(text)
        return int(found[1]) * 1024 if found else math.inf


def _mib(amount: float) -> str:
    return f'{amount / (1 << 20):.0f} MiB'
