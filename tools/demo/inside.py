# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The part of the demo that runs inside the lab."""

import os
import sys


def main() -> int:
    """Run the scenario on the kernel that this runs on."""
    # What follows is read and compiled by a slow machine.
    print(f'Linux {os.uname().release} is up; starting a worker ...')
    sys.stdout.flush()
    from attachworker import threading_backend  # noqa: F401

    # isort: split
    from tests.kernel.bed import KernelBed
    from tools.demo import scenario

    return scenario.run(KernelBed(), 'a real kernel')


if __name__ == '__main__':
    sys.exit(main())
