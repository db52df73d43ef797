# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""One host's worker: makes its parts from the configuration, starts them."""

import functools
from importlib import metadata
import os
import pathlib
import threading
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
import oslo_messaging as messaging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import replies
from attachworker.bus import serializer
from attachworker.bus import server
from attachworker.bus import transport as bus
from attachworker.bus.admission import Admission
from attachworker.bus.secrets import WireSecrets
from attachworker.connectors import Connectors
from attachworker.host import Host
from attachworker.host import directories
from attachworker.host import locks
from attachworker.host import network
from attachworker.host import system
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.journal import Sealer
from attachworker.privileged import process
from attachworker.tasks.run import Run
from attachworker.telemetry import metrics
from attachworker.telemetry import notifications
from attachworker.telemetry import progress
from attachworker.telemetry import report
from attachworker.telemetry import tracing
from attachworker.worker import audit
from attachworker.worker import links
from attachworker.worker import recovery
from attachworker.worker.attach import Attach
from attachworker.worker.census import Census
from attachworker.worker.cleanup import Cleanup
from attachworker.worker.detach import Detach
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.extend import Extend
from attachworker.worker.intake import Operations
from attachworker.worker.operation import Operation
from attachworker.worker.rotate import Rotate

LOG = logging.getLogger(__name__)

#: Threads of the RPC server beyond one for each call of an operation. Such a
#: call needs none before its answer, which takes long if its caller is gone.
_QUICK_CALLS = 16
#: Seconds in which another worker of our name would answer.
_NAMESAKE_TIMEOUT = 2
#: Seconds that multipathd may take to say that it is there.
_MULTIPATHD_TIMEOUT = 10.0
#: Seconds that the helper of an earlier worker may take to end.
_HELPER_TIMEOUT = 3.0
#: Seconds in which those who have called for what is done are told.
_TELL_TIMEOUT = 5.0
#: Seconds that a sealed secret may be on its way: as long as any request has.
_LONGEST_WAY = 86400
#: Seconds between two looks whether the bus is back.
_BUS_INTERVAL = 5.0


#: To be called before there is any thread, or process, with a password in it.
forbid_core_dumps = process.forbid_core_dumps


def start_helper(conf: cfg.ConfigOpts) -> None:
    """Start the privileged helper; to be called before there is any thread.

    :raises ConfigurationError: option user names nobody
    """
    try:
        process.start(conf.user, conf.allow_forced_foreign_detach)
    except KeyError as error:
        raise exception.ConfigurationError(
            option='user', reason=f'there is no user {conf.user}'
        ) from error
    if os.geteuid() == 0:
        LOG.warning(
            'This worker stays root: whoever takes it over has this host. '
            'Set option user to a user of its own, as attachworker.service '
            'does'
        )


def check_directories(conf: cfg.ConfigOpts) -> None:
    """Refuse directories in which others could put a journal, or find a key.

    To be called as the user that the worker runs as.

    :raises ConfigurationError: there is such a directory
    """
    for option, reason in directories.faults(
        conf.state_path, conf.runtime_path, os.geteuid()
    ):
        raise exception.ConfigurationError(option=option, reason=reason)


def this_host() -> Host:
    """The machine that this process runs on."""
    return Host.real()


