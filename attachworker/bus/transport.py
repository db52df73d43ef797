# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What both sides of the bus must agree on, and the transports they get.

This is the one file that relies on the inside of oslo.messaging, kombu and
amqp. tests/unit/bus/test_private_names.py fails when that moves, and is where
to look before a bound in requirements.txt is lifted.
"""

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import contextlib
import functools
import ssl
import threading
from typing import Any
import uuid

import amqp
from kombu import exceptions as kombu_exceptions
from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging
from oslo_messaging import opts as messaging_opts
from oslo_messaging import transport as oslo_transport
from oslo_messaging._drivers import amqp as driver_amqp
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import base as driver_base
from oslo_messaging._drivers import common as driver_common
from oslo_messaging._drivers import impl_rabbit
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing
from oslo_messaging.rpc import server as rpc_server

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.bus.admission import Admission
from attachworker.bus.admission import Refused

LOG = log.getLogger(__name__)

#: Our own exchange: one that is shared with other services may exist as
#: non-durable, and oslo.messaging then makes our queues non-durable, too.
EXCHANGE = 'attachworker'
TOPIC = 'attachworker'
#: Of the interface, and of that which the first release had: what is in there
#: is asked for in that version, so that each worker serves it.
VERSION = '1.1'
FIRST_VERSION = '1.0'
NOTIFICATION_TOPIC = 'attachworker_notifications'

#: The brokers that are tested, and all between them.
OLDEST_RABBITMQ = (3, 10)
NEWEST_RABBITMQ = (4, 3)

#: The broker for production, and the bus inside one process for tests.
SCHEMES = ('rabbit', 'kombu+memory')

#: Exceptions of these modules reach the caller as themselves.
ALLOWED_REMOTE_EXMODS = (
    'attachworker.exception',
    'oslo_messaging.rpc.dispatcher',
    'oslo_versionedobjects.exception',
)

#: How often a publication or a first connection is tried again before it
#: fails. Without a limit a caller hangs for as long as the broker is down:
#: the time-out of a call counts from the moment it is sent. Not 0: then a
#: pooled connection that has broken is never opened again.
PUBLISH_RETRIES = 1

#: What says that the broker cannot be reached, of three libraries.
UNREACHABLE = (
    messaging.MessageDeliveryFailure,
    amqp.AMQPError,
    kombu_exceptions.OperationalError,
)

#: A message nobody would receive is an error at once, not a time-out.
TRANSPORT_OPTIONS = messaging.TransportOptions(at_least_once=True)

#: Seconds after which a cast, which has no time-out of its own, is given up.
_CAST_TIMEOUT = 60.0
#: Seconds that closing the connections may take.
_CLOSE_TIMEOUT = 5.0
#: Seconds between two looks whether messages can still come, and after which
#: without such a look nobody says so any more.
_LOOK_INTERVAL = 15.0
_LOOK_EXPIRES = 45.0
#: Seconds in which the owner of a queue for answers that the broker has lost
#: makes it again, and of how many such queues it is known that they exist.
_QUEUE_RETURN = 5.0
_QUEUES_KNOWN = 1000

#: Where RabbitMQ listens, unless a URL says otherwise.
_PORT = 5672
_TLS_PORT = 5671

_NOTHING = contextlib.nullcontext()
_GROUP = 'oslo_messaging_rabbit'
_OPT_DEFAULT = cfg.Locations.opt_default

#: Seconds between two looks of a consumer on the bus in one process.
_MEMORY_POLLING = 0.005

# Our defaults for options of oslo.messaging. They hold for our transports
# only: other transports of the process keep theirs.
_DEFAULTS = {
    # Seconds. A frozen broker is noticed after about twice this time.
    'heartbeat_timeout_threshold': '15',
    # Seconds. The back-off grows to this while the broker is away.
    'rabbit_interval_max': '5',
}


class _OfSeveralBrokers(dict[str, Any]):
    """Options of TLS; each broker has to show that it has its own name.

    kombu puts the name of the broker that it connects to where it finds none,
    and would want that one of all others later.
    """

    def __getitem__(self, name: str) -> Any:
        return None if name == 'server_hostname' else super().__getitem__(name)


class BusConnection(impl_rabbit.Connection):
    """oslo.messaging's connection, but it leaves foreign exchanges alone.

    :param admission: looks at what comes before it is decoded
    """

    def __init__(
        self, *args: Any, admission: Admission, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._look_due = 0.0
        self._looked: float | None = None
        # Whatever the service has set for itself: nobody would inflate it.
        self.kombu_compression = None
        if self._url.startswith('memory://'):
            # Each consumer would take a good part of a core for nothing.
            self.connection.transport.polling_interval = _MEMORY_POLLING

    def _fetch_ssl_params(self) -> Any:
        """Have the name verified always.

        The stock method does not without ``ssl_ca_file``, when the authorities
        of the system are asked.
        """
        options = super()._fetch_ssl_params()
        if not options:
            return options
        options = {} if options is True else options
        options['cert_reqs'] = ssl.CERT_REQUIRED
        options['server_hostname'] = self.ssl_server_hostname
        if self.ssl_server_hostname is None:
            options = _OfSeveralBrokers(options)
        return options

    @property
    def listens(self) -> bool:
        """Whether messages have a way to here, as the broker has it."""
        return (
            self._looked is not None
            and deadlines.now() - self._looked < _LOOK_EXPIRES
        )

    def declare_consumer(self, consumer: Any) -> Any:
        """Consume, but take only what may be decoded.

        RabbitMQ refuses since 4.3 a queue that is neither durable nor
        exclusive. Ours are durable, and go with who consumes from them. (An
        exclusive one is refused to its own owner, whose connection was cut,
        until the broker has noticed that.)
        """
        if not consumer.durable:
            consumer.durable = consumer.queue_auto_delete = True
        # The stock callback decodes first.
        consumer._callback = functools.partial(self._take, consumer)
        declared = super().declare_consumer(consumer)
        self._looked = deadlines.now()
        return declared

    def consume(self, timeout: float | None = None) -> None:
        """Wait for messages; see to it that they can come.

        Nobody tells a consumer that its binding or its exchange was deleted.
        """
        if not self._new_tags and deadlines.now() >= self._look_due:
            self._look()
        super().consume(timeout)

    def _look(self) -> None:
        self._look_due = deadlines.now() + _LOOK_INTERVAL
        if self._url.startswith('memory://'):
            self._looked = deadlines.now()
            return

        def declare() -> None:
            for consumer, tag in self._consumers.items():
                # What exists stays as it is.
                consumer.declare(self)
                queue = consumer.queue.queue_declare(passive=True)
                if not queue.consumer_count:
                    LOG.error('Nobody listened any more: %s', queue.queue)
                    self._new_tags.add(tag)

        def consume_again(error: Exception) -> None:
            self._new_tags = set(self._consumers.values())

        try:
            self.ensure(
                declare,
                retry=PUBLISH_RETRIES,
                recoverable_error_callback=consume_again,
                error_callback=consume_again,
            )
        except UNREACHABLE as error:
            LOG.error(
                'Messages may not come from %s:%s: %s',
                self.connection.hostname,
                self.connection.port,
                error,
            )
        else:
            self._looked = deadlines.now()

    def ensure(
        self,
        method: Callable[[], Any],
        retry: int | None = None,
        recoverable_error_callback: Callable[[Exception], None] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a method, again if the connection has broken.

        What was connected with a limit is tried no more often than that.
        """

        def failed(error: Exception) -> None:
            self._looked = None
            self._look_due = 0.0
            if recoverable_error_callback is not None:
                recoverable_error_callback(error)

        if retry is None and self.purpose == driver_common.PURPOSE_LISTEN:
            retry = self.max_retries
        return super().ensure(
            method,
            retry=retry,
            recoverable_error_callback=failed,
            **kwargs,
        )

    def close(self) -> None:
        """Close; a queue for answers does not stay."""
        for consumer in self._consumers:
            # Of quorum queues the broker deletes none by itself.
            if consumer.type == 'direct' and not consumer.queue_auto_delete:
                with contextlib.suppress(OSError, *UNREACHABLE):
                    consumer.queue.delete()
        super().close()

    def _set_current_channel(self, new_channel: Any) -> None:
        if new_channel is not None:
            # amqp would use whatever codec a message names.
            new_channel.auto_decode = False
        super()._set_current_channel(new_channel)

    def _take(self, consumer: Any, raw: Any) -> None:
        lasting = consumer.type == 'topic'  # requests; others are answers
        message = None
        try:
            self._admission.check(raw)
            with self._admission.taking(raw) if lasting else _NOTHING:
                message = self._decoded(raw)
                consumer.callback(message)
        except Refused as refused:
            self._admission.count(refused, consumer.queue_name)
        except Exception:  # it would close the connection, again and again
            LOG.exception('A message in queue %s', consumer.queue_name)
        else:
            return
        if message is None or not message._raw_message.acknowledged:
            raw.channel.basic_reject(raw.delivery_tag, requeue=False)

    def _decoded(self, raw: Any) -> impl_rabbit.RabbitMessage:
        """:raises Refused: it makes no sense"""
        try:
            message = self.channel.message_to_python(raw)
            self._admission.check_content(message.payload)
            return impl_rabbit.RabbitMessage(message)
        except Refused:
            raise
        except Exception as error:
            # No "from": texts of the libraries quote what was sent.
            name = type(error).__name__
        raise Refused('content', f'it cannot be decoded ({name})')

    def topic_send(
        self,
        exchange_name: str,
        topic: str,
        msg: Any,
        timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> None:
        """Publish; only our own exchange is declared on the way.

        The stock method declares a caller's exchange, too, with our notion of
        durability. A caller with another one could then never start its server
        again after the broker has lost the exchange. And where there is none
        it takes that for a connection that has broken, and makes a new one.

        :raises AMQPDestinationNotFound: there is no such exchange
        """
        foreign = exchange_name != EXCHANGE
        publish = (
            self._publish_and_raises_on_missing_exchange
            if foreign
            else self._publish
        )
        try:
            self._ensure_publishing(
                publish,
                self._exchange(exchange_name, passive=foreign),
                msg,
                routing_key=topic,
                timeout=timeout,
                retry=retry,
                transport_options=transport_options,
            )
        except driver_amqp.AMQPDestinationNotFound:
            # The broker has closed the channel.
            with self._connection_lock:
                self._set_current_channel(self.connection.channel())
            raise

    def declare_worker_queue(self, name: str) -> int:
        """Declare a worker's queue; return how many consume from it.

        :raises ConfigurationError: queue or exchange exist, but otherwise. The
            stock methods go on without durability then, or try for ever.
        """
        exchange = self._exchange(EXCHANGE)
        queue = impl_rabbit.kombu.entity.Queue(
            name=name,
            durable=self.durable,
            auto_delete=self.amqp_auto_delete,
            queue_arguments=impl_rabbit._get_queue_arguments(
                self.rabbit_ha_queues,
                0,
                self.rabbit_quorum_queue,
                self.rabbit_quorum_queue_config,
                False,
            ),
        )
        found: list[int | amqp.PreconditionFailed] = []

        def declare() -> None:
            try:
                exchange(self.channel).declare()
                declared = queue(self.channel).queue_declare()
                found.append(declared.consumer_count)
            except amqp.PreconditionFailed as error:
                found.append(error)

        with self._connection_lock:
            self.ensure(declare, retry=PUBLISH_RETRIES)
        if isinstance(found[-1], amqp.PreconditionFailed):
            raise exception.ConfigurationError(
                option='group oslo_messaging_rabbit',
                reason=f'{found[-1].message}. Set the options that all '
                'callers and workers on this broker have; or, to change '
                'them, stop all, delete that queue or exchange on the '
                'broker once it is empty, and start again',
            )
        return found[-1]

    def _exchange(self, name: str, passive: bool = False) -> Any:
        return impl_rabbit.kombu.entity.Exchange(
            name=name,
            type='topic',
            durable=self.durable,
            auto_delete=self.amqp_auto_delete,
            passive=passive,
        )

    def notify_send(
        self,
        exchange_name: str,
        topic: str,
        msg: Any,
        retry: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish a notification; no queue is declared on the way.

        The stock method declares a durable one, which fills the broker's
        disk where nobody consumes notifications. Who does declares its own.

        :raises MessageUndeliverable: nobody does
        """
        self.topic_send(
            exchange_name,
            topic,
            msg,
            retry=retry,
            transport_options=TRANSPORT_OPTIONS,
        )


class _Answered:
    """Stands where oslo.messaging has a queue for the answer to a call."""

    def __init__(
        self,
        end: Callable[[], None],
        answered: Callable[[BaseException | None], None],
    ) -> None:
        self._end = end
        self._answered = answered

    def put(self, answer: dict[str, Any]) -> None:
        if answer.get('failure'):
            self._end()
            self._answered(messaging.RemoteError())
        elif answer.get('ending'):  # others are signs of life
            self._end()
            self._answered(None)


class BusDriver(impl_rabbit.RabbitDriver):
    """oslo.messaging's driver, but no call waits for ever to connect."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: messaging.TransportURL,
        admission: Admission,
        **kwargs: Any,
    ) -> None:
        super().__init__(conf, url, **kwargs)
        self._reply_q: str | None
        self._connection_pool.connection_cls = functools.partial(
            BusConnection, admission=admission
        )
        #: Whether a queue has taken the last notification.
        self.heard = True

    def send_notification(
        self,
        target: messaging.Target,
        ctxt: Any,
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        """Send a notification; that nobody listens is no error."""
        try:
            super().send_notification(target, ctxt, message, version, retry)
            self.heard = True
        except messaging.MessageUndeliverable:
            self.heard = False

    def begin_call(
        self,
        target: messaging.Target,
        message: dict[str, Any],
        answered: Callable[[BaseException | None], None],
    ) -> Callable[[], None]:
        """Send a call and wait for nothing; see :func:`begin_call`."""
        queue = self._get_reply_q()
        number = uuid.uuid4().hex
        waiting = self._waiter.waiters._queues

        def end() -> None:
            waiting.pop(number, None)

        waiting[number] = _Answered(end, answered)
        try:
            self.send(
                target,
                {},
                message | {'_msg_id': number, '_reply_q': queue},
                retry=PUBLISH_RETRIES,
                transport_options=TRANSPORT_OPTIONS,
            )
        except BaseException:
            end()
            raise
        return end

    def send(
        self,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a message, and return the answer to a call.

        :param timeout: seconds for all of it. In the stock driver they begin
            once the message is sent, and that takes as long as the broker
            pleases: a frozen one, or one that refuses a queue.
        :raises MessagingTimeout: it has not happened by then
        """
        sending: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def send() -> None:
            try:
                sending.set_result(
                    super(BusDriver, self).send(
                        *args, timeout=timeout, **kwargs
                    )
                )
            except BaseException as error:
                sending.set_exception(error)

        threading.Thread(target=send, name='send', daemon=True).start()
        seconds = _CAST_TIMEOUT if timeout is None else timeout
        if not concurrent.futures.wait([sending], seconds).done:
            raise messaging.MessagingTimeout(
                f'no answer of broker or worker in {seconds:g} s'
            )
        return sending.result()

    def _get_reply_q(self) -> Any:
        # The stock driver connects for its reply queue, and declares it,
        # without any limit.
        with self._reply_q_lock:
            if self._reply_q is None:
                connection = self._connection_pool.create(
                    driver_common.PURPOSE_LISTEN, PUBLISH_RETRIES
                )
                name = self._get_reply_queue_name()
                try:
                    self._waiter = amqpdriver.ReplyWaiter(
                        name, connection, self._allowed_remote_exmods
                    )
                except messaging.MessageDeliveryFailure:
                    connection.close()
                    raise
                # Whoever waits for answers from now on does not give up.
                connection.max_retries = None
                self._reply_q_conn = connection
                self._reply_q = name
            return self._reply_q

    def cleanup(self) -> None:
        """Close all connections, or leave them to the end of the process."""
        closing = threading.Thread(
            target=super().cleanup, name='close', daemon=True
        )
        closing.start()
        closing.join(_CLOSE_TIMEOUT)


class IncomingMessage(amqpdriver.AMQPIncomingMessage):
    """A message of a listener, for the server."""

    def reply_soon(self, reply: Any, failure: Any) -> None:
        """Answer, but wait for no queue that was never there.

        The stock method holds its thread for up to a minute, and answers to
        such a queue nothing for as long. One that has taken an answer may have
        been lost by the broker: its owner makes it again as soon as it hears
        of that.
        """
        known = self.listener.answered
        until = deadlines.now() + _QUEUE_RETURN
        while not self._replied(reply, failure):
            if self.reply_q not in known or deadlines.now() > until:
                known.pop(self.reply_q, None)
                return
            # Nobody tells when it is there again.
            if self.listener._shutdown.wait(_QUEUE_RETURN / 20):
                return
        known.pop(self.reply_q, None)
        known[self.reply_q] = None
        if len(known) > _QUEUES_KNOWN:
            # Another thread may be at it as well.
            with contextlib.suppress(KeyError, RuntimeError):
                del known[next(iter(known))]

    def _replied(self, reply: Any, failure: Any) -> bool:
        """False: its queue is not there."""
        try:
            with self.listener.driver._get_connection(
                driver_common.PURPOSE_SEND
            ) as connection:
                self._send_reply(connection, reply, failure)
        except (
            messaging.MessageUndeliverable,
            driver_amqp.AMQPDestinationNotFound,
        ):
            return False
        return True


class Listener(amqpdriver.AMQPListener):
    """Queues messages for the server.

    :ivar answered: the queues that have taken answers, the last one last
    """

    use_cache = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answered: dict[str, None] = {}

    #: Seconds between two looks whether to stop. The stock listener looks a
    #: dozen times after each message, for others to acknowledge, too.
    _current_timeout = property(lambda self: 1.0, lambda self, value: None)

    def append(
        self,
        message: Any,
        number: str,
        reply_queue: str | None,
        client_timeout: Any,
    ) -> None:
        """Queue a call that did not come from the broker now."""
        self.incoming.append(
            self.message_cls(
                self,
                {},
                message,
                None,
                number,
                reply_queue,
                client_timeout,
                self._obsolete_reply_queues,
                self._message_operations_handler,
            )
        )


class Server(rpc_server.RPCServer):
    """oslo.messaging's server, with a listener and threads of its user.

    It takes what is for this host; nobody sends to any worker or to all.
    """

    def __init__(
        self,
        transport: Any,
        target: Any,
        dispatcher: Any,
        make_listener: Callable[[Any, Any], Listener],
        threads: type[concurrent.futures.Executor],
    ) -> None:
        super().__init__(transport, target, dispatcher, executor='threading')
        self._make_listener = make_listener
        self._executor_cls = threads
        self._connection: Any = None

    @property
    def listens(self) -> bool:
        """Whether messages have a way to here, as the broker has it."""
        return self._connection is not None and self._connection.listens

    def take(self, message: Any) -> None:
        """Have a thread call the method and answer."""
        super()._on_incoming([message])

    def _on_incoming(self, incoming: list[Any]) -> None:
        (message,) = incoming
        self.take(message)

    def _create_listener(self) -> Any:
        driver = self.transport._driver
        self._connection = driver._get_connection(driver_common.PURPOSE_LISTEN)
        listener = self._make_listener(driver, self._connection)
        self._connection.declare_topic_consumer(
            exchange_name=EXCHANGE,
            topic=f'{self._target.topic}.{self._target.server}',
            callback=listener,
        )
        return driver_base.PollStyleListenerAdapter(listener, 1, None)


class Dispatcher(messaging.RPCDispatcher):
    """oslo.messaging's dispatcher, which can be asked in advance."""

    def is_compatible(self, target: messaging.Target, version: str) -> bool:
        """Whether somebody who knows a version can be served."""
        return bool(self._is_compatible(target, version))


@contextlib.contextmanager
def notifications(
    transport: Any, queue: str, expires: int, take: Callable[[Any], None]
) -> Iterator[Callable[[float], bool]]:
    """Have notifications of all priorities taken, from a queue of one's own.

    :param expires: seconds after which the broker forgets the queue of a
        process that was killed
    :returns: waits for so many seconds, and returns whether something came
    """
    consumer = impl_rabbit.Consumer(
        exchange_name=EXCHANGE,
        queue_name=queue,
        routing_key=f'{NOTIFICATION_TOPIC}.*',
        type='topic',
        durable=True,
        exchange_auto_delete=False,
        queue_auto_delete=True,
        rabbit_queue_ttl=expires,
        callback=take,
    )
    with transport._driver._get_connection(
        driver_common.PURPOSE_LISTEN
    ) as connection:
        connection.declare_consumer(consumer)

        def wait(seconds: float) -> bool:
            try:
                connection.consume(timeout=seconds)
            except driver_common.Timeout:
                return False
            return True

        yield wait


def get_transport(
    conf: cfg.ConfigOpts,
    url: str | None = None,
    admission: Admission | None = None,
) -> oslo_transport.RPCTransport:
    """Return a transport for RPC; nothing is connected yet.

    :param conf: its ``transport_url`` serves when there is no ``url``, and
        its group ``oslo_messaging_rabbit`` sets what is left open here (TLS,
        quorum queues, ...).
    :param url: ``rabbit://user:password@host:port/vhost`` or
        ``kombu+memory://``; options of the driver may follow as a query.
    :param admission: of what comes in; None: whatever its size
    :raises ConfigurationError: another kind of bus, or a URL or an option
        that makes no sense. The URL is not quoted: it holds a password.
    """
    return oslo_transport.RPCTransport(_driver(conf, url, admission))


def get_notification_transport(
    conf: cfg.ConfigOpts, url: str | None = None
) -> oslo_transport.NotificationTransport:
    """Return a transport for notifications; see :func:`get_transport`."""
    return oslo_transport.NotificationTransport(_driver(conf, url))


def begin_call(
    transport: oslo_transport.RPCTransport,
    target: messaging.Target,
    method: str,
    arguments: dict[str, Any],
    answered: Callable[[BaseException | None], None],
) -> Callable[[], None]:
    """Call a method, and hold no thread until the answer is there.

    :param arguments: primitives
    :param answered: gets None, or the error that was raised, in the thread
        that reads answers; not more than once
    :returns: what has the call forgotten that nobody has answered
    :raises Exception: it could not be sent
    """
    message = {'method': method, 'args': arguments, 'version': target.version}
    end: Callable[[], None] = transport._driver.begin_call(
        target, message, answered
    )
    return end


def is_heard(transport: oslo_transport.NotificationTransport) -> bool:
    """Whether somebody listened to the last notification."""
    return bool(transport._driver.heard)


def is_in_process(conf: cfg.ConfigOpts, url: str | None = None) -> bool:
    """Whether a URL (or the configured one) means the bus in one process."""
    return bool(_parse(conf, url).transport == 'kombu+memory')


def get_target(host: str | None = None) -> messaging.Target:
    """Return the address of the worker of ``host``, or of any worker."""
    return messaging.Target(
        exchange=EXCHANGE, topic=TOPIC, version=FIRST_VERSION, server=host
    )


def broker(transport: oslo_transport.RPCTransport) -> tuple[str, str]:
    """Name and version of the broker, as it says itself.

    :raises BusUnavailable: the broker cannot be reached
    """
    try:
        with transport._driver._get_connection(
            driver_common.PURPOSE_SEND, PUBLISH_RETRIES
        ) as connection:
            # The bus in one process says nothing.
            said = getattr(
                connection.channel.connection, 'server_properties', {}
            )
    except UNREACHABLE as error:
        raise unavailable(transport, error) from error
    return str(said.get('product')), str(said.get('version'))


def declare_queue(transport: oslo_transport.RPCTransport, host: str) -> int:
    """Declare the queue of a host's worker; return how many consume from it.

    :raises ConfigurationError: it exists with other properties
    :raises BusUnavailable: the broker cannot be reached
    """
    try:
        with transport._driver._get_connection(
            driver_common.PURPOSE_SEND, PUBLISH_RETRIES
        ) as connection:
            consumers: int = connection.declare_worker_queue(f'{TOPIC}.{host}')
            return consumers
    except UNREACHABLE as error:
        raise unavailable(transport, error) from error


def addresses(transport: oslo_transport.RPCTransport) -> str:
    """Where the brokers are, without what nobody is to read."""
    url = transport._driver._url
    port = _TLS_PORT if transport.conf[_GROUP].ssl else _PORT
    if is_in_process(transport.conf, str(url)):
        return 'in this process'
    return ', '.join(
        f'[{one.hostname}]:{one.port or port}'
        if ':' in (one.hostname or '')
        else f'{one.hostname or "localhost"}:{one.port or port}'
        for one in url.hosts
    )


def unavailable(
    transport: oslo_transport.RPCTransport, error: Exception
) -> exception.BusUnavailable:
    """The error that says which broker cannot be reached, and why."""
    return exception.BusUnavailable(
        broker=addresses(transport), reason=str(error)
    )


def list_opts() -> list[tuple[None, list[cfg.Opt]]]:
    """What each worker has to be told of the bus, for the sample."""
    (found,) = (
        option
        for group, some in messaging_opts.list_opts()
        for option in some
        if group is None and option.name == 'transport_url'
    )
    found.sample_default = 'rabbit://user:password@broker:5672/'
    return [(None, [found])]


def unlisted_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Options of oslo.messaging that its own list lacks.

    Version 18.3 reads these two groups from whatever configuration a transport
    has, but registers them with the global one only.
    """
    return [
        ('oslo_messaging_tracing', tracing.oslo_messaging_tracing),
        ('oslo_messaging_metrics', metrics.oslo_messaging_metrics),
    ]


def _driver(
    conf: cfg.ConfigOpts, url: str | None, admission: Admission | None = None
) -> BusDriver:
    for group, unlisted in unlisted_opts():
        conf.register_opts(unlisted, group=group)
    parsed = _parse(conf, url)
    conf.register_opts(driver_amqp.amqp_opts, group=_GROUP)
    conf.register_opts(impl_rabbit.rabbit_opts, group=_GROUP)
    for name, value in _DEFAULTS.items():
        location = conf.get_location(name, _GROUP)
        if location is None or location.location is _OPT_DEFAULT:
            parsed.query.setdefault(name, value)
    # Not a default: both sides declare the exchange, and a side that
    # declares it otherwise spoils it for all. Quorum queues are durable.
    parsed.query['amqp_durable_queues'] = 'true'
    try:
        return BusDriver(
            conf,
            parsed,
            default_exchange=EXCHANGE,
            allowed_remote_exmods=ALLOWED_REMOTE_EXMODS,
            admission=admission or Admission(),
        )
    except (cfg.Error, AttributeError, ValueError, RuntimeError) as error:
        raise exception.ConfigurationError(
            option='transport_url or group oslo_messaging_rabbit',
            reason=str(error),
        ) from None


def _parse(conf: cfg.ConfigOpts, url: str | None) -> messaging.TransportURL:
    try:
        parsed = messaging.TransportURL.parse(conf, url)
    except (messaging.InvalidTransportURL, ValueError):
        # No "from error": the text of the error may hold the URL.
        raise exception.ConfigurationError(
            option='transport_url',
            reason='it is not a URL of the form '
            'rabbit://user:password@host:port/vhost',
        ) from None
    if parsed.transport not in SCHEMES:
        raise exception.ConfigurationError(
            option='transport_url',
            reason=f'{parsed.transport}:// is not '
            f'supported, only {":// and ".join(SCHEMES)}://',
        )
    return parsed
