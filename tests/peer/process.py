# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Calls of os-brick, in a process with os-brick's own environment."""

import dataclasses
import json
import os
import pathlib
import subprocess
import threading
from types import TracebackType
from typing import Any

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = CHECKOUT / '.venv-os-brick/bin/python'
LOCK_PATH = '/run/lab/os-brick'


class PeerEnded(Exception):
    """The process of os-brick has ended; its log says why."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What os-brick returned or raised.

    :ivar error: the name of the exception's class
    :ivar elapsed: seconds, without the way to and from the process
    """

    result: Any
    error: str | None
    message: str
    elapsed: float


class Peer:
    """os-brick as a service on this host; stopped by leaving the with block.

    :param lock_path: where it keeps its lock files
    """

    def __init__(self, lock_path: str = LOCK_PATH) -> None:
        if not PYTHON.exists():
            raise FileNotFoundError(f'no {PYTHON}: run tools/setup.sh')
        self.lock_path = lock_path
        self._one_call = threading.Lock()
        results = pathlib.Path(os.environ.get('LAB_RESULTS', '/tmp'))
        with open(results / 'os-brick.log', 'ab') as log:
            self._process = subprocess.Popen(
                [PYTHON, pathlib.Path(__file__).with_name('driver.py')]
                + [lock_path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                # The project's own modules are none of its business.
                env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
            )

    def __enter__(self) -> 'Peer':
        self._receive()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def connect(
        self,
        data: dict[str, Any],
        multipath: bool = False,
        attempts: int = 3,
        protocol: str = 'iscsi',
    ) -> Answer:
        """:param attempts: os-brick's ``device_scan_attempts``"""
        return self._call(
            'connect_volume',
            protocol,
            multipath,
            attempts,
            connection_properties=data,
        )

    def disconnect(
        self,
        data: dict[str, Any],
        device: dict[str, Any] | None,
        multipath: bool = False,
        protocol: str = 'iscsi',
        **options: bool,
    ) -> Answer:
        """:param options: ``force`` and ``ignore_errors``"""
        return self._call(
            'disconnect_volume',
            protocol,
            multipath,
            connection_properties=data,
            device_info=device,
            **options,
        )

    def extend(
        self,
        data: dict[str, Any],
        multipath: bool = False,
        protocol: str = 'iscsi',
    ) -> Answer:
        return self._call(
            'extend_volume', protocol, multipath, connection_properties=data
        )

    def paths(self, data: dict[str, Any], multipath: bool = False) -> Answer:
        return self._call(
            'get_volume_paths', 'iscsi', multipath, connection_properties=data
        )

    def _call(
        self,
        name: str,
        protocol: str,
        multipath: bool,
        attempts: int = 3,
        **arguments: Any,
    ) -> Answer:
        connector = {
            'use_multipath': multipath,
            'device_scan_attempts': attempts,
        }
        if protocol == 'rbd':
            # otherwise it returns an object of librbd
            connector['do_local_attach'] = True
        request = {
            'call': name,
            'protocol': protocol.upper(),
            'connector': connector,
            'arguments': arguments,
        }
        with self._one_call:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
            answer = self._receive()
        error = answer['error'] or {'class': None, 'message': ''}
        return Answer(
            answer['result'],
            error['class'],
            error['message'],
            answer['elapsed'],
        )

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerEnded(f'exit code {self._process.wait(10)}')
        answer: dict[str, Any] = json.loads(line)
        return answer
