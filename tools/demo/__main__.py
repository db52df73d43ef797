# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Runs the demo on a real kernel in the lab, or on the simulated host.

``HOST=simulated`` chooses the second one, which needs no root. The exit code
is 0 only if everything was as it should be.
"""

import os
import subprocess
import sys

_TIMEOUT = 300  # seconds, from the boot on


def main() -> int:
    """Choose the host and run the scenario there."""
    if os.environ.get('HOST', 'kernel') == 'simulated':
        from tests.simulator.bed import SimulatedBed
        from tools.demo import scenario

        return scenario.run(SimulatedBed(), 'the simulated host')
    if os.geteuid() != 0:
        print(
            'The demo boots a kernel of its own, which needs root. Without: '
            'make demo HOST=simulated',
            file=sys.stderr,
        )
        return 2
    lab = [sys.executable, '-m', 'tests.kernel.lab', 'run']
    bounds = ['--timeout', str(_TIMEOUT)]
    inside = ['--', 'python', '-m', 'tools.demo.inside']
    print('Booting a kernel of its own ...', flush=True)
    return subprocess.run([*lab, *bounds, *inside], check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
