# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What other users of the machine could see: how programs are started.

Not by looking at /proc again and again: a program may be gone before.
"""

import os
import pathlib
import sys
import tempfile
from typing import Any

_log: pathlib.Path | None = None


def install() -> None:
    """Note each start of a program from now on.

    To be called before the privileged helper is forked, which starts most of
    them: it notes into the same file.
    """
    global _log
    if _log is None:
        descriptor, name = tempfile.mkstemp(prefix='started-')
        os.close(descriptor)
        _log = pathlib.Path(name)
        sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event != 'subprocess.Popen':
        return
    _executable, command, _directory, environment = arguments
    environment = os.environ if environment is None else environment
    words = [*command, *(f'{key}={environment[key]}' for key in environment)]
    line = '\0'.join(map(os.fsdecode, words)).replace('\n', ' ') + '\n'
    assert _log is not None
    with open(_log, 'ab') as stream:
        stream.write(line.encode(errors='surrogateescape'))


class Spy:
    """Knows the programs that were started in its with block.

    :ivar commands: arguments and environment of each iscsiadm and cryptsetup
    :ivar leaks: those with a secret of the tests in them
    """

    def __init__(self) -> None:
        self.commands: set[bytes] = set()
        self.leaks: set[bytes] = set()
        self._before = 0

    def __enter__(self) -> 'Spy':
        assert _log is not None
        self._before = len(_log.read_bytes())
        return self

    def __exit__(self, *_: object) -> None:
        assert _log is not None
        started = _log.read_bytes()[self._before :].splitlines()
        self.commands = {
            one
            for one in started
            # also where another one starts it, with less memory, say
            if not {b'iscsiadm', b'cryptsetup'}.isdisjoint(one.split(b'\0'))
        }
        self.leaks = {one for one in self.commands if b'CANARY' in one}
