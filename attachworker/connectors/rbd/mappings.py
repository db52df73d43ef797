# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ceph RBD: the images that this host has mapped, from sysfs."""

import dataclasses
import errno
import ipaddress
import re
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import machine
from attachworker.host import network
from attachworker.host import sysfs
from attachworker.host import verbs
from attachworker.objects import rbd

#: The names in sysfs of what is known of a mapping.
_ATTRIBUTES = {
    'fsid': 'cluster_fsid',
    'pool': 'pool',
    'pool_id': 'pool_id',
    'namespace': 'pool_ns',
    'image': 'name',
    'image_id': 'image_id',
    'snapshot': 'current_snap',
}
_DEVICES = 'sys/bus/rbd/devices'
_NUMBER = re.compile('[0-9]{1,10}')
#: What the kernel calls an image that is no snapshot.
_HEAD = '-'

#: In the path of each uevent that matters.
_PART = '/rbd'
#: A mapping that goes or comes meanwhile; these verbs read memory alone.
_GONE = (errno.ENOENT, errno.ENODEV, errno.ESTALE)
_BUSY = (errno.EBUSY, errno.EINPROGRESS)
#: Seconds that whoever has a device open gets before it goes by force: udev
#: needs less.
_GRACE = 2.0


@dataclasses.dataclass(frozen=True)
class Mapping:
    """An image that the kernel has a block device for.

    :ivar number: N of rbdN
    :ivar instance: see :func:`attachworker.host.sysfs.instance`
    :ivar fsid: of the cluster
    :ivar namespace: of the pool; empty: the one without a name
    :ivar image_id: empty for the first format of images
    :ivar snapshot: empty: the image itself
    :ivar size: bytes, as the driver knows it
    """

    number: int
    instance: int
    fsid: str
    pool: str
    pool_id: str
    namespace: str
    image: str
    image_id: str
    snapshot: str
    size: int

    @property
    def disk(self) -> str:
        return f'rbd{self.number}'

    @property
    def spec(self) -> str:
        """As objects.RBDConnectionInfo.spec has it."""
        parts = (self.pool, self.namespace, self.image)
        where = '/'.join(part for part in parts if part)
        return f'{where}@{self.snapshot}' if self.snapshot else where

    @property
    def identifier(self) -> str:
        """What tells the image from all others, those of its name too.

        Of numbers that a cluster gives once. Dots divide them: other signs
        are lost where identifiers are compared.
        """
        return '.'.join(
            (
                self.fsid,
                self.pool_id,
                self.namespace,
                self.image_id or self.image,
                self.snapshot,
            )
        )


