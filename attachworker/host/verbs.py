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


"""Calls of privileged verbs that cannot hold up the caller for ever."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import threading
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception


class Verbs:
    """Runs each verb in a thread of its own and waits up to a deadline.

    A verb that is stuck in the kernel costs that thread, nothing else. What
    it was about stays in :meth:`unfinished` until it does return.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[object, tuple[str, str]] = {}

    def call(
        self,
        verb: Callable[..., Any],
        *arguments: Any,
        name: str,
        about: str,
        deadline: deadlines.Deadline,
    ) -> Any:
        """The verb's result, or whatever it raised.

        :param name: the verb, for messages
        :param about: what it acts on: a target or a device
        :raises DeadlineExceeded: it has not returned in time; after the
            deadline it is not even started
        :raises OperationCancelled: likewise; one that runs is waited for
        """
        deadline.check(f'{name} of {about}')
        outcome: list[Any] = []
        error: list[BaseException] = []
        done = threading.Event()

        def body() -> None:
            with self._registered(name, about):
                try:
                    outcome.append(verb(*arguments))
                except BaseException as raised:
                    error.append(raised)
            done.set()

        threading.Thread(target=body, name=name, daemon=True).start()
        if not done.wait(deadline.remaining()):
            raise exception.DeadlineExceeded(step=f'{name} of {about}')
        if error:
            raise error[0]
        return outcome[0]

    @contextlib.contextmanager
    def _registered(self, name: str, about: str) -> Iterator[None]:
        key = object()
        with self._lock:
            self._running[key] = (name, about)
        try:
            yield
        finally:
            with self._lock:
                del self._running[key]

    def unfinished(self, about: str) -> list[str]:
        """The names of the verbs that still act on something."""
        with self._lock:
            return [
                name for name, what in self._running.values() if what == about
            ]
