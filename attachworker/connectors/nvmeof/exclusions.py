# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the operator has excluded from being connected.

The lists of nvme-cli 3 (``nvme exclusion``): files with lines like
``exclusion = transport=tcp;traddr=192.0.2.10``, below ``[exclusions]``. An
entry excludes what has all of its values; one that makes no sense excludes
nothing.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import ipaddress

#: The keys of an entry, as ``nvme connect`` has them, with the kernel's names.
_KEYS = {
    'transport': 'transport',
    'traddr': 'traddr',
    'trsvcid': 'trsvcid',
    'nqn': 'nqn',
    'host-traddr': 'host_traddr',
    'host-iface': 'host_iface',
    'hostnqn': 'hostnqn',
    'hostid': 'hostid',
}
_ADDRESSES = frozenset(('traddr', 'host-traddr'))


def match(text: str, options: Mapping[str, str]) -> str | None:
    """The first entry of a list that excludes a connection.

    :param text: of the list
    :param options: of the connection, as the kernel calls them
    """
    return next(
        (entry for entry in _entries(text) if _excludes(entry, options)), None
    )


def _entries(text: str) -> Iterator[str]:
    inside = False
    for line in map(str.strip, text.splitlines()):
        key, equals, value = line.partition('=')
        if line.startswith('['):
            section, end, _ = line[1:].partition(']')
            inside = bool(end) and section.strip() == 'exclusions'
        elif inside and equals and key.strip() == 'exclusion':
            yield value.strip()


def _excludes(entry: str, options: Mapping[str, str]) -> bool:
    fields = [part.strip() for part in entry.split(';') if part.strip()]
    parts = [field.partition('=') for field in fields]
    if any(key.strip() not in _KEYS or not value for key, _, value in parts):
        return False
    return bool(parts) and all(
        _same(key.strip(), value.strip(), options.get(_KEYS[key.strip()]))
        for key, _, value in parts
    )


def _same(key: str, wanted: str, found: str | None) -> bool:
    if found is None or wanted == found:
        return wanted == found
    if key not in _ADDRESSES:
        return False
    try:
        return ipaddress.ip_address(wanted) == ipaddress.ip_address(found)
    except ValueError:
        return False