class Mappings(machine.View):
    def available(self) -> bool:
        """Whether the kernel has the driver."""
        return sysfs.exists(self._root / 'sys/bus/rbd')

    def mappings(self) -> list[Mapping]:
        """All that there are, whoever made them."""
        return [
            one
            for name in sysfs.names(self._root / _DEVICES)
            if (one := self._mapping(name))
        ]

    def at(self, portal: str, spec: str) -> list[Mapping]:
        """The mappings of an image of one cluster.

        Those that somebody else has made beside ours do not count.

        :param portal: monitors with commas between them
        :raises OSError: the monitors of a mapping cannot be read
        """
        wanted = portal.split(',')
        image = spec.rpartition('/')[2].partition('@')[0]
        directory = self._root / _DEVICES
        found = [
            one
            for name in sysfs.names(directory)
            if sysfs.read(directory / name / 'name') == image
            and (one := self._mapping(name))
            and one.spec == spec
            and rbd.same_cluster(wanted, self.monitors(one))
        ]
        if len(found) < 2:
            return found
        return [one for one in found if self._is_ours(one)] or found

    def _is_ours(self, mapping: Mapping) -> bool:
        """Whether a worker has made it.

        :raises OSError: nobody can tell
        """
        return bool(self._ask('rbd.is_ours', mapping, False))

    def monitors(self, mapping: Mapping) -> frozenset[str]:
        """What it was mapped through; none if it is gone.

        :raises OSError: they cannot be read
        """
        return frozenset(map(_portal, self._ask('rbd.monitors', mapping, [])))

    def _ask(self, verb: str, mapping: Mapping, gone: Any) -> Any:
        """What the kernel was told of a mapping.

        :param gone: the answer if it is gone
        """
        deadline = deadlines.Deadline.after(verbs.SLOW_RETURN)
        try:
            return self._call(verb, deadline, mapping.number, about='')
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return gone

    def wait_for_disk(
        self, portal: str, spec: str, deadline: deadlines.Deadline
    ) -> Mapping | None:
        """The mapping once it has a node in /dev; None if that is late."""

        def look() -> Mapping | None:
            for one in self.at(portal, spec):
                if sysfs.exists(self._root / 'dev' / one.disk):
                    return one
            return None

        return self._wait(look, _PART, deadline)

    def remove(
        self,
        mapping: Mapping,
        deadline: deadlines.Deadline,
        force: bool = False,
    ) -> bool:
        """Unmap an image; True once the kernel no longer has it.

        udev opens a device for a moment to look what is on it, and nothing
        tells when it has closed it: a busy one is tried again.

        :param force: whether it goes though somebody keeps it open
        :raises OSError: EBUSY if it stays busy, or why the kernel does not
        """
        grace = deadlines.Deadline.after(_GRACE)
        busy: OSError | None = None

        def attempt() -> bool | None:
            nonlocal busy
            forced = force and grace.passed
            busy = self._unmap(mapping, deadline, forced)
            return None if busy or self._is_there(mapping) else True

        gone = None
        try:
            gone = self._wait(attempt, _PART, deadline)
        except exception.DeadlineExceeded:
            if busy is None:
                raise
        if busy is not None:
            raise busy
        return bool(gone)

    def _unmap(
        self, mapping: Mapping, deadline: deadlines.Deadline, force: bool
    ) -> OSError | None:
        """Why a mapping stays for the moment; None: it goes, or is gone.

        :raises OSError: it stays for another reason than that it is open
        """
        if not self._is_there(mapping):
            return None
        try:
            self._call(
                'rbd.remove',
                deadline,
                mapping.number,
                mapping.instance,
                force,
                about=mapping.disk,
            )
        except OSError as error:
            if error.errno in _BUSY:
                return error
            if error.errno not in _GONE:
                raise
        return None

    def _is_there(self, mapping: Mapping) -> bool:
        """Whether the kernel has it, and not another of its number."""
        found = sysfs.instance(self._root / _DEVICES / str(mapping.number))
        if found is not None:
            return found == mapping.instance
        return sysfs.exists(self._block(mapping.disk))

    def refresh(
        self, mapping: Mapping, deadline: deadlines.Deadline
    ) -> Mapping | None:
        """Have the kernel ask the cluster about an image again.

        :returns: what it is now; None if it is gone
        :raises OSError: the cluster does not know it, or does not answer
        """
        number, disk = mapping.number, mapping.disk
        self._call('rbd.refresh', deadline, number, about=disk)
        return self.find(disk)

    def find(self, disk: str) -> Mapping | None:
        """The mapping of a disk."""
        number = disk.removeprefix('rbd')
        return None if number == disk else self._mapping(number)

    def _mapping(self, number: str) -> Mapping | None:
        """None if there is no such number, or it goes while it is read."""
        if not _NUMBER.fullmatch(number):
            return None
        directory = self._root / _DEVICES / number
        instance = sysfs.instance(directory)
        known = {
            field: text
            for field, name in _ATTRIBUTES.items()
            if (text := sysfs.read(directory / name)) is not None
        }
        # kernels before 5.3 have no namespaces
        known.setdefault('namespace', '')
        size = sysfs.read_int(directory / 'size')
        if len(known) < len(_ATTRIBUTES) or size is None or instance is None:
            return None
        if sysfs.instance(directory) != instance:
            return None  # some of it may be of the next one
        if known['snapshot'] == _HEAD:
            known['snapshot'] = ''
        return Mapping(int(number), instance, size=size, **known)


def _portal(spelled: str) -> str:
    """``address:port`` of a monitor as somebody has spelled it."""
    if spelled.startswith('['):
        address, _, port = spelled[1:].partition(']')
        port = port.removeprefix(':')
    else:
        address, _, port = spelled.partition(':')
    try:
        canonical = str(ipaddress.ip_address(address))
        return network.join(canonical, int(port or rbd.MONITOR_PORT))
    except ValueError:
        return spelled
