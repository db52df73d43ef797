# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Where a portal is, and whether it answers at all."""

import contextlib
import ipaddress
import queue
import socket
import threading
from typing import Any

from attachworker import exception


def split(portal: str) -> tuple[str, int]:
    """Address, IPv6 without brackets, and port of a canonical portal."""
    address, _, port = portal.rpartition(':')
    return address.strip('[]'), int(port)


def join(address: str, port: int) -> str:
    """The canonical portal of an address, IPv6 without brackets."""
    return f'[{address}]:{port}' if ':' in address else f'{address}:{port}'


def addresses(name: str, port: int) -> list[str]:
    """The IP addresses that a host name stands for, the best first.

    :raises TargetUnreachable: the name is not known
    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise exception.TargetUnreachable(
            portal=join(name, port), reason=error.strerror or str(error)
        ) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def needs_device(address: str) -> bool:
    """Whether an IP address means nothing without a network device.

    Each network has its own addresses that begin with fe80.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False  # a name
    return found.version == 6 and found.is_link_local


def probe(
    address: str, port: int, timeout: float, device: str | None = None
) -> str:
    """Open a TCP connection to a portal and close it again.

    iscsid goes on trying a dead portal for minutes and cannot be told to
    stop, so it is only asked to log in where somebody answers.

    :param address: IP address or host name, IPv6 without brackets
    :param timeout: seconds
    :param device: the network device to go through; None: as routes say
    :returns: the IP address that has answered
    :raises TargetUnreachable: refused, no route, no answer in time, or the
        name is not known
    """
    portal = join(address, port)
    try:
        return _connect(address, port, timeout, device)
    except TimeoutError as error:
        raise exception.TargetUnreachable(
            portal=portal, reason=f'no answer in {timeout:.0f} s'
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        if device is not None:
            reason += f', through {device}'
        elif needs_device(address):
            reason = (
                'a link-local address is one of a network device; use an '
                'iface that is bound to one by iface.net_ifacename'
            )
        raise exception.TargetUnreachable(
            portal=portal, reason=reason
        ) from error


def _connect(
    address: str, port: int, timeout: float, device: str | None
) -> str:
    """The first IP address of a portal that takes a TCP connection."""
    *others, last = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    for one in others:
        with contextlib.suppress(OSError):
            return _connect_to(one, timeout, device)
    return _connect_to(last, timeout, device)


def _connect_to(place: Any, timeout: float, device: str | None) -> str:
    family, kind, protocol, _, where = place
    with socket.socket(family, kind, protocol) as connection:
        if device is not None:
            try:
                connection.setsockopt(
                    socket.SOL_SOCKET,
                    socket.SO_BINDTODEVICE,
                    device.encode(),
                )
            except PermissionError:
                # Before Linux 5.7 only root may. What answers on another way
                # says nothing about this one.
                return str(where[0])
        connection.settimeout(timeout)
        connection.connect(where)
        return str(where[0])


def probe_any(portals: list[str], timeout: float) -> str:
    """Return once one of several portals has taken a TCP connection.

    All are tried at once: a dead one costs nothing where another answers.

    :param portals: canonical ones
    :param timeout: seconds
    :returns: the one that was first
    :raises TargetUnreachable: none does; it is about the first
    """
    answers: queue.SimpleQueue[exception.TargetUnreachable | str] = (
        queue.SimpleQueue()
    )

    def ask(portal: str) -> None:
        try:
            probe(*split(portal), timeout)
        except exception.TargetUnreachable as error:
            answers.put(error)
        else:
            answers.put(portal)

    for portal in portals:
        try:
            threading.Thread(target=ask, args=(portal,), daemon=True).start()
        except (RuntimeError, MemoryError) as no_thread:
            unasked = exception.TargetUnreachable(
                portal=portal, reason=str(no_thread)
            )
            answers.put(unasked)
    errors = {}
    for _ in portals:
        answer = answers.get()
        if isinstance(answer, str):
            return answer
        errors[answer.kwargs['portal']] = answer
    raise next(errors[portal] for portal in portals if portal in errors)
