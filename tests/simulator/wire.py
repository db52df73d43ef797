# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Calls over the simulator's Unix socket: a line of JSON each way."""

import base64
from collections.abc import Sequence
import json
import os
import pathlib
import socket
from typing import Any

SOCKET = 'run/simulator.sock'
_PIECE = 65536
UEVENTS = 'run/uevents'
#: The one key of the datagram that stands for lost uevents.
OVERRUN = 'OVERRUN'


class SimulatorGone(Exception):
    """The server is not there or broke down: the test's fault.

    Not an OSError: that is what verbs raise, and a worker would handle it.
    """


def dump(value: Any) -> bytes:
    """One line; bytes travel as base64."""

    def encode(other: Any) -> Any:
        if isinstance(other, bytes | bytearray):
            return {'$bytes': base64.b64encode(other).decode('ascii')}
        raise TypeError(f'{type(other).__name__} does not travel')

    return json.dumps(value, default=encode).encode() + b'\n'


def load(line: bytes) -> Any:
    def decode(value: dict[str, Any]) -> Any:
        if value.keys() == {'$bytes'}:
            return base64.b64decode(value['$bytes'])
        return value

    return json.loads(line, object_hook=decode)


def receive(stream: socket.socket) -> tuple[bytes, list[int]]:
    """A line of :func:`call`, or less if it has hung up; descriptors."""
    line, descriptors, _, _ = socket.recv_fds(stream, _PIECE, 1)
    while line and not line.endswith(b'\n'):
        more = stream.recv(_PIECE)
        if not more:
            break
        line += more
    return line, descriptors


def failure(error: Exception) -> dict[str, Any]:
    """The answer that makes :func:`call` raise the same."""
    if isinstance(error, OSError) and error.errno is not None:
        text = error.strerror or os.strerror(error.errno)
        return {'errno': error.errno, 'message': text}
    if isinstance(error, ValueError):
        return {'value': str(error)}
    return {'broken': f'{type(error).__name__}: {error}'}


def call(
    root: pathlib.Path,
    name: str,
    shared: Sequence[int] = (),
    /,
    **arguments: Any,
) -> Any:
    """Call the server below a root and return what it answers.

    :param shared: descriptors that the server has until it is done
    :raises OSError: as the verb did, with its errno
    :raises ValueError: the verb refused its arguments
    :raises SimulatorGone: there is no answer
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.connect(str(root / SOCKET))
            data = dump({'call': name, 'arguments': arguments})
            if shared:
                data = data[socket.send_fds(stream, [data], shared) :]
            if data:
                stream.sendall(data)
            with stream.makefile('rb') as file:
                line = file.readline()
        except OSError as error:
            raise SimulatorGone(f'{name}: {error}') from error
    if not line.endswith(b'\n'):
        raise SimulatorGone(f'{name}: the server has ended')
    answer = load(line)
    if 'errno' in answer:
        raise OSError(answer['errno'], answer['message'])
    if 'value' in answer:
        raise ValueError(answer['value'])
    if 'broken' in answer:
        raise SimulatorGone(f'{name}: {answer["broken"]}')
    return answer['result']
