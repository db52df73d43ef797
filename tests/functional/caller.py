# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A caller of the worker, as a service of its own would be one."""

from collections.abc import Callable
import threading
import time
from typing import Any
import uuid

from oslo_config import cfg
import oslo_messaging as messaging

from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus import transport as bus


class Receiver:
    """A caller's own RPC server; like most, it is not durable.

    :param refuse: how often it fails before it takes a result
    :param name: on the bus; None: a new one
    :ivar results: what it has taken
    :ivar asked: how often it was asked to
    """

    target = messaging.Target(version='1.0')

    def __init__(
        self, url: str, refuse: int = 0, name: str | None = None
    ) -> None:
        self.results: list[objects.OperationResult] = []
        self.refuse = refuse
        self.asked = 0
        self.got = threading.Event()
        name = name or f'caller-{uuid.uuid4()}'
        self.reply_to = {'exchange': name, 'topic': name, 'server': 'me'}
        self.transport = messaging.get_rpc_transport(cfg.CONF, url)
        self.server = messaging.get_rpc_server(
            self.transport,
            messaging.Target(**self.reply_to),
            [self],
            serializer=serializer.ObjectSerializer(),
        )

    def operation_finished(self, ctxt: Any, result: Any) -> None:
        self.asked += 1
        if self.refuse:
            self.refuse -= 1
            raise RuntimeError('not now')
        self.results.append(result)
        self.got.set()

    def stop(self) -> None:
        self.server.stop()
        self.server.wait()
        self.transport.cleanup()


class RawClient:
    """Sends what no library of ours would send."""

    def __init__(self, url: str, host: str) -> None:
        self._transport = bus.get_transport(cfg.CONF, url)
        self._target = bus.get_target(host)

    def call(self, method: str, version: str = '1.0', **values: Any) -> Any:
        return self._client(version).call({}, method, **values)

    def cast(self, method: str, version: str = '1.0', **values: Any) -> None:
        self._client(version).cast({}, method, **values)

    def close(self) -> None:
        self._transport.cleanup()

    def _client(self, version: str) -> Any:
        return messaging.get_rpc_client(
            self._transport, self._target(version=version), timeout=20
        )


class Background(threading.Thread):
    """Calls something in a thread, and has its result or its exception."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: call(*arguments)
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = 30.0) -> Any:
        self.join(timeout)
        assert not self.is_alive(), 'it has not ended'
        if self._error is not None:
            raise self._error
        return self._result


def until(look: Callable[[], Any], timeout: float = 15.0) -> Any:
    """Wait until what ``look`` returns is true, and return it."""
    end = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < end, 'it has not happened'
        time.sleep(0.02)
    return found
