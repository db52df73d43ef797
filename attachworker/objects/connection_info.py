# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Where a volume is: what all protocols share, and the way in."""

from collections.abc import Mapping
import re
from typing import Any
from typing import NamedTuple
from typing import Self
from typing import cast

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import fields
from attachworker.objects import rules

#: The class for each driver_volume_type that is served.
CLASSES = {
    'fibre_channel': 'FibreChannelConnectionInfo',
    'iscsi': 'ISCSIConnectionInfo',
    'iser': 'ISCSIConnectionInfo',
    'local': 'LocalConnectionInfo',
    'nfs': 'MountConnectionInfo',
    'nvmeof': 'NVMeOFConnectionInfo',
    'rbd': 'RBDConnectionInfo',
}

_ANOTHER_SHARE = 'of files on network shares, those on NFS are served alone'

#: Why the other types that drivers send are not served.
REASONS = {
    'aoe': 'ATA over Ethernet is not supported',
    'glusterfs': _ANOTHER_SHARE,
    'quobyte': _ANOTHER_SHARE,
    'scality': _ANOTHER_SHARE,
    'smbfs': _ANOTHER_SHARE,
    'vzstorage': _ANOTHER_SHARE,
}


class Target(NamedTuple):
    """One path to a volume, as a request names it.

    Only the connector of its protocol takes it apart; all others know it by
    ``key``, ``link_key``, ``volume_name`` and ``label``.
    """

    #: 'address:port', IPv6 in brackets; empty where the name says it all.
    #: For Fibre Channel the port of this host (WWPN), or ANY_PORT.
    portal: str
    #: Name of the target (an IQN, for example), as the target spells it.
    name: str
    #: Number of the volume there, as it goes over the wire; 0 without portal.
    #: For NVMe its identifier as text ('uuid.…', 'nguid.…') if that is known:
    #: a number may be given to another volume. For Ceph the image, as text.
    lun: Any

    def __str__(self) -> str:
        if not self.portal:
            return self.name
        return f'{self.portal},{self.name},{self.lun}'

    @property
    def key(self) -> str:
        """Stable text that tells a path from all others of its protocol."""
        return str(self.canonical)

    @property
    def link_key(self) -> str:
        """What all paths through one session or controller have in common.

        Empty where a path has no link of its own.
        """
        return f'{self.portal},{self.name.lower()}' if self.portal else ''

    @property
    def volume_name(self) -> str:
        """What the storage calls the volume, through whichever portal.

        Operations on one name run one after another. A volume may have
        several: its identity is known only once it is connected.
        """
        return f'{self.name.lower()},{self.lun}' if self.portal else self.name

    @property
    def label(self) -> str:
        """The volume at this path, for people."""
        if not self.portal:
            return self.name
        what = self.lun if isinstance(self.lun, str) else f'LUN {self.lun}'
        return f'{what} of {self.name} at {self.portal}'

    @property
    def backend(self) -> str:
        """The storage that it leads to: what is slow or dead as a whole."""
        return self.portal.rpartition(':')[0]

    def as_info(self) -> dict[str, Any]:
        """The fields of objects.PathInfo that say where it leads."""
        number = self.portal and isinstance(self.lun, int)
        return {
            'portal': self.portal or None,
            'target': self.name,
            'lun': self.lun if number else None,
        }

    @property
    def canonical(self) -> Self:
        """What to compare targets by: a name at a portal has no case."""
        return self._replace(name=self.name.lower()) if self.portal else self

    def leads_to_device_of(self, key: str) -> bool:
        """Whether the path with this key has the same device on this host."""
        return key == self.key

    @classmethod
    def from_key(cls, key: str) -> Self:
        """The path that has this key."""
        if key.startswith('/'):
            return cls('', key, 0)
        # Ceph's monitors have commas between them; nothing else has any.
        portal, name, lun = key.rsplit(',', 2)
        return cls(portal, name, int(lun) if lun.isdigit() else lun)


