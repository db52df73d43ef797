# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The tools of this host that verbs run, each to its end."""

import errno
import subprocess

from attachworker.privileged import process

#: All of the environment that a tool gets.
_ENVIRONMENT = {
    'LC_ALL': 'C',
    'PATH': '/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin',
}


def run(
    *command: str,
    timeout: float,
    key: str = '',
    merged: bool = False,
    awaited: bool = True,
    address_space: int | None = None,
    descriptors: tuple[int, ...] = (),
) -> tuple[int, str, str]:
    """Exit code, output and error output of a tool.

    :param timeout: seconds after which it is killed
    :param key: goes through its standard input, and nowhere else
    :param merged: whether its output has the error output in it
    :param awaited: whether the next worker waits for it if it outlives this
        process
    :param address_space: bytes that it may have; None: as many as it wants
    :param descriptors: that it is given, beside its standard ones
    :raises FileNotFoundError: it is not installed
    :raises TimeoutError: it was killed
    """
    # prlimit(1), of util-linux, becomes the tool itself
    limited = ('prlimit', f'--as={address_space}') if address_space else ()
    try:
        ended = subprocess.run(
            (*limited, *command),
            input=key.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env=_ENVIRONMENT,
            pass_fds=(*descriptors, *(process.held() if awaited else ())),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # What it has printed may have the bytes of the key in it.
        raise TimeoutError(
            errno.ETIMEDOUT, f'{command[0]} does not end'
        ) from None
    output, errors = (
        (text or b'').decode(errors='replace').strip()
        for text in (ended.stdout, ended.stderr)
    )
    return ended.returncode, output, errors
