# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A command, the files that a shell gives it or does not, and Ctrl-C."""

from collections.abc import Callable
import contextlib
import errno
import os
import signal
import sys
from typing import Any

#: The reader of the output has gone, or the output cannot be written.
EXIT_UNWRITTEN = 1
#: As shells have it for a program that ended by SIGINT.
EXIT_INTERRUPTED = 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run(command: Callable[[], int]) -> int:
    """Run a command and return its exit code.

    Its work does not depend on whether somebody reads what it prints: who
    has closed its output, or reads only the beginning, gets no traceback.
    """
    _open_missing()
    try:
        code = command()
        # What is written at exit only would fail there.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        _discard_output()
        print(
            f'The output cannot be written: {error.strerror}', file=sys.stderr
        )
    return EXIT_UNWRITTEN


def on_interrupt(end: Callable[[], int]) -> None:
    """Have Ctrl-C end the process at once.

    Not by KeyboardInterrupt: it comes up wherever the code of a library is
    at the moment, and not all of that lets it pass.

    :param end: called before; returns the exit code
    """

    def interrupt(*_: Any) -> None:
        code = EXIT_INTERRUPTED
        try:
            code = end()
        finally:
            os._exit(code)

    # Who starts a command in the background may have it ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)


def _open_missing() -> None:
    """Open what was closed, before a connection gets its number."""
    for name, number, mode in (
        ('stdin', 0, 'r'),
        ('stdout', 1, 'w'),
        ('stderr', 2, 'w'),
    ):
        if getattr(sys, name) is None:
            null = open(os.devnull, mode, encoding='utf-8')
            if null.fileno() != number:
                os.dup2(null.fileno(), number)
            setattr(sys, name, null)


def _discard_output() -> None:
    # Python would try again at exit, and say so.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
