# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A command and the files that a shell gives it, or does not."""

from collections.abc import Callable
import contextlib
import errno
import os
import sys

#: The reader of the output has gone, or the output cannot be written.
EXIT_UNWRITTEN = 1
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
