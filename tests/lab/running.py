# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs a command in the lab, with a User-Mode Linux that is made to fail."""

import os
import pathlib
import subprocess
import sys

from tests.kernel import guest


def lab(
    directory: pathlib.Path,
    *command: str,
    kernel: str = 'uml',
    script: str = 'exec /usr/bin/linux.uml "$@"',
) -> subprocess.CompletedProcess[str]:
    """What came of the command.

    :param directory: for temporary files, those of the lab included
    :param kernel: as in ``LAB_KERNEL``
    :param script: is called in the place of ``linux.uml``
    """
    program = directory / 'linux.uml'
    program.write_text(f'#!/bin/sh\n{script}\n')
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, '-m', 'tests.kernel.lab', 'run', '--', *command],
        cwd=guest.CHECKOUT,
        env=os.environ
        | {
            'LAB_KERNEL': kernel,
            'PATH': f'{directory}:{os.environ["PATH"]}',
            'TMPDIR': str(directory),
        },
        capture_output=True,
        text=True,
        check=False,
    )
