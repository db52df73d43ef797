# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A scratch directory that the phases of the DevStack plugin run in."""

import os
import pathlib
import pwd
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PLUGIN = PROJECT / 'devstack'
STACK = ('install', 'post-config', 'extra', 'test-config')

_SCRIPT = """
set -e
source "$FUNCTIONS"
source "$PLUGIN/settings"
source "$PLUGIN/plugin.sh" "$@"
"""


class Scratch:
    """Runs phases, and tells what they did.

    :param root: a directory for all that the plugin writes
    :param functions: the shell file that stands for DevStack
    :param extra: more variables
    """

    def __init__(
        self, root: pathlib.Path, functions: str, extra: dict[str, str]
    ) -> None:
        self.root = root / 'root'
        self._record = root / 'record'
        self._variables = {
            'PATH': os.environ['PATH'],
            'FUNCTIONS': str(PROJECT / 'tests/install' / functions),
            'PLUGIN': str(PLUGIN),
            'RECORD': str(self._record),
            'DEST': str(self.root),
            'DATA_DIR': str(self.root / 'data'),
            'SYSTEMD_DIR': str(self.root / 'systemd'),
            'SYSTEMCTL': 'systemctl',
            'KILL_PATH': '/bin/kill',
            'DEVSTACK_VENV': str(self.root / 'venv'),
            'GLOBAL_VENV': 'True',
            'ATTACHWORKER_DIR': str(PROJECT),
            'ATTACHWORKER_CONF_DIR': str(self.root / 'etc'),
            'ATTACHWORKER_RUNTIME_PATH': str(self.root / 'run'),
            'ENABLED_SERVICES': 'rabbit,attachworker',
            'ENABLE_DEBUG_LOG_LEVEL': 'True',
            'STACK_USER': pwd.getpwuid(os.getuid()).pw_name,
            'HOST_IP': '192.0.2.7',
            'SERVICE_HOST': '192.0.2.1',
            'RABBIT_USERID': 'stackrabbit',
            'RABBIT_PASSWORD': 'sesame',
            **extra,
        }
        for name in ('data', 'systemd'):
            (self.root / name).mkdir(parents=True)

    def run(self, *phase: str, **variables: str) -> str:
        """Run a phase in a shell of its own; what the plugin called."""
        self._record.write_text('')
        ran = subprocess.run(
            ['bash', '-c', _SCRIPT, 'devstack', *phase],
            env={**self._variables, **variables},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return self._record.read_text()

    def stack(self) -> str:
        """Run the phases of stack.sh."""
        return ''.join(self.run('stack', phase) for phase in STACK)

    def tree(self) -> dict[str, tuple[int, str]]:
        """Mode and content of all there is."""
        return {
            str(path.relative_to(self.root)): (
                path.stat().st_mode,
                path.read_text() if path.is_file() else '',
            )
            for path in sorted(self.root.rglob('*'))
        }

    @property
    def configuration(self) -> str:
        return (self.root / 'etc/attachworker.conf').read_text()
