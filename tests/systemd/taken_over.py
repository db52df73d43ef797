# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker that somebody has taken over: it runs whatever code it is sent.

The unit starts it in place of ``attachworker``. Up to the moment in which the
worker has given root up and begins, all is as ever: the helpers come from
``attachworker.cmd.worker``, and know nothing of this. From then on it takes
code from a socket, runs it as the worker's user, and tells what came of it.
"""

import json
import socket
import sys
import threading
from typing import Any

from attachworker.cmd import worker
from attachworker.worker import service

SOCKET = '/run/attachworker/taken-over'


class _Worker(service.Worker):
    def start(self) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(SOCKET)
        listening.listen(1)
        threading.Thread(target=_serve, args=(listening,), daemon=True).start()
        super().start()


def _serve(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        with connection, connection.makefile('rw') as file:
            for line in file:
                print(json.dumps(_outcome(json.loads(line))), file=file)
                file.flush()


def _outcome(code: str) -> dict[str, Any]:
    """The value of ``answer`` after the code, or the error that it raised."""
    names: dict[str, Any] = {}
    try:
        exec(code, names)
    except Exception as error:
        return {'error': type(error).__name__, 'text': str(error)}
    return {'answer': names.get('answer')}


if __name__ == '__main__':
    service.Worker = _Worker  # type: ignore[misc]
    sys.exit(worker.main())
