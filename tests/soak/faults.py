# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What goes wrong beside a worker, one thing at a time."""

from collections.abc import Callable
import json
import pathlib
import random
import resource
import signal
import time
from typing import Any
import uuid
import zlib

import kombu

from tests.functional import daemon
from tests.functional import rabbitmq

#: Seconds that a broker, or a disk, is of no use.
_OUTAGE = 3.0
#: Seconds that the clock is set back or forth.
_JUMPS = (60, 3600, 20 * 365 * 86400)
_BOMB = zlib.compress(b' ' * 50_000_000, 9)


class Daemon(daemon.Daemon):
    """:param clock: file with the seconds that its wall clock is off"""

    def __init__(self, clock: pathlib.Path, *arguments: Any, **values: Any):
        super().__init__(*arguments, **values)
        self._clock = clock

    def start(self, **environment: str) -> None:
        super().start(CLOCK=str(self._clock), **environment)


class Faults:
    """
    :param chance: decides which, and when
    :param clock: see :class:`Daemon`
    """

    def __init__(
        self,
        chance: random.Random,
        worker: daemon.Daemon,
        broker: rabbitmq.RabbitMQNode,
        clock: pathlib.Path,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._worker = worker
        self._broker = broker
        self._all: list[Callable[[], None]] = [
            self.worker_killed,
            self.worker_restarted,
            self.worker_frozen,
            self.broker_killed,
            self.broker_frozen,
            self.connections_cut,
            self.disk_full,
            self.disk_full,
            self.clock_set,
            self.hostile_sender,
            self.hostile_sender,
            self.hostile_sender,
        ]

    def one(self) -> str:
        """Have one of them; which."""
        fault = self._chance.choice(self._all)
        fault()
        return fault.__name__

    def worker_killed(self) -> None:
        self._worker.restart()

    def worker_restarted(self) -> None:
        self._worker.signal(signal.SIGTERM)
        self._worker.wait(120.0)
        self._worker.start()
        self._worker.wait_until_ready()

    def worker_frozen(self) -> None:
        self._worker.signal(signal.SIGSTOP)
        time.sleep(_OUTAGE)
        self._worker.signal(signal.SIGCONT)

    def broker_killed(self) -> None:
        self._broker.kill()
        time.sleep(self._chance.uniform(0.0, _OUTAGE))
        self._broker.start()

    def broker_frozen(self) -> None:
        self._broker.freeze()
        time.sleep(_OUTAGE)
        self._broker.thaw()

    def connections_cut(self) -> None:
        self._broker.cut()

    def disk_full(self) -> None:
        """No file of the worker grows, its journal and log among them."""
        assert self._worker.process is not None
        pid = self._worker.process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        time.sleep(self._chance.uniform(0.0, _OUTAGE))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

    def clock_set(self) -> None:
        """By hand, or by a network after a boot without a battery."""
        seconds = self._chance.choice(_JUMPS)
        self._clock.write_text(str(self._chance.choice((-1, 0, 1)) * seconds))

    def hostile_sender(self) -> None:
        """What no caller of ours sends, right into the worker's queue."""
        url = self._broker.url.replace('rabbit://', 'amqp://')
        queue = f'attachworker.{self._worker.name}'
        with kombu.Connection(url) as connection:
            channel = connection.channel()
            for body, properties in self._messages():
                message = channel.prepare_message(body, **properties)
                channel.basic_publish(
                    message, exchange='attachworker', routing_key=queue
                )

    def _messages(self) -> list[tuple[Any, dict[str, Any]]]:
        as_json = {
            'content_type': 'application/json',
            'content_encoding': 'utf-8',
        }
        garbage = self._chance.randbytes(self._chance.randrange(1, 2000))
        return [
            (
                _BOMB,
                as_json | {'headers': {'compression': 'application/x-gzip'}},
            ),
            (_BOMB, as_json | {'content_encoding': 'zlib_codec'}),
            (garbage, as_json),
            (garbage, {'content_type': 'application/x-python-serialize'}),
            *((_call(**one), as_json) for one in _WRONG_CALLS),
        ]


def _call(method: str, version: str = '1.0', **arguments: Any) -> str:
    """A cast in oslo.messaging's envelope."""
    message = {
        'method': method,
        'args': arguments,
        'version': version,
        '_unique_id': uuid.uuid4().hex,
    }
    return json.dumps(
        {'oslo.version': '2.0', 'oslo.message': json.dumps(message)}
    )


_WRONG_CALLS: list[dict[str, Any]] = [
    {'method': 'ping', 'version': 'abc'},
    {'method': 'ping', 'version': '9.9'},
    {'method': 'no\nsuch\x1b[2Jmethod'},
    {'method': 'attach_volume', 'request': None},
    {'method': 'attach_volume', 'request': {'x': ['y'] * 1000}},
    {'method': 'detach_volume', 'other': 'x' * 100_000},
    {'method': 'get_result', 'request_id': 'x' * 1_000_000},
    {'method': '__init__'},
]
