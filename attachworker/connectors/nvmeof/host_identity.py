# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The pair of names by which storage knows this host.

Linux 6.5 and newer refuses a controller whose Host NQN another controller has
with another Host Identifier, or the reverse.
"""

from collections.abc import Collection
import dataclasses
import hashlib
import hmac
import uuid

#: What nvme-cli puts before the identifier to make a name of it.
PREFIX = 'nqn.2014-08.org.nvmexpress:uuid:'

#: What firmware says where nobody has given the machine a uuid: many machines
#: have the same.
_PLACEHOLDERS = frozenset(
    map(
        uuid.UUID,
        (
            '00000000-0000-0000-0000-000000000000',
            'ffffffff-ffff-ffff-ffff-ffffffffffff',
            '03000200-0400-0500-0006-000700080009',
        ),
    )
)
#: So that nobody learns the machine id from what goes over the network.
_PURPOSE = b'attachworker: NVMe Host Identifier'


@dataclasses.dataclass(frozen=True)
class HostIdentity:
    """A Host NQN with the Host Identifier that belongs to it.

    :ivar id: a uuid with dashes, in lower case
    """

    nqn: str
    id: str


def of_machine(product: str | None, machine_id: str | None) -> str | None:
    """A Host Identifier that a machine has at each start; None: it has none.

    :param product: the uuid that its firmware has for it
    :param machine_id: of its installation
    """
    found = _uuid(product)
    if found is not None and found not in _PLACEHOLDERS:
        return str(found)
    found = _uuid(machine_id)
    if found is None:
        return None
    digest = hmac.digest(found.bytes, _PURPOSE, hashlib.sha256)
    return str(uuid.UUID(bytes=digest[:16], version=4))


def complete(
    nqn: str | None, host_id: str | None, machine: str | None
) -> HostIdentity | None:
    """The pair, where a half of it or both are missing.

    What is there stays, also if the two do not belong together: other
    programs on the host connect by it.

    :param machine: see :func:`of_machine`
    :returns: None if nothing is known
    :raises ValueError: the Host Identifier is no uuid
    """
    if host_id is None:
        host_id = (nqn and id_in(nqn)) or machine
        if host_id is None and nqn is not None:
            host_id = str(uuid.uuid5(uuid.NAMESPACE_URL, nqn))
        if host_id is None:
            return None
    found = _uuid(host_id)
    if found is None:
        raise ValueError('the Host Identifier is no uuid')
    return HostIdentity(nqn or f'{PREFIX}{found}', str(found))


def new() -> HostIdentity:
    """A pair that no host has."""
    host_id = str(uuid.uuid4())
    return HostIdentity(f'{PREFIX}{host_id}', host_id)


def id_in(nqn: str) -> str | None:
    """The Host Identifier that a Host NQN was made of; None: of none."""
    if not nqn.lower().startswith(PREFIX):
        return None
    found = _uuid(nqn[len(PREFIX) :])
    return None if found is None else str(found)


def to_connect_by(
    nqn: str, own: HostIdentity, connected: Collection[HostIdentity]
) -> HostIdentity:
    """The pair for a Host NQN that the kernel can take now.

    :param nqn: the host's own one, or what the storage calls it
    :param connected: those of the controllers that there are
    """
    for one in connected:
        if one.nqn == nqn:
            return one
    taken = {one.id for one in connected}
    wanted = [id_in(nqn), str(uuid.uuid5(uuid.UUID(own.id), nqn))]
    if nqn == own.nqn:
        wanted.insert(0, own.id)
    else:
        taken.add(own.id)
    free = [one for one in wanted if one is not None and one not in taken]
    return HostIdentity(nqn, free[0] if free else own.id)


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        return None