@base.AttachWorkerObjectRegistry.register
class ConnectionInfo(base.AttachWorkerObject):
    """Base of one class for each protocol; of no use by itself."""

    # Version 1.0: Initial version
    #
    # The version of a subclass follows this one: a nested ConnectionInfo is
    # backported to the version that the receiver knows of this class.
    VERSION = '1.0'

    fields = {
        #: Id of the volume in the caller's world; null if it is not said.
        'volume_id': fields.TextField(rules.identifier, nullable=True),
        #: Identity that the device must have, as normalise_wwn() gives it;
        #: null: any.
        'wwn': fields.TextField(rules.wwn, nullable=True),
        #: 'rw', or 'ro' for a device that must not be written to.
        'access_mode': fields.ChoiceField('rw', 'ro', default='rw'),
        #: Whether what is stored there is encrypted by the caller's side.
        'encrypted': fields.FlagField(default=False),
        #: Whether no multipath map is a failure where one is asked for.
        'enforce_multipath': fields.FlagField(default=False),
    }

    #: Name of the protocol and of its connector.
    protocol = 'unknown'

    #: Fields that _from_data() makes of other keys of the data.
    DERIVED: frozenset[str] = frozenset()

    @staticmethod
    def from_dict(connection_info: Mapping[str, Any]) -> 'ConnectionInfo':
        """Read what a driver of Cinder sends.

        :param connection_info: nested (``{'driver_volume_type': T, 'data':
            {...}}``) or flat (the keys of data beside driver_volume_type);
            it is left as it is. Unknown keys are dropped.
        :returns: a valid object of the subclass for the protocol
        :raises: InvalidConnectionInfo naming the key and the rule,
            UnsupportedProtocol naming the reason. Neither quotes a value.
        """
        if not isinstance(connection_info, Mapping):
            raise rules.invalid(
                'connection_info', 'must be an object with keys'
            )
        volume_type = connection_info.get('driver_volume_type')
        if volume_type is None:
            raise rules.invalid('driver_volume_type', 'is required')
        volume_type = rules.check(
            'driver_volume_type', rules.text, volume_type
        ).lower()
        if volume_type not in CLASSES:
            # It is quoted in messages and logs: only if it looks like a type.
            plain = re.fullmatch('[a-z0-9][a-z0-9_-]{0,31}', volume_type)
            raise exception.UnsupportedProtocol(
                protocol=volume_type if plain else 'unknown',
                reason=REASONS.get(volume_type, 'the type is not known'),
            )
        data = connection_info.get('data', connection_info)
        if not isinstance(data, Mapping):
            raise rules.invalid('data', 'must be an object with keys')
        known = base.AttachWorkerObjectRegistry.obj_classes()
        chosen = cast(type[ConnectionInfo], known[CLASSES[volume_type]][0])
        info = chosen._from_data(volume_type, data)
        info.validate()
        return info

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        """Make the object of a driver's data; validate() comes after.

        A key with the name of a field is that field's value.

        :param volume_type: driver_volume_type in lower case
        """
        names = cls.fields.keys() - cls.DERIVED
        return cls(**{name: data.get(name) for name in names})

    def as_dict(self) -> dict[str, Any]:
        return {'protocol': self.protocol} | super().as_dict()

    def validate(self) -> None:
        if self.protocol not in fields.PROTOCOLS:
            raise exception.UnsupportedProtocol(
                protocol=self.protocol, reason='the protocol is not said'
            )
        super().validate()

    @classmethod
    def protocol_of(cls, data: Mapping[str, Any]) -> str:
        """The protocol of an object of this class.

        :param data: of its primitive
        """
        return cls.protocol

    @property
    def read_only(self) -> bool:
        """Whether the device is to be one that nobody can write to."""
        return bool(self.access_mode == 'ro')

    @property
    def targets(self) -> list[Target]:
        """What to connect to, in the order of the request."""
        raise NotImplementedError

    def is_complete(self, multipath: bool) -> bool:
        """Whether ``targets`` says all that there is to connect to.

        It does not if a host name has to be looked up.
        """
        return all(
            rules.is_ip_portal(portal)
            for target in self.targets
            for portal in target.portal.split(',')
            if portal
        )

    def with_targets(self, targets: list[Target]) -> Self:
        """The same volume, at the targets that were found for it."""
        raise NotImplementedError

    def connection_key(self, multipath: bool) -> str:
        """One text for each connection, however its request was spelled.

        Protocol, multipath and the set of targets make a connection; the
        order of targets and the credentials do not.
        """
        how = 'multipath' if multipath else 'single'
        targets = sorted({target.canonical for target in self.targets})
        return ' '.join([self.protocol, how, *map(str, targets)])
