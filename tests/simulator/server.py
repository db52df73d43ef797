# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The simulator's process: ``python -m tests.simulator.server ROOT``.

It starts with an empty machine, prints a line when it serves, and serves
until it is terminated.
"""

import argparse
import os
import pathlib
import select
import shutil
import signal
import socketserver
import threading
from typing import Any

from tests.simulator import control
from tests.simulator import faults
from tests.simulator import faulty
from tests.simulator import machine as machines
from tests.simulator import running
from tests.simulator import verbs
from tests.simulator import wire

_CONTROL = 'control.'
#: What goes on without the helper, which only asks for it.
_OF_A_DAEMON = ('iscsi.', 'multipath.')


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A thread for each call: one that hangs is nobody else's problem."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, root: pathlib.Path) -> None:
        self._plan = faults.FaultPlan()
        self._running = running.Running()
        self._machine = machines.Machine(root, self._plan, self._running.about)
        self._controls = control.Controls(
            self._machine, self._plan, self._running
        )
        (root / wire.SOCKET).unlink(missing_ok=True)
        super().__init__(str(root / wire.SOCKET), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Here they are one after another: each has the earlier ones counted.
        self._running.connected()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._running.disconnected()

    def answer(self, name: str, arguments: dict[str, Any]) -> Any:
        if name.startswith(_CONTROL):
            command = name.removeprefix(_CONTROL)
            if command.startswith('_'):
                raise ValueError(f'no such command: {command}')
            return getattr(self._controls, command)(**arguments)
        if name not in verbs.SIGNATURES:
            raise ValueError(f'no such verb: {name}')
        with self._running.counted(name, arguments):
            return self._call(name, arguments)

    def _call(self, verb: str, arguments: dict[str, Any]) -> Any:
        self._machine.removals.check(verb, arguments)
        with self._machine.removals.noted(verb):
            result = faulty.call(self._machine, self._plan, verb, **arguments)
        if self._plan.take({faults.Fault.VANISH}, verb, arguments):
            self._machine.vanish(verb, arguments)
        return result


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line, shared = wire.receive(self.request)
        if not line:
            return
        try:
            request = wire.load(line)
            if request['call'].startswith(_OF_A_DAEMON):
                _close(shared)
            result = self.server.answer(request['call'], request['arguments'])
            answer = {'result': result}
        except Exception as error:
            answer = wire.failure(error)
        finally:
            _close(shared)
        try:
            self.wfile.write(wire.dump(answer))
        except BrokenPipeError:
            pass  # the caller was killed: what it began is done all the same


def _end_with(parent: int, root: pathlib.Path) -> None:
    """End, and leave nothing behind, when the parent process ends."""

    def body(descriptor: int) -> None:
        select.select([descriptor], [], [])
        shutil.rmtree(root, ignore_errors=True)
        os._exit(0)

    descriptor = os.pidfd_open(parent)
    threading.Thread(target=body, args=(descriptor,), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=pathlib.Path)
    parser.add_argument(
        '--parent',
        type=int,
        help='end with this process, and remove ROOT then',
    )
    options = parser.parse_args()
    root = options.root.resolve(strict=True)
    if options.parent is not None:
        _end_with(options.parent, root)
    # the default action, even where the parent ignores it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Server(root) as server:
        print('ready', flush=True)
        server.serve_forever()


if __name__ == '__main__':
    main()
