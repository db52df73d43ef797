# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A private RabbitMQ node for the tests.

The node listens on loopback only, keeps everything below one directory of
its own and has its own port mapper, so that it meets no other node of the
machine. It can be killed, frozen and started again under the same name, to
see what callers and workers make of it.
"""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from typing import Self

#: Not /usr/sbin/rabbitmq-server: that one drops to the user rabbitmq.
SERVER = pathlib.Path('/usr/lib/rabbitmq/bin/rabbitmq-server')
CONTROL = SERVER.with_name('rabbitmqctl')
#: A node that is not up after this many seconds will not come up at all.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
_POLL = 0.05
#: Below the ports that the kernel gives to who connects.
_PORTS = range(20_000, 32_000)
#: Sockets that say which of them this process has.
_CLAIMS: list[socket.socket] = []
_AMQP_HEADER = b'AMQP\x00\x00\x09\x01'


def is_installed() -> bool:
    """Whether a broker can be started on this machine."""
    return SERVER.exists() and shutil.which('erl') is not None


def free_port() -> int:
    """A port of loopback that nothing listens on, and no other test gets.

    It belongs to this process until that ends: a socket in the abstract
    name space says so to all others.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f'\0attachworker-port-{port}')
                probe.bind(('127.0.0.1', port))
            except OSError:
                claim.close()
                continue
            _CLAIMS.append(claim)
            return port
    raise RuntimeError('there is no free port')


