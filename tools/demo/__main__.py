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


"""Runs the demo on a real kernel in the lab, or on the simulated host.

``HOST=simulated`` chooses the second one, which needs no root. The exit code
is 0 only if everything was as it should be.
"""

import os
import subprocess
import sys
import tempfile

_TIMEOUT = 300  # seconds, for the whole virtual machine


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
    with tempfile.TemporaryDirectory(prefix='demo-') as results:
        lab = [sys.executable, '-m', 'tests.kernel.lab', 'run']
        bounds = ['--timeout', str(_TIMEOUT), '--results', results]
        inside = ['--', 'python', '-m', 'tools.demo.inside']
        print('Booting a kernel of its own ...', flush=True)
        return subprocess.run([*lab, *bounds, *inside], check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