class Worker:
    """One host's worker.

    :param conf: the configuration
    :param host: the machine
    :param run_class: tests pass one that fails at a chosen step
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: Host,
        run_class: type[Run] = Run,
    ) -> None:
        self._conf = conf
        self._host = host
        self._run_class = run_class
        self.ready = threading.Event()
        self._listening = False
        self._secrets = WireSecrets.read(
            conf.secrets.key_file,
            conf.secrets.required,
            conf.host,
            # A secret that comes later is of a request that is forgotten.
            min(_LONGEST_WAY, conf.result_retention / 2),
        )
        runtime = pathlib.Path(conf.runtime_path)
        self._admission = Admission(
            conf.max_message_size, runtime / 'redelivered'
        )
        self._transport = bus.get_transport(conf, admission=self._admission)
        self._database = Database(pathlib.Path(conf.state_path))
        self._records = Records(self._database)
        self._sealer = Sealer(runtime, conf.state_path)
        self._replies = replies.ReplySender(
            self._transport,
            self._records.result,
            self._records.settle,
            retention=conf.result_retention,
            timeout=conf.rpc.reply_timeout,
            retry_first=conf.rpc.reply_retry_first,
            retry_max=conf.rpc.reply_retry_max,
            threads=conf.rpc.reply_threads,
            level=conf.upgrade_levels.attachworker,
        )
        self._notification_transport = bus.get_notification_transport(conf)
        self._dispatcher = Dispatcher(
            conf.max_running, conf.max_running_per_backend, conf.max_queued
        )
        self._connectors = Connectors(host, conf)
        self._listeners: list[progress.Listener] = []
        self._boot_id = host.boot_id
        self._volumes = locks.NamedLocks()
        self._make_operations()
        self._make_server()
        self.take_over_options()

    def _make_operations(self) -> None:
        conf = self._conf
        self._cleanup = Cleanup(
            self._dispatcher,
            self._records,
            self._make_run,
            lambda: links.end_unheld(
                self._connectors,
                Holdings(self._database, '', self._boot_id),
                conf.rollback_grace,
            ),
        )
        parts = (
            self._records,
            self._make_run,
            self._cleanup,
            self._listeners,
        )
        self._operations = Operations(
            self._records,
            self._sealer,
            self._dispatcher,
            {
                'attach': functools.partial(
                    Attach, *parts, boot_id=self._boot_id
                ),
                'detach': functools.partial(Detach, *parts),
                'extend': functools.partial(Extend, *parts),
                'rotate': functools.partial(Rotate, *parts),
            },
            self._boot_id,
            conf.default_deadline,
            self._finished,
            conf.result_retention,
            conf.recovery_attempts,
            conf.max_results,
        )

    def _make_run(
        self,
        attachment_id: str,
        info: objects.ConnectionInfo,
        cut_short: bool = False,
        deadline: deadlines.Deadline | None = None,
        **values: Any,
    ) -> Run:
        """What the tasks share that see to an attachment.

        :param cut_short: see :class:`attachworker.journal.Holdings`
        :param deadline: None: that of undoing, from now on
        """
        conf = self._conf
        return self._run_class(
            info=info,
            host=self._host,
            get_connector=self._connectors.get,
            holdings=Holdings(
                self._database, attachment_id, self._boot_id, cut_short
            ),
            deadline=deadline or deadlines.Deadline.after(conf.rollback_grace),
            volumes=self._volumes,
            grace=conf.rollback_grace,
            path_grace=conf.multipath.path_grace,
            map_timeout=conf.multipath.map_timeout,
            flush_timeout=conf.forced_flush_timeout,
            forces_foreign=conf.allow_forced_foreign_detach,
            name=attachment_id,
            **values,
        )

    def _make_server(self) -> None:
        conf = self._conf
        waiting = conf.max_running + conf.max_queued
        self._census = Census(
            self._records,
            self._connectors,
            self._host,
            self._dispatcher,
            self._cleanup,
            self._is_ready,
            lambda: self._server.listens,
            self._boot_id,
            self._admission.refused,
        )
        self._make_listeners()
        api = server.Endpoint(
            self._records,
            self.connector_properties,
            self._volume_paths,
            self.ping,
            self._operations.cancel,
            functools.partial(
                audit.report,
                self._records,
                self._connectors,
                self._host,
                self._boot_id,
            ),
            self._secrets,
        )
        dispatcher = server.RPCDispatcher(
            [api],
            serializer.WorkerSerializer(
                level=conf.upgrade_levels.attachworker
            ),
            messaging.ExplicitRPCAccessPolicy,
        )
        self._pool_size = waiting + _QUICK_CALLS
        self._acceptance = server.RequestAcceptance(
            self._operations,
            self._records,
            dispatcher.is_served,
            self._replies.deliver,
            waiting,
            self._secrets,
        )
        self._server = server.Server(
            self._transport,
            bus.get_target(conf.host),
            dispatcher,
            self._acceptance,
        )

    def _make_listeners(self) -> None:
        conf = self._conf
        version = metadata.version('attachworker')
        self._listeners += [
            metrics.Metrics(
                version,
                self._connectors.availability(),
                self._census.gauges,
                conf.metrics.address,
                conf.metrics.port,
                {'/healthz': self._unhealthy, '/readyz': self._unready},
            ),
            notifications.Notifications(
                messaging.Notifier(
                    self._notification_transport,
                    publisher_id=f'attachworker.{conf.host}',
                    driver='messagingv2',
                    topics=[bus.NOTIFICATION_TOPIC],
                    retry=bus.PUBLISH_RETRIES,
                ),
                conf.host,
                functools.partial(bus.is_heard, self._notification_transport),
            ),
        ]
        if conf.tracing.otlp_endpoint:
            self._listeners.append(
                tracing.Tracing(conf.tracing.otlp_endpoint, conf.host, version)
            )

    def start(self) -> None:
        """Finish what is unfinished, then take requests.

        Blocks while the broker is away.

        :raises HostToolFailed: nobody knows what an earlier worker has begun
        :raises ConfigurationError: another worker has this host's name, or
            somebody the port for metrics
        """
        self._tell_what_starts()
        if not self._secrets.available and not bus.is_in_process(self._conf):
            LOG.warning(
                'There is no key in option key_file of group secrets: '
                'passwords travel in the clear, and are on the disk of the '
                'broker'
            )
        self._host.succession.begin(
            pathlib.Path(self._conf.state_path), _HELPER_TIMEOUT
        )
        for each in self._listeners:
            each.start()
        self._replies.start()
        self._dispatcher.start()
        recovery.run(
            self._records,
            self._operations,
            self._cleanup,
            self._replies.deliver,
            self._boot_id,
            self._conf.reattach_after_reboot,
        )
        self._cleanup.links_later()
        self._refuse_namesake()
        self._listening = True
        try:
            self._server.start(override_pool_size=self._pool_size)
        except BaseException:
            # One that has not been started cannot be stopped.
            self._listening = False
            raise
        self.ready.set()
        LOG.info('Taking requests for host %s', self._conf.host)

    def _tell_what_starts(self) -> None:
        conf = self._conf
        # oslo.config finds one file by the name of project and program.
        files = dict.fromkeys([*(conf.config_file or []), *conf.config_dirs])
        LOG.info(
            'attachworker %s starts for host %s; configuration: %s; broker: '
            '%s; protocols: %s',
            metadata.version('attachworker'),
            conf.host,
            ', '.join(files) or 'none',
            bus.addresses(self._transport),
            '; '.join(
                name if reason is None else f'{name} cannot be used: {reason}'
                for name, reason in sorted(
                    self._connectors.availability().items()
                )
            ),
        )

    def take_over_options(self) -> None:
        """Have the options in force that may change while the worker runs.

        Others that may are asked for whenever they are needed.
        """
        conf = self._conf
        self._host.networks = network.Networks(conf.portal_networks)
        self._host.encryption.memory.limit = conf.encryption_memory << 20
        self._dispatcher.share(conf.max_running_per_backend)
        self._operations.default_deadline = conf.default_deadline
        self._operations.max_results = conf.max_results
        self._replies.set_pauses(
            conf.rpc.reply_timeout,
            conf.rpc.reply_retry_first,
            conf.rpc.reply_retry_max,
        )

    def stop(self, timeout: float = 30.0) -> None:
        """Take no more requests and finish the running ones.

        What is not finished in time, or still waits, is in the journal;
        requests that come meanwhile stay in the queue of the broker.
        Questions are answered until the end.

        :param timeout: seconds
        """
        self.ready.clear()
        self._acceptance.drain()
        if not self._dispatcher.stop(timeout):
            LOG.warning('Some operations go on; the next start ends them')
        if self._listening:
            # A call whose operation waits is answered by the next worker.
            all_told = self._acceptance.wait_until_told(_TELL_TIMEOUT)
            self._server.stop()
            if all_told:
                self._server.wait()
        self._replies.stop()
        for each in self._listeners:
            each.stop()
        self._transport.cleanup()
        self._notification_transport.cleanup()
        self._host.close()
        self._database.close()

    def report(self, directory: str | None) -> None:
        """Write what goes on now; see :mod:`attachworker.telemetry.report`."""
        report.write(self._census.sections(), directory)

    def works(self) -> bool:
        """Whether operations are begun; for a watchdog."""
        return self._dispatcher.works()

    def ping(self) -> dict[str, Any]:
        return {
            'version': metadata.version('attachworker'),
            'host': self._conf.host,
            'ready': self._is_ready(),
            'sealing': self._secrets.describe(),
        }

    def _is_ready(self) -> bool:
        return self.ready.is_set() and self._server.listens

    def _unhealthy(self) -> str | None:
        """Why it should be started again; not because of others."""
        if self.works():
            return None
        return 'no operation is begun any more; start the worker again'

    def _unready(self) -> str | None:
        """Why requests would wait."""
        if self._is_ready():
            return None
        if self.ready.is_set():
            broker = bus.addresses(self._transport)
            return f'no messages come from the broker at {broker}'
        return 'the worker is starting or stopping; see its log'

    def connector_properties(
        self, multipath: bool | None, enforce_multipath: bool
    ) -> dict[str, Any]:
        """What storage has to know of this host, os-brick's keys.

        :param multipath: None: whether this host can make multipath maps
        """
        try:
            no_multipathd = self._host.multipath.missing(
                deadlines.Deadline.after(_MULTIPATHD_TIMEOUT)
            )
        except (exception.AttachWorkerError, OSError) as error:
            if multipath is None:
                raise
            no_multipathd = f'nobody knows whether multipathd runs ({error})'
        if multipath is None:
            multipath = no_multipathd is None
        return {
            **system.properties(self._host.root),
            **self._connectors.properties(),
            'ip': self._conf.my_ip,
            'host': self._conf.host,
            'multipath': multipath,
            'enforce_multipath': bool(enforce_multipath),
            'attachworker': {
                'version': metadata.version('attachworker'),
                'rpc_version': bus.VERSION,
                'protocols': self._connectors.availability(),
                'assemblers': {
                    'multipathd': no_multipathd,
                    'nvme_native': self._connectors.cannot_assemble('nvmeof'),
                },
                'secrets': (
                    'required' if self._secrets.required else 'accepted'
                ),
                'sealing': self._secrets.describe(),
            },
        }

    def _volume_paths(self, info: objects.ConnectionInfo) -> list[str]:
        """The devices that this host has of a volume now, a path each."""
        connector = self._connectors.get(info.protocol)
        for target in info.targets:
            connector.check_allowed(target)
        return [
            connector.node(path.disk)
            for target in info.targets
            for path in connector.paths(target)
        ]

    def _finished(self, operation: Operation) -> None:
        progress.tell_end(self._listeners, operation)
        for reply_to in operation.reply_to:
            self._replies.deliver(
                operation.request.request_id, reply_to, operation.result
            )

    def _refuse_namesake(self) -> None:
        if bus.is_in_process(self._conf):
            return
        api = rpcapi.AttachWorkerAPI(
            self._transport, timeout=_NAMESAKE_TIMEOUT
        )
        while True:
            try:
                # Nobody consumes: there is nobody to wait for.
                if not bus.declare_queue(self._transport, self._conf.host):
                    return
                api.ping({}, self._conf.host)
                break
            except (exception.HostNotFound, messaging.MessagingTimeout):
                return
            except exception.BusUnavailable as error:
                LOG.warning('Waiting for the bus: %s', error)
                if self._dispatcher.stopping.wait(_BUS_INTERVAL):
                    return
        raise exception.ConfigurationError(
            option='host',
            reason=f'another worker answers as {self._conf.host}; stop it '
            'or choose another name',
        )
