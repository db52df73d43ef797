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

"""What callers import changes nothing in their process."""

import subprocess
import sys

_PROGRAM = """
from oslo_config import cfg

# A service has options of these names, with other meanings.
cfg.CONF.register_opts(
    [cfg.StrOpt(name, help='ours') for name in ('host', 'my_ip', 'state_path')]
)
before = set(cfg.CONF)

from attachworker import brick, casts, client, exception, objects, rpcapi

added = set(cfg.CONF) - before
assert all(name.startswith('oslo_') for name in added), added  # libraries
"""


def test_a_service_with_options_of_our_names() -> None:
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
