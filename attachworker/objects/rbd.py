# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ceph RBD images."""

from collections.abc import Iterable
from collections.abc import Mapping
import functools
import re
from typing import Any
from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

#: As many as the kernel takes (CEPH_MAX_MON).
MAX_MONITORS = 31

#: Port of a monitor that speaks the first version of the protocol.
MONITOR_PORT = 6789

#: Port of one that speaks the second.
SECOND_PORT = 3300

#: An address as Ceph itself spells it, in ``ceph mon dump`` or in mon_host of
#: ceph.conf: ``v2:192.0.2.1:3300/0``, or several of one monitor in brackets.
_SPELLED = (
    r'(?:v[12]:)?(?:\[[0-9A-Fa-f:.]+\]|[^][,/:]+)(?::[0-9]+)?(?:/[0-9]+)?'
)
_SPELLED_ALL = re.compile(rf'{_SPELLED}|\[{_SPELLED}(?:,{_SPELLED})*\]')
_PARTS = re.compile(
    r'(?:(?P<version>v[12]):)?'
    r'(?P<host>\[[0-9A-Fa-f:.]+\]|[^][,/:]+)'
    r'(?::(?P<port>[0-9]+))?(?:/[0-9]+)?(?=[],]|$)'
)

_NAME = re.compile(
    r'(?P<pool>[^/@]*)/((?P<namespace>[^/@]*)/)?(?P<image>[^/@]*)'
    r'(@(?P<snapshot>.*))?',
    re.DOTALL,
)


class ImageTarget(connection_info.Target):
    """The one path to an image: all monitors lead to the same cluster."""

    __slots__ = ()

    @property
    def link_key(self) -> str:
        """Nothing that this host would have to end."""
        return ''

    @property
    def volume_name(self) -> str:
        return str(self.lun)

    def leads_to_device_of(self, key: str) -> bool:
        """An image is mapped once, through whichever monitors of its cluster.

        How they are named is no matter: see :func:`same_cluster`.
        """
        other = type(self).from_key(key)
        return self.lun == other.lun and same_cluster(
            self.portal.split(','), other.portal.split(',')
        )

    @property
    def backend(self) -> str:
        """The address of the first monitor, without its port."""
        return self.portal.partition(',')[0].rpartition(':')[0]


def same_cluster(portals: Iterable[str], others: Iterable[str]) -> bool:
    """Whether these are monitors of one cluster, each as ``address:port``.

    A cluster is known by its monitors: one in common is enough, for monitors
    come and go. A monitor has a port for each version of the protocol.
    """
    return not set(map(_monitor, portals)).isdisjoint(map(_monitor, others))


def _monitor(portal: str) -> str:
    address, _, port = portal.rpartition(':')
    known = port in (str(MONITOR_PORT), str(SECOND_PORT))
    return address if known else portal


@base.AttachWorkerObjectRegistry.register
class RBDConnectionInfo(connection_info.ConnectionInfo):
    """An image, or a snapshot of one, in a pool of a Ceph cluster."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 1 to 31 monitors of the cluster: 'address:port', sorted.
        'monitors': fields.ObjectsField('RBDMonitor', MAX_MONITORS),
        'pool': fields.TextField(rules.ceph_name),
        #: Namespace of the pool; null: the one without a name.
        'namespace': fields.TextField(rules.ceph_name, nullable=True),
        'image': fields.TextField(rules.ceph_name),
        #: Snapshot of the image, which is read-only; null: the image itself.
        'snapshot': fields.TextField(rules.ceph_name, nullable=True),
        #: Names the files in /etc/ceph.
        'cluster_name': fields.TextField(rules.ceph_name, default='ceph'),
        #: Whether the cluster wants to know who this host is (cephx).
        'auth_enabled': fields.FlagField(default=False),
        #: Without 'client.'.
        'auth_username': fields.TextField(rules.ceph_name, default='admin'),
        #: Text of a keyring with the user's key; null: the host has one.
        'keyring': fields.SecretField(rules.secret, nullable=True),
    }

    DERIVED = frozenset({'monitors', 'pool', 'namespace', 'image', 'snapshot'})

    protocol = 'rbd'

    #: What all clusters are called, in place of an IQN.
    TARGET_NAME = 'ceph'

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        info = super()._from_data(volume_type, data)
        info.monitors = _monitors(data)
        if data.get('name') is None:
            raise rules.invalid('name', 'is required')
        match = _NAME.fullmatch(rules.check('name', rules.text, data['name']))
        if match is None:
            raise rules.invalid(
                'name', 'must be pool/image or pool/namespace/image'
            )
        for field, value in match.groupdict().items():
            if value is not None:
                value = rules.check('name', rules.ceph_name, value)
                setattr(info, field, value)
        return info

    def validate(self) -> None:
        super().validate()
        unique = {each.portal: each for each in self.monitors}
        self.monitors = rules.distinct(
            'hosts', dict(sorted(unique.items())), MAX_MONITORS
        )

    @property
    def read_only(self) -> bool:
        """Likewise; nobody can write to a snapshot."""
        return super().read_only or self.snapshot is not None

    @property
    def spec(self) -> str:
        """``pool/image`` or ``pool/namespace/image``, with ``@snapshot``."""
        parts = [self.pool, self.namespace, self.image]
        where = '/'.join(part for part in parts if part)
        return f'{where}@{self.snapshot}' if self.snapshot else where

    @property
    def targets(self) -> list[connection_info.Target]:
        """One: all monitors are ways to the same cluster.

        The image stands in place of the number. Names of targets are
        compared without case, and those of images differ by it.
        """
        portal = ','.join(each.portal for each in self.monitors)
        return [ImageTarget(portal, self.TARGET_NAME, self.spec)]

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        info = self.obj_clone()
        info.monitors = [
            RBDMonitor(portal=portal)
            for portal in targets[0].portal.split(',')
        ]
        return info


@base.AttachWorkerObjectRegistry.register
class RBDMonitor(base.AttachWorkerObject):
    """One monitor of a cluster."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'address:port', see rules.endpoint.
        'portal': fields.TextField(rules.portal),
    }


def _monitors(data: Mapping[str, Any]) -> list[RBDMonitor]:
    """The hosts of a cluster with their ports, which go in pairs."""
    if data.get('hosts') is None:
        raise rules.invalid('hosts', 'is required')
    hosts = rules.entries(data, 'hosts', MAX_MONITORS)
    ports = data.get('ports')
    if ports is None:
        ports = [None] * len(hosts)
    if not isinstance(ports, list | tuple) or len(ports) != len(hosts):
        raise rules.invalid(
            'ports', 'must be a list with a port for each host'
        )
    return [
        RBDMonitor(
            portal=rules.check(
                f'hosts[{index}]',
                functools.partial(
                    rules.endpoint, port=number, default_port=default
                ),
                address,
            )
        )
        for index, (host, port) in enumerate(zip(hosts, ports, strict=True))
        for address, number, default in _addresses(host, port)
    ]


def _addresses(host: object, port: object) -> list[tuple[object, object, int]]:
    """The addresses of a monitor, each with its port and the usual one."""
    if (
        not isinstance(host, str)
        or not ('/' in host or host.startswith(('v1:', 'v2:', '[v')))
        or not _SPELLED_ALL.fullmatch(host)
    ):
        return [(host, port, MONITOR_PORT)]
    text = host[1:-1] if host.startswith('[v') else host
    return [
        (
            part['host'],
            part['port'] or port,
            SECOND_PORT if part['version'] == 'v2' else MONITOR_PORT,
        )
        for part in _PARTS.finditer(text)
    ]
