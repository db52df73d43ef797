# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSCSI portals: real listeners on loopback, so that probes are real."""

import contextlib
import enum
import ipaddress
import socket
import threading
import time

_CONNECT_TIMEOUT = 0.05


class PortalState(enum.Enum):
    LISTENING = 'listening'
    #: Connections are refused.
    STOPPED = 'stopped'
    #: Connections are neither accepted nor refused.
    HANGING = 'hanging'


def key(address: str, port: int) -> str:
    """One spelling for each portal: ``127.0.0.1:3260``, ``[::1]:3260``."""
    try:
        parsed = ipaddress.ip_address(address.strip('[]'))
    except ValueError:
        return f'{address}:{port}'
    return f'[{parsed}]:{port}' if parsed.version == 6 else f'{parsed}:{port}'


def split(portal: str) -> tuple[str, int]:
    """A portal's address, without brackets, and port."""
    address, _, port = portal.rpartition(':')
    return address.strip('[]'), int(port)


class _Portal:
    def __init__(self, address: str) -> None:
        self.family = socket.AF_INET6 if ':' in address else socket.AF_INET
        # Bound but never listening: keeps the port ours, and connections
        # refused, while there is no listener.
        self.reservation = self._bound(address, 0)
        self.address: tuple[str, int] = self.reservation.getsockname()[:2]
        self.state = PortalState.STOPPED
        self.listener: socket.socket | None = None
        self.waiting: list[socket.socket] = []

    def _bound(self, address: str, port: int) -> socket.socket:
        made = socket.socket(self.family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        return made

    def stop(self) -> None:
        if self.listener is not None:
            with contextlib.suppress(OSError):
                # wakes the thread in accept()
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for waiting in self.waiting:
            waiting.close()
        self.waiting.clear()
        self.state = PortalState.STOPPED

    def start(self) -> None:
        self.stop()
        listener = self.listener = self._bound(*self.address)
        listener.listen(64)
        threading.Thread(
            target=self._accept, args=(listener,), daemon=True
        ).start()
        self.state = PortalState.LISTENING

    def hang(self) -> None:
        """A full backlog: the kernel drops what asks to connect."""
        self.stop()
        self.listener = self._bound(*self.address)
        self.listener.listen(0)
        while True:
            client = socket.socket(self.family, socket.SOCK_STREAM)
            client.settimeout(_CONNECT_TIMEOUT)
            self.waiting.append(client)
            try:
                client.connect(self.address)
            except TimeoutError:
                break
        self.state = PortalState.HANGING

    @staticmethod
    def _accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # stopped
            connection.close()


class Portals:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._portals: dict[str, _Portal] = {}

    def create(self, address: str = '127.0.0.1') -> str:
        """A new portal that listens, as ``address:port``."""
        portal = _Portal(address)
        portal.start()
        name = key(*portal.address)
        with self._changed:
            self._portals[name] = portal
        return name

    def set(self, name: str, state: PortalState) -> None:
        """:raises ValueError: there is no such portal"""
        with self._changed:
            if name not in self._portals:
                raise ValueError(f'no such portal: {name}')
            portal = self._portals[name]
            {
                PortalState.LISTENING: portal.start,
                PortalState.STOPPED: portal.stop,
                PortalState.HANGING: portal.hang,
            }[state]()
            self._changed.notify_all()

    def wait_listening(self, name: str, seconds: float) -> bool:
        """Until the portal listens; False if it does not in time."""
        end = time.monotonic() + seconds

        def listens() -> bool:
            portal = self._portals.get(name)
            return portal is not None and portal.state is PortalState.LISTENING

        with self._changed:
            return self._changed.wait_for(listens, end - time.monotonic())