class RabbitMQNode:
    """One broker: start it, hand out its URL, hurt it, stop it.

    :param directory: where the node keeps its data and its logs; by default
        a new temporary directory, which stop() removes.
    :param first: a node that runs; this one makes a cluster with it.
    :param start_timeout: seconds.
    :param settings: more lines for rabbitmq.conf.
    :param root: of a tree that has another version of the broker, see
        :mod:`tests.newer`.
    """

    def __init__(
        self,
        directory: pathlib.Path | None = None,
        first: 'RabbitMQNode | None' = None,
        start_timeout: float = START_TIMEOUT,
        settings: str = '',
        root: pathlib.Path | None = None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._start_timeout = start_timeout
        self._owns_directory = directory is None
        self.directory = directory or pathlib.Path(
            tempfile.mkdtemp(prefix='attachworker-rabbitmq-')
        )
        self.port = free_port()
        self._first = first or self
        self._epmd_port = first._epmd_port if first else free_port()
        self._dist_port = free_port()
        self.name = f'attachworker-{os.getpid()}-{self.port}@localhost'
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The transport URL of the node."""
        return f'rabbit://guest:guest@127.0.0.1:{self.port}/'

    @property
    def data(self) -> pathlib.Path:
        """Where the broker keeps messages: to be searched for secrets."""
        return self.directory / 'mnesia'

    @property
    def log(self) -> str:
        """What the node has printed so far."""
        path = self.directory / 'console'
        return path.read_text(errors='replace') if path.exists() else ''

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the node and return when it takes connections.

        :raises RuntimeError: it did not come up.
        """
        for name in ('mnesia', 'log', 'home'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        if self._epmd is None and self._first is self:
            self._start_epmd()
        with open(self.directory / 'console', 'ab') as console:
            self._server = subprocess.Popen(
                self._command(SERVER),
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # The server is a shell that waits for the Erlang machine:
                # signals have to reach both.
                start_new_session=True,
            )
        deadline = time.monotonic() + self._start_timeout
        while not self.is_ready():
            if self._server.poll() is not None:
                self._server = None
                raise RuntimeError(f'the broker ended:\n{self.log}')
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f'the broker is not up:\n{self.log}')
            time.sleep(_POLL)

    def stop(self) -> None:
        """End the node and its port mapper; forget their directory."""
        if self._server is not None:
            self.thaw()
            # The node ends in an orderly way at SIGTERM.
            self._signal(signal.SIGTERM)
            try:
                self._server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                pass
            self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait()
            self._epmd = None
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """kill -9: the node has no chance to write or say anything."""
        if self._server is None:
            return
        self._signal(signal.SIGKILL)
        self._server.wait()
        self._server = None
        while self._is_bound():
            time.sleep(_POLL)

    def restart(self) -> None:
        """Kill the node and start it again: same port, same data."""
        self.kill()
        self.start()

    def restart_later(self, delay: float) -> threading.Timer:
        """Start a killed node again after ``delay`` seconds; join() it."""
        timer = threading.Timer(delay, self.start)
        timer.start()
        return timer

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: go on after freeze()."""
        self._signal(signal.SIGCONT)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl; what it prints."""
        return subprocess.run(
            self._command(CONTROL, '--quiet', *arguments),
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=START_TIMEOUT,
        ).stdout

    def cut(self) -> None:
        """Close all connections; clients may open new ones at once."""
        self.control('close_all_connections', 'cut by a test')

    def is_ready(self) -> bool:
        """Whether the node speaks AMQP now."""
        try:
            with socket.create_connection(
                ('127.0.0.1', self.port), timeout=1
            ) as connection:
                connection.sendall(_AMQP_HEADER)
                # Frame type 1 (method): Connection.Start.
                return connection.recv(1) == b'\x01'
        except OSError:
            return False

    def _command(self, *words: object) -> list[str]:
        command = [str(word) for word in words]
        if self._root is None:
            return command
        # In a name space of mounts of its own: nothing is left mounted.
        return [
            'unshare',
            '--mount',
            'sh',
            '-ec',
            'root=$0; for each in /proc /dev "$1"; do '
            'mkdir -p "$root$each"; mount --rbind "$each" "$root$each"; done; '
            'cd /; shift; exec chroot "$root" "$@"',
            str(self._root),
            str(self.directory),
            *command,
        ]

    def _signal(self, number: signal.Signals) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, number)

    def _is_bound(self) -> bool:
        try:
            socket.create_connection(
                ('127.0.0.1', self.port), timeout=1
            ).close()
        except OSError:
            return False
        return True

    def _start_epmd(self) -> None:
        self._epmd = subprocess.Popen(
            ['epmd', '-port', str(self._epmd_port), '-address', '127.0.0.1'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                socket.create_connection(
                    ('127.0.0.1', self._epmd_port), timeout=1
                ).close()
                return
            except OSError:
                time.sleep(_POLL)
        raise RuntimeError('the port mapper of the broker is not up')

    def _environment(self) -> dict[str, str]:
        names = dict.fromkeys([self._first.name, self.name])
        members = ''.join(
            f'cluster_formation.classic_config.nodes.{number} = {name}\n'
            for number, name in enumerate(names, 1)
        )
        files = {
            'enabled_plugins': '[].\n',
            'rabbitmq.conf': (
                f'listeners.tcp.local = 127.0.0.1:{self.port}\n'
                'log.console = true\n'
                'log.console.level = warning\n'
                'log.file = false\n'
                # A small disk of a test machine must not
                # block the publishers.
                'disk_free_limit.absolute = 1MB\n'
                'vm_memory_high_watermark.absolute = 1GB\n'
                'cluster_formation.peer_discovery_backend = classic_config\n'
                f'{members}{self._settings}'
            ),
            'rabbitmq-env.conf': '',
        }
        for name, text in files.items():
            (self.directory / name).write_text(text)
        return {
            'PATH': os.environ.get('PATH', '/usr/bin:/bin'),
            'LANG': 'C.UTF-8',
            # Where the cookie is, which the nodes of a cluster share.
            'HOME': str(self._first.directory / 'home'),
            'ERL_EPMD_PORT': str(self._epmd_port),
            'RABBITMQ_NODENAME': self.name,
            'RABBITMQ_DIST_PORT': str(self._dist_port),
            'RABBITMQ_MNESIA_BASE': str(self.directory / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(self.directory / 'log'),
            'RABBITMQ_PID_FILE': str(self.directory / 'pid'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(
                self.directory / 'enabled_plugins'
            ),
            'RABBITMQ_CONFIG_FILE': str(self.directory / 'rabbitmq.conf'),
            'RABBITMQ_CONF_ENV_FILE': str(
                self.directory / 'rabbitmq-env.conf'
            ),
            # One scheduler is enough, and it leaves the other core to the
            # tests. Distribution stays on loopback.
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': (
                '+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}'
            ),
        }
