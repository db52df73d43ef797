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

"""The daemons of the guest, which guest_init.sh has started."""

import os
import pathlib
import signal
import subprocess
import time

_PIDS = pathlib.Path('/run/lab')
_COMMANDS = {
    'iscsid': ('iscsid', '-f'),
    'multipathd': ('multipathd', '-d', '-s'),
}


def kill(name: str) -> None:
    """``kill -9``, and wait until it is gone."""
    pid = int((_PIDS / f'{name}.pid').read_text())
    os.kill(pid, signal.SIGKILL)
    # A child of init, or of this process: either reaps it.
    while pathlib.Path(f'/proc/{pid}/exe').exists():
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            time.sleep(0.01)


def start(name: str) -> None:
    """Start it (again); its log goes on in the results directory."""
    results = pathlib.Path(os.environ['LAB_RESULTS'])
    with open(results / f'{name}.log', 'ab') as log:
        process = subprocess.Popen(
            _COMMANDS[name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (_PIDS / f'{name}.pid').write_text(f'{process.pid}\n')
