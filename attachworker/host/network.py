# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Where a portal is, and whether it answers at all."""

from collections.abc import Iterable
import ipaddress
import queue
import socket
import threading
from typing import Any

from attachworker import exception

#: Where no storage is unless somebody says so: a network that portals may be
#: in counts there only if it lies in the range. Of several the first counts.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            # Who asks there is told what only this machine is to know.
            '169.254.169.254/32',
            'fd00:ec2::254/128',
            'fe80::a9fe:a9fe/128',
            # This machine itself; the kernel takes 0.0.0.0 and :: for it.
            '0.0.0.0/8',
            '127.0.0.0/8',
            '::/96',
            # Whatever is on the same wire.
            '169.254.0.0/16',
            'fe80::/10',
            # No single machine.
            '224.0.0.0/3',
            'ff00::/8',
        ),
    )
)


class Networks:
    """The networks that portals may be in.

    :param networks: in CIDR notation
    :raises ConfigurationError: one of them is none
    """

    #: Everywhere but at addresses for special purposes.
    DEFAULT = ('0.0.0.0/0', '::/0')

    def __init__(self, networks: Iterable[str] = DEFAULT) -> None:
        self._networks = [_network(one) for one in networks]

    def allow(self, address: str) -> bool:
        """Whether a portal may have an IP address."""
        found = ipaddress.ip_address(address)
        # The kernel reaches the one by the other.
        found = getattr(found, 'ipv4_mapped', None) or found
        special = next((one for one in _SPECIAL if found in one), None)
        return any(
            found in one and (special is None or _is_within(one, special))
            for one in self._networks
        )

    def allowed(self, portal: str, places: list[str]) -> list[str]:
        """Those of the places that a portal stands for where it may be.

        :param places: portals by address
        :raises PortalNotAllowed: there are none
        """
        found = [one for one in places if self.allow(split(one)[0])]
        if not found:
            addresses = ', '.join(split(one)[0] for one in places)
            raise exception.PortalNotAllowed(
                portal=portal, addresses=addresses
            )
        return found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise exception.ConfigurationError(
            option='portal_networks',
            reason=f'{error}; list networks as in 192.0.2.0/24, 2001:db8::/64',
        ) from error


def _is_within(network: Any, other: Any) -> bool:
    return bool(network.version == other.version and network.subnet_of(other))


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
) -> None:
    """Open a TCP connection to a portal and close it again.

    iscsid goes on trying a dead portal for minutes and cannot be told to
    stop, so it is only asked to log in where somebody answers.

    :param address: IP address, IPv6 without brackets. A name is none: who
        looks one up decides whether it is connected to where it leads
    :param timeout: seconds
    :param device: the network device to go through; None: as routes say
    :raises TargetUnreachable: refused, no route, or no answer in time
    """
    portal = join(address, port)
    try:
        _connect(address, port, timeout, device)
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
) -> None:
    [(family, kind, protocol, _, where), *_] = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
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
                return
        connection.settimeout(timeout)
        connection.connect(where)


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
