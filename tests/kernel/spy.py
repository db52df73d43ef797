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

"""Looks for secrets in what all processes show of themselves."""

import contextlib
import pathlib
import threading


class Spy:
    """Reads arguments and environment of all processes, again and again."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.commands: set[bytes] = set()
        self.leaks: set[bytes] = set()

    def __enter__(self) -> 'Spy':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for process in pathlib.Path('/proc').glob('[0-9]*'):
                with contextlib.suppress(OSError):
                    self._look(process)

    def _look(self, process: pathlib.Path) -> None:
        command = (process / 'cmdline').read_bytes()
        if command.startswith(b'iscsiadm'):
            self.commands.add(command)
            command += (process / 'environ').read_bytes()
            if b'CANARY' in command:
                self.leaks.add(command)
