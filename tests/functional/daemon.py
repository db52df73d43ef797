# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The daemon as a process of its own, and what it leaves behind."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Self
import uuid

import oslo_messaging as messaging

from attachworker import exception
from attachworker import rpcapi
from attachworker.bus import transport as bus
from tests import harness
from tests.contract import bed as beds

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
#: Seconds until one takes requests, or says why it does not; nearly all of
#: them are for the modules that it imports.
START_TIMEOUT = 40.0


class Daemon:
    """Starts the daemon and speaks to it.

    :param directory: for its configuration, its journal and its log
    :param root: of a simulated host; None: the real one
    :param options: lines for the section DEFAULT, ``name=value``
    """

    def __init__(
        self,
        directory: pathlib.Path,
        url: str,
        root: pathlib.Path | None = None,
        host: str | None = None,
        state_path: pathlib.Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.name = host or f'daemon-{uuid.uuid4()}'
        self.state_path = state_path or directory / 'state'
        # In memory, as the worker wants it
        self._runtime = tempfile.TemporaryDirectory(
            prefix='attachworker-', dir='/dev/shm'
        )
        self.config_file = directory / f'{self.name}.conf'
        self.log_file = directory / f'{self.name}.log'
        self._root = root
        self.configure(f'transport_url = {url}', *options)
        conf = harness.configuration(url, host=self.name)
        self.transport = bus.get_transport(conf)
        self.api = rpcapi.AttachWorkerAPI(self.transport, timeout=10)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self.transport.cleanup()

    @property
    def log(self) -> str:
        """What it has said so far, on standard error."""
        return self.log_file.read_text(errors='replace')

    def configure(self, *lines: str) -> None:
        self.config_file.write_text(
            '\n'.join(
                [
                    '[DEFAULT]',
                    f'host = {self.name}',
                    f'portal_networks = {",".join(beds.NETWORKS)}',
                    f'state_path = {self.state_path}',
                    f'runtime_path = {self._runtime.name}',
                    *lines,
                    '[iscsi]',
                    'scan_attempts = 2',
                    '[rpc]',
                    'reply_timeout = 2',
                    'reply_retry_first = 0.2',
                    'reply_retry_max = 1',
                    '',
                ]
            )
        )

    def start(self, **environment: str) -> None:
        module = (
            ['attachworker.cmd.worker']
            if self._root is None
            else ['tests.functional.simulated_worker', str(self._root)]
        )
        with open(self.log_file, 'ab') as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    '-m',
                    *module,
                    '--config-file',
                    str(self.config_file),
                ],
                cwd=_PROJECT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self.process is not None
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def _answers(self) -> bool:
        api = rpcapi.AttachWorkerAPI(self.transport, timeout=1)
        try:
            return bool(api.ping({}, self.name)['ready'])
        except (
            exception.HostNotFound,
            exception.BusUnavailable,
            messaging.MessagingTimeout,
        ):
            return False

    def children(self) -> list[int]:
        """The processes that it has started and that still run."""
        assert self.process is not None
        found = []
        for task in pathlib.Path(f'/proc/{self.process.pid}/task').iterdir():
            found += (task / 'children').read_text().split()
        return [int(pid) for pid in found]

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        """kill -9"""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """kill -9, and start again on the same journal."""
        self.kill()
        self.start()
        self.wait_until_ready()


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    return status.rpartition(')')[2].split()[0] != 'Z'


def is_root() -> bool:
    return os.geteuid() == 0
