# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Where a portal is, and whether it answers at all."""

import queue
import socket
import threading

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


def probe(address: str, port: int, timeout: float) -> str:
    """Open a TCP connection to a portal and close it again.

    iscsid goes on trying a dead portal for minutes and cannot be told to
    stop, so it is only asked to log in where somebody answers.

    :param address: IP address or host name, IPv6 without brackets
    :param timeout: seconds
    :returns: the IP address that has answered
    :raises TargetUnreachable: refused, no route, no answer in time, or the
        name is not known
    """
    portal = join(address, port)
    try:
        with socket.create_connection((address, port), timeout) as connection:
            return str(connection.getpeername()[0])
    except TimeoutError as error:
        raise exception.TargetUnreachable(
            portal=portal, reason=f'no answer in {timeout:.0f} s'
        ) from error
    except OSError as error:
        raise exception.TargetUnreachable(
            portal=portal, reason=error.strerror or str(error)
        ) from error


def probe_any(portals: list[str], timeout: float) -> None:
    """Return once one of several portals has taken a TCP connection.

    All are tried at once: a dead one costs nothing where another answers.

    :param portals: canonical ones
    :param timeout: seconds
    :raises TargetUnreachable: none does; it is about the first
    """
    answers: queue.SimpleQueue[exception.TargetUnreachable | None] = (
        queue.SimpleQueue()
    )

    def ask(portal: str) -> None:
        try:
            probe(*split(portal), timeout)
        except exception.TargetUnreachable as error:
            answers.put(error)
        else:
            answers.put(None)

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
        error = answers.get()
        if error is None:
            return
        errors[error.kwargs['portal']] = error
    raise next(errors[portal] for portal in portals if portal in errors)
