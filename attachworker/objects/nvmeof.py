# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics volumes."""

from collections.abc import Mapping
from typing import Any
from typing import Self

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

MAX_PORTALS = 64

#: Port of NVMe over Fabrics at the IANA.
NVME_PORT = 4420


@base.AttachWorkerObjectRegistry.register
class NVMeOFPortal(base.AttachWorkerObject):
    """One portal of a subsystem."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'address:port', see rules.portal.
        'portal': fields.TextField(rules.portal),
        #: 'tcp' or 'rdma'.
        'transport': fields.TextField(rules.nvme_transport),
    }


@base.AttachWorkerObjectRegistry.register
class NVMeOFConnectionInfo(connection_info.ConnectionInfo):
    """A namespace of a subsystem behind one or more portals.

    At least one of ``vol_uuid``, ``volume_nguid`` and ``ns_id`` says which
    namespace; the first of these that is given counts.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 1 to 64 ways to the subsystem.
        'portal_list': fields.ObjectsField('NVMeOFPortal', MAX_PORTALS),
        'target_nqn': fields.TextField(rules.nqn),
        #: UUID of the namespace, 32 digits; null: it is not said.
        'vol_uuid': fields.TextField(rules.namespace_id, nullable=True),
        #: NGUID of the namespace, 32 digits; null: it is not said.
        'volume_nguid': fields.TextField(rules.namespace_id, nullable=True),
        #: Number of the namespace; null: it is not said.
        'ns_id': fields.IntegerField(rules.namespace_number, nullable=True),
        #: The name that this host logs in by; null: its own. Any other one is
        #: refused unless the option accept_host_nqn allows it.
        'host_nqn': fields.TextField(rules.nqn, nullable=True),
        #: DH-HMAC-CHAP keys (``DHHC-1:…``) of this host, and of the
        #: subsystem; null: without.
        'dhchap_secret': fields.SecretField(
            rules.dhchap_secret, nullable=True
        ),
        'dhchap_ctrl_secret': fields.SecretField(
            rules.dhchap_secret, nullable=True
        ),
    }

    DERIVED = frozenset({'portal_list'})

    protocol = 'nvmeof'

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        data = _only_replica(data, cls.protocol)
        # The key of the old form.
        given = {'target_nqn': data['nqn']} if data.get('nqn') else {}
        info = super()._from_data(volume_type, given | dict(data))
        info.portal_list = _portals(data)
        return info

    def validate(self) -> None:
        super().validate()
        unique = {each.portal: each for each in self.portal_list}
        self.portal_list = rules.distinct('portals', unique, MAX_PORTALS)
        if not self.namespace and self.ns_id is None:
            raise rules.invalid(
                'vol_uuid',
                'is required, or volume_nguid, or ns_id: a namespace is not '
                'taken by guess',
            )
        if self.dhchap_ctrl_secret and not self.dhchap_secret:
            raise rules.invalid(
                'dhchap_secret', 'is required by the other one'
            )
        if self.wwn is None and self.namespace:
            self.wwn = self.vol_uuid or self.volume_nguid

    @property
    def namespace(self) -> str:
        """``uuid.…`` or ``nguid.…``; empty if there is only a number."""
        if self.vol_uuid:
            return f'uuid.{self.vol_uuid}'
        return f'nguid.{self.volume_nguid}' if self.volume_nguid else ''

    @property
    def targets(self) -> list[connection_info.Target]:
        return [
            connection_info.Target(
                each.portal, self.target_nqn, self.namespace or self.ns_id
            )
            for each in self.portal_list
        ]

    def transport_of(self, target: connection_info.Target) -> str:
        """'tcp' or 'rdma'."""
        known = {each.portal: each.transport for each in self.portal_list}
        return str(known[target.portal])

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        info = self.obj_clone()
        info.portal_list = [
            NVMeOFPortal(portal=target.portal, transport=each.transport)
            for target, each in zip(targets, self.portal_list, strict=True)
        ]
        return info


def _only_replica(data: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    """The data with what its one replica says; as it is if there is none.

    :raises UnsupportedProtocol: there are several, or are to be
    """
    replicas = rules.entries(data, 'volume_replicas', MAX_PORTALS)
    count = data.get('replica_count') or 1
    if len(replicas) > 1 or str(count) != '1':
        raise exception.UnsupportedProtocol(
            protocol=protocol,
            reason='md replicas are not supported; have the storage replicate',
        )
    if not replicas:
        return data
    (replica,) = replicas
    if not isinstance(replica, Mapping):
        raise rules.invalid('volume_replicas[0]', 'must be an object')
    return dict(data) | dict(replica)


def _portals(data: Mapping[str, Any]) -> list[NVMeOFPortal]:
    """The portals of the new form, or the one of the old form."""
    if data.get('portals') is None:
        address, port = data.get('target_portal'), data.get('target_port')
        if address is None:
            raise rules.invalid('portals', 'is required')
        return [_portal('target_', address, port, data.get('transport_type'))]
    found = []
    for index, entry in enumerate(rules.entries(data, 'portals', MAX_PORTALS)):
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            raise rules.invalid(
                f'portals[{index}]', 'must have address, port and transport'
            )
        found.append(_portal(f'portals[{index}].', *entry))
    return found


def _portal(
    key: str, address: object, port: object, transport: object
) -> NVMeOFPortal:
    """One portal of its parts.

    :param key: what precedes the names of the parts, in errors
    """
    return NVMeOFPortal(
        portal=rules.check(
            f'{key}portal',
            lambda value: rules.endpoint(value, port, NVME_PORT),
            address,
        ),
        transport=rules.check(
            f'{key}transport', rules.nvme_transport, transport
        ),
    )
