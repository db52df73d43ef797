# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
