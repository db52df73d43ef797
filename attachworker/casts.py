# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Casts that are sent again until their results are there.

A cast is a message nobody waits for: what becomes of it after the broker has
it, and of its result, is for the two ends to see to. The worker journals what
it takes and sends a result until that is confirmed. This is the other end.
"""

from attachworker import threading_backend  # noqa: F401

# isort: split
from collections.abc import Callable
import concurrent.futures
import dataclasses
import operator
import threading
import time
from typing import Any
from typing import Self

from oslo_log import log as logging
import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from attachworker.bus.secrets import WireSecrets

LOG = logging.getLogger(__name__)

#: Of our servers for results; the worker's own is bus.TOPIC.
TOPIC = 'attachworker_results'

_PAUSE_MAX = 60.0


@dataclasses.dataclass(eq=False)
class _Cast:
    request: objects.AnyRequest
    future: 'concurrent.futures.Future[objects.OperationResult]'
    #: Of time.monotonic(): when it is sent next, and when it is given up.
    due: float
    expires: float
    #: Seconds from this sending to the next.
    pause: float
    #: Whether the worker may have it.
    sent: bool = False


class Casts:
    """Has requests done by the worker of a host, each of them once::

        with Casts(transport, 'node1', name='compute-7') as casts:
            future = casts.send(request)
            result = future.result()

    A request is sent again, with the same request_id, until its result is
    there or its deadline has passed and the worker has had its time to
    answer. ``busy`` is no result: the request is sent again later.

    Nothing outlives this process. A caller that is started again sends the
    same requests again, and gets the same results.

    :param transport: from :func:`attachworker.bus.transport.get_transport`.
    :param host: name of the host, as its worker is configured.
    :param name: of the caller on the bus, unlike that of any other caller.
        The same after a restart: the broker keeps a queue for each.
    :param pause: seconds without a result before a request is sent again;
        they double each time, up to a minute.
    :param secrets: as of AttachWorkerAPI.
    :param level: as of AttachWorkerAPI.
    """

    target = messaging.Target(version='1.0')

    def __init__(
        self,
        transport: Any,
        host: str,
        name: str,
        pause: float = 10.0,
        secrets: WireSecrets | None = None,
        level: str | None = None,
    ) -> None:
        self._host = host
        self._pause = pause
        self._api = rpcapi.AttachWorkerAPI(
            transport, secrets=secrets, level=level
        )
        self._methods: dict[type[Any], Callable[..., None]] = {
            objects.AttachRequest: self._api.cast_attach_volume,
            objects.DetachRequest: self._api.cast_detach_volume,
            objects.ExtendRequest: self._api.cast_extend_volume,
            objects.RotateKeyRequest: self._api.cast_rotate_encryption_key,
        }
        self._reply_to = {
            'exchange': bus.EXCHANGE,
            'topic': TOPIC,
            'server': name,
        }
        self._server = messaging.get_rpc_server(
            transport,
            messaging.Target(**self._reply_to),
            [self],
            serializer=serializer.ObjectSerializer(),
            access_policy=messaging.ExplicitRPCAccessPolicy,
        )
        self._changed = threading.Condition()
        self._casts: dict[str, _Cast] = {}
        self._listening = False
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name='casts', daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(
        self, request: objects.AnyRequest
    ) -> 'concurrent.futures.Future[objects.OperationResult]':
        """Have a request done; returns at once.

        The future gets the result; or HostNotFound if nobody finds the
        worker when the request is first sent; or MessagingTimeout if the
        deadline has passed without a result.

        :param request: its reply_to becomes ours; one that is under way
            already has the same future.
        :raises InvalidConnectionInfo: before anything is sent.
        """
        request.reply_to = objects.ReplyTo(**self._reply_to)
        request.validate()
        with self._changed:
            cast = self._casts.get(request.request_id)
            if cast is None:
                now = time.monotonic()
                cast = _Cast(
                    request,
                    concurrent.futures.Future(),
                    due=now,
                    expires=now + rpcapi.answer_time(request),
                    pause=self._pause,
                )
                self._casts[request.request_id] = cast
                self._changed.notify()
            return cast.future

    def close(self) -> None:
        """Take no more results; the futures without one are cancelled.

        What was sent is done nevertheless.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
            left = list(self._casts.values())
            self._casts.clear()
            listening = self._listening
        for cast in left:
            cast.future.cancel()
        if listening:
            self._server.stop()
            self._server.wait()

    def _run(self) -> None:
        # Here, because it blocks while the broker is away. Nothing is sent
        # before there is a queue for the result.
        self._server.start()
        with self._changed:
            self._listening = not self._closed
        if not self._listening:
            self._server.stop()
        while (cast := self._next()) is not None:
            self._attempt(cast)

    def _next(self) -> _Cast | None:
        """Wait for the next request that is to be sent; None: closed."""
        with self._changed:
            while not self._closed:
                if not self._casts:
                    self._changed.wait()
                    continue
                cast = min(
                    self._casts.values(), key=operator.attrgetter('due')
                )
                if cast.future.cancelled():
                    del self._casts[cast.request.request_id]
                elif (remaining := cast.due - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                else:
                    return cast
        return None

    def _attempt(self, cast: _Cast) -> None:
        if time.monotonic() >= cast.expires:
            self._end(cast.request.request_id, messaging.MessagingTimeout())
            return
        try:
            self._methods[type(cast.request)]({}, self._host, cast.request)
            cast.sent = True
        except Exception as error:
            if not self._may_be_taken(cast, error):
                self._end(cast.request.request_id, error)
                return
            LOG.warning(
                'Request %s is sent again: %s', cast.request.request_id, error
            )
        cast.due = min(time.monotonic() + cast.pause, cast.expires)
        cast.pause = min(cast.pause * 2, _PAUSE_MAX)

    def _may_be_taken(self, cast: _Cast, error: Exception) -> bool:
        """Whether the worker may have the request, or get it if it is sent.

        That nobody finds the worker says nothing of what was sent before.
        """
        if isinstance(error, exception.HostNotFound):
            return cast.sent
        # The broker may have it.
        cast.sent |= isinstance(error, exception.BusUnavailable)
        # A timeout is of the worker, when it is asked whether it takes plain
        # secrets.
        return cast.sent or isinstance(error, messaging.MessagingTimeout)

    @messaging.expose
    def operation_finished(
        self, ctxt: Any, result: objects.OperationResult
    ) -> None:
        """Take a result; the worker calls this."""
        error = result.as_dict()['error']
        if error is None or error['code'] != exception.WorkerBusy.code:
            self._end(result.request_id, result)

    def _end(
        self,
        request_id: str,
        outcome: objects.OperationResult | Exception,
    ) -> None:
        with self._changed:
            cast = self._casts.pop(request_id, None)
        if cast is None or not cast.future.set_running_or_notify_cancel():
            return  # it has its result
        if isinstance(outcome, Exception):
            cast.future.set_exception(outcome)
        else:
            cast.future.set_result(outcome)
