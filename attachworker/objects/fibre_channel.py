# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Fibre Channel volumes."""

from collections.abc import Mapping
from typing import Any
from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

#: More ways to one volume than this make no sense.
MAX_TARGETS = 64

#: In place of the port of this host: whichever sees the target port.
ANY_PORT = 'any'


class PortTarget(connection_info.Target):
    """A LUN at a target port, through one port of this host or any.

    The name is the WWPN of the target port.
    """

    __slots__ = ()

    @property
    def backend(self) -> str:
        """The target port: a port has no address that others share."""
        return self.name


@base.AttachWorkerObjectRegistry.register
class FibreChannelTarget(base.AttachWorkerObject):
    """A target port, and the volume there."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: WWPN of the port of this host that leads there; null: any may.
        'host_port': fields.TextField(rules.port_name, nullable=True),
        #: WWPN of the port of the storage.
        'target_port': fields.TextField(rules.port_name),
        #: Number as it goes over the wire, addressing_mode applied.
        'lun': fields.IntegerField(rules.lun),
    }


@base.AttachWorkerObjectRegistry.register
class FibreChannelZone(base.AttachWorkerObject):
    """A port of a host that may go to a target port."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'host_port': fields.TextField(rules.port_name),
        'target_port': fields.TextField(rules.port_name),
    }


@base.AttachWorkerObjectRegistry.register
class FibreChannelConnectionInfo(connection_info.ConnectionInfo):
    """A volume behind one or more target ports of a Fibre Channel fabric."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 1 to 64 ways to the volume; the property ``targets`` has them as
        #: tuples.
        'target_list': fields.ObjectsField('FibreChannelTarget', MAX_TARGETS),
        #: Which ports may go to which target ports; empty: all to all.
        'zones': fields.ObjectsField('FibreChannelZone', MAX_TARGETS**2),
    }

    DERIVED = frozenset({'target_list', 'zones'})

    protocol = 'fibre_channel'

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        info = super()._from_data(volume_type, data)
        info.target_list = _targets(data)
        named = {each.target_port for each in info.target_list}
        info.zones = _zones(data, named)
        return info

    def validate(self) -> None:
        super().validate()
        unique: dict[connection_info.Target, FibreChannelTarget] = {}
        for each in self.target_list:
            unique.setdefault(_target(each), each)
        self.target_list = rules.distinct('target_wwns', unique, MAX_TARGETS)

    @property
    def targets(self) -> list[connection_info.Target]:
        return [_target(each) for each in self.target_list]

    def may_use(self, host_port: str, target_port: str) -> bool:
        """Whether a port of this host is to go to a target port."""
        return not self.zones or any(
            (zone.host_port, zone.target_port) == (host_port, target_port)
            for zone in self.zones
        )

    def is_complete(self, multipath: bool) -> bool:
        """Whether it is said through which ports of this host to go."""
        return all(each.host_port for each in self.target_list)

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        info = self.obj_clone()
        info.target_list = [
            FibreChannelTarget(
                host_port=None if portal == ANY_PORT else portal,
                target_port=name,
                lun=lun,
            )
            for portal, name, lun in targets
        ]
        return info


def _target(target: FibreChannelTarget) -> PortTarget:
    return PortTarget(
        target.host_port or ANY_PORT, target.target_port, target.lun
    )


def _targets(data: Mapping[str, Any]) -> list[FibreChannelTarget]:
    """Combine target ports and LUNs of the data.

    A list wins over the single value, which some drivers send as a list, too.
    One LUN stands for all target ports.
    """
    key, names = _several(data, 'target_wwns', 'target_wwn')
    if not names:
        raise rules.invalid('target_wwns', 'is required, or target_wwn')
    ports = [
        rules.check(f'{key}[{index}]', rules.port_name, name)
        for index, name in enumerate(names)
    ]
    lun_key, numbers = _several(data, 'target_luns', 'target_lun')
    luns = [
        rules.check(f'{lun_key}[{index}]', rules.lun, number)
        for index, number in enumerate(numbers or [0])
    ]
    if len(luns) not in (1, len(ports)):
        raise rules.invalid(
            lun_key, f'must have one entry, or as many as {key}'
        )
    luns = rules.wire_luns(luns, data.get('addressing_mode'), lun_key)
    if len(luns) == 1:
        luns *= len(ports)
    return [
        FibreChannelTarget(host_port=None, target_port=port, lun=lun)
        for port, lun in zip(ports, luns, strict=True)
    ]


def _several(
    data: Mapping[str, Any], plural: str, singular: str
) -> tuple[str, list[Any]]:
    """The values of a list, or the single one, and the key they are under."""
    if found := rules.entries(data, plural, MAX_TARGETS):
        return plural, list(found)
    value = data.get(singular)
    if isinstance(value, list | tuple):
        return singular, list(rules.entries(data, singular, MAX_TARGETS))
    return singular, [] if value is None else [value]


def _zones(data: Mapping[str, Any], named: set[str]) -> list[FibreChannelZone]:
    """What the map of the data says of the target ports that it names.

    Some drivers have all ports of an array in the map.
    """
    key = 'initiator_target_map'
    given = data.get(key)
    if not given:
        return []
    if not isinstance(given, Mapping) or len(given) > MAX_TARGETS:
        raise rules.invalid(
            key, f'must be an object with at most {MAX_TARGETS} keys'
        )
    zones: dict[tuple[str, str], FibreChannelZone] = {}
    for host_port, target_ports in given.items():
        one = rules.check(f'a key of {key}', rules.port_name, host_port)
        if isinstance(target_ports, str):
            target_ports = [target_ports]
        for name in rules.entries({key: target_ports}, key, MAX_TARGETS):
            other = rules.check(key, rules.port_name, name)
            if other in named:
                zones[one, other] = FibreChannelZone(
                    host_port=one, target_port=other
                )
    if not zones:
        raise rules.invalid(key, 'must lead to one of the target_wwns')
    return list(zones.values())
