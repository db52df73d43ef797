# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Steps of an operation, live from the notifications of its worker."""

from collections.abc import Callable
from collections.abc import Mapping
import threading
from typing import Any
from typing import Self
import uuid

from oslo_log import log
from oslo_messaging._drivers import common as driver_common
from oslo_messaging._drivers import impl_rabbit

from attachworker.rpc import transport as bus

LOG = log.getLogger(__name__)

#: Seconds that the first step may wait for this listener.
_START_TIMEOUT = 2.0
#: Seconds between looks at whether to stop.
_TICK = 0.2
#: Seconds after which the broker forgets the queue of a watcher that died.
_QUEUE_EXPIRES = 60


class StepWatcher:
    """Passes on the notifications about one request, while in use.

    oslo.messaging's own listener shares one queue with all other listeners,
    or leaves one behind that fills up for ever. This one has a queue that
    goes away with it. Without a broker there are no steps, and no error.

    :param transport: any transport of the bus.
    :param request_id: of the request to watch.
    :param show: called with each payload (request_id, attachment_id, host,
        step, elapsed, status, error), from a thread of its own.
    """

    def __init__(
        self,
        transport: Any,
        request_id: str,
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._driver = transport._driver
        self._request_id = request_id
        self._show = show
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='steps', daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(_START_TIMEOUT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(_START_TIMEOUT)

    def _run(self) -> None:
        try:
            with self._driver._get_connection(
                driver_common.PURPOSE_LISTEN
            ) as connection:
                connection.declare_consumer(self._consumer())
                self._consume(connection)
        except Exception:  # no steps is no reason to fail
            LOG.debug('No live steps.', exc_info=True)
        finally:
            self._ready.set()

    def _consumer(self) -> impl_rabbit.Consumer:
        return impl_rabbit.Consumer(
            exchange_name=bus.EXCHANGE,
            queue_name=f'attachctl_{uuid.uuid4()}',
            # All priorities.
            routing_key=f'{bus.NOTIFICATION_TOPIC}.*',
            type='topic',
            durable=True,
            exchange_auto_delete=False,
            queue_auto_delete=True,
            rabbit_queue_ttl=_QUEUE_EXPIRES,
            callback=self._receive,
        )

    def _consume(self, connection: Any) -> None:
        # The queue exists: nothing is missed from here on.
        self._ready.set()
        stopping = False
        while True:
            try:
                connection.consume(timeout=_TICK)
            except driver_common.Timeout:
                if stopping:
                    return
                # One more turn after the end: the last steps may be on
                # their way.
                stopping = self._stop.is_set()

    def _receive(self, message: Any) -> None:
        message.acknowledge()
        payload = message.get('payload')
        if (
            isinstance(payload, Mapping)
            and payload.get('request_id') == self._request_id
        ):
            self._show(payload)
