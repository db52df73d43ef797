# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A process that is measured: it says on request what it has cost so far.

``child.py worker ROOT [OPTIONS OF THE DAEMON]`` is the daemon on the simulated
host below ROOT, ``child.py echo URL NAME`` a bare server of oslo.messaging.
For each line that it reads it writes one: the seconds of processor time and
the context switches of all its threads, those that have ended too, as JSON. It
ends when there is nothing more to read.

It is run by its file name, so that the attachworker of another checkout can be
measured with it.
"""

import json
import os
import pathlib
import resource
import signal
import sys
import threading
from typing import Any

# What else the process prints goes elsewhere.
_answers = open(os.dup(1), 'w')  # noqa: SIM115
os.dup2(2, 1)


def _answer() -> None:
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        usage = {
            'seconds': used.ru_utime + used.ru_stime,
            'switches': used.ru_nvcsw + used.ru_nivcsw,
        }
        print(json.dumps(usage), file=_answers, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _echo(url: str, name: str) -> None:
    # Before anything else: the import chooses the threading backend.
    from attachworker import threading_backend  # noqa: F401, I001
    from oslo_config import cfg
    import oslo_messaging as messaging

    class Echo:
        target = messaging.Target(version='1.0')

        def echo(self, ctxt: Any, value: Any) -> Any:
            return value

    server = messaging.get_rpc_server(
        messaging.get_rpc_transport(cfg.CONF, url),
        messaging.Target(exchange=name, topic=name, server=name),
        [Echo()],
        executor='threading',
        access_policy=messaging.DefaultRPCAccessPolicy,
    )
    server.start()
    _answer()


def _worker(root: str, *options: str) -> None:
    from tests.functional import simulated_worker

    threading.Thread(target=_answer, daemon=True).start()
    simulated_worker.main(pathlib.Path(root), list(options))


if __name__ == '__main__':
    {'echo': _echo, 'worker': _worker}[sys.argv[1]](*sys.argv[2:])
