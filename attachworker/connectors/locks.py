# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""Locks by name that give up at a deadline."""

from collections.abc import Iterator
import contextlib
import threading

from attachworker import deadline as deadlines
from attachworker import exception


class NamedLocks:
    """One lock a name, made when wanted and forgotten when free."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held: set[str] = set()

    @contextlib.contextmanager
    def hold(self, name: str, deadline: deadlines.Deadline) -> Iterator[None]:
        """Own the lock for the length of a with block.

        :raises DeadlineExceeded: others held it until then
        """
        with self._condition:
            free = self._condition.wait_for(
                lambda: name not in self._held, deadline.remaining()
            )
            if not free:
                raise exception.DeadlineExceeded(step=f'lock {name}')
            self._held.add(name)
        try:
            yield
        finally:
            with self._condition:
                self._held.discard(name)
                self._condition.notify_all()
