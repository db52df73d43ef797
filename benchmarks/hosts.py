# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the benchmark without the lab starts: workers, and an echo."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any
from typing import Self
import uuid

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.functional import daemon
from tests.simulator.bed import SimulatedBed

_CHILD = pathlib.Path(__file__).with_name('child.py')
HERE = _CHILD.parents[1]


class WrongResult(Exception):
    """What was measured did not do what it should."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What something has cost the process that did it, and its caller.

    :ivar cpu: seconds of processor time
    :ivar switches: context switches of all threads
    :ivar latency: seconds
    """

    cpu: float
    switches: float
    latency: float

    def each(self, count: int) -> 'Cost':
        """The same for one of several."""
        return Cost(
            self.cpu / count, self.switches / count, self.latency / count
        )


class Measured:
    """A child that says what it has cost; see :mod:`benchmarks.child`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._started: tuple[float, float, float] | None = None
        self.cost = Cost(0.0, 0.0, 0.0)

    def _now(self) -> tuple[float, float, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b'\n')
        self._process.stdin.flush()
        usage = json.loads(self._process.stdout.readline())
        return usage['seconds'], usage['switches'], time.monotonic()

    def __enter__(self) -> Self:
        self._started = self._now()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._started is not None
        self.cost = Cost(
            *(
                now - before
                for now, before in zip(self._now(), self._started, strict=True)
            )
        )


def python_of(checkout: pathlib.Path) -> str:
    """The interpreter of a checkout's environment."""
    own = checkout / '.venv/bin/python'
    return str(own) if own.exists() else sys.executable


def _start(
    checkout: pathlib.Path, log: pathlib.Path, *arguments: str
) -> subprocess.Popen[bytes]:
    with open(log, 'ab') as stream:
        return subprocess.Popen(
            # -P: what is imported is the checkout's, not beside child.py
            [python_of(checkout), '-P', str(_CHILD), *arguments],
            cwd=checkout,
            env=os.environ | {'PYTHONPATH': str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
        )


class Echo:
    """Sends something to a bare server of oslo.messaging, and has it back."""

    def __init__(self, url: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix='bench-')
        self._name = f'echo-{uuid.uuid4()}'
        log = pathlib.Path(self._directory.name) / 'log'
        self._process = _start(HERE, log, 'echo', url, self._name)
        self.measured = Measured(self._process)
        self._transport = messaging.get_rpc_transport(cfg.CONF, url)
        client = messaging.get_rpc_client(
            self._transport,
            messaging.Target(
                exchange=self._name,
                topic=self._name,
                server=self._name,
                version='1.0',
            ),
            timeout=60,
        )
        self._call = client.call
        with self.measured:
            """It answers once it serves."""

    def __call__(self, value: Any) -> None:
        if self._call({}, 'echo', value=value) != value:
            raise WrongResult('the echo is another one')

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._transport.cleanup()
        self._directory.cleanup()


class _Daemon(daemon.Daemon):
    """The daemon of a checkout, as a child that is measured."""

    def __init__(
        self, checkout: pathlib.Path, *arguments: Any, root: pathlib.Path
    ) -> None:
        super().__init__(*arguments, root=root)
        self._checkout = checkout
        self._root_of_host = root

    def start(self, **environment: str) -> None:
        self.process = _start(
            self._checkout,
            self.log_file,
            'worker',
            str(self._root_of_host),
            '--config-file',
            str(self.config_file),
        )


class Host:
    """A simulated host with a worker of its own.

    :param name: for the table
    :param checkout: whose worker and whose simulator it is
    """

    def __init__(
        self, url: str, name: str, checkout: pathlib.Path = HERE
    ) -> None:
        self.name = name
        self._directory = tempfile.TemporaryDirectory(prefix='bench-')
        self.bed = SimulatedBed(checkout, python_of(checkout))
        self.worker = _Daemon(
            checkout,
            pathlib.Path(self._directory.name),
            url,
            root=self.bed.root,
        )
        self.worker.__enter__()
        assert self.worker.process is not None
        self.measured = Measured(self.worker.process)

    def close(self) -> None:
        self.worker.__exit__()
        self.bed.close()
        self._directory.cleanup()

    def disks(self) -> list[str]:
        """The kernel names of its SCSI disks."""
        return [
            path.name for path in self.bed.root.glob('sys/class/block/sd*')
        ]

    def attach(self, request: objects.AttachRequest) -> None:
        _checked(
            self.worker.api.attach_volume({}, self.worker.name, request),
            'attached',
        )

    def detach(self, name: str) -> None:
        request = harness.detach_request(name)
        _checked(
            self.worker.api.detach_volume({}, self.worker.name, request),
            'detached',
        )

    def log_in(self, volume: beds.Volume) -> None:
        """Somebody else on the host makes a session, without devices."""
        address, _, port = volume.portals[0].rpartition(':')
        code, text = self.bed.verbs.iscsi.login(
            volume.target,
            address,
            int(port),
            {'node.session.scan': 'manual'},
            60.0,
        )
        if code:
            raise WrongResult(text)

    def scan(self, volume: beds.Volume) -> None:
        """Somebody else brings the device of a volume to the host."""
        for directory in self.bed.root.glob('sys/class/iscsi_session/*'):
            if (directory / 'targetname').read_text().strip() == volume.target:
                host = str((directory / 'device').resolve().parent)
                number = int(host.rpartition('/host')[2])
                self.bed.verbs.scsi.scan(number, 0, 0, volume.lun)
                return
        raise WrongResult(f'no session to {volume.target}')


def _checked(result: objects.OperationResult, status: str) -> None:
    if result.status != status:
        raise WrongResult(f'{result.as_dict()}')
