# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""iSCSI and iSER volumes."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

#: More ways to one volume than this make no sense.
MAX_TARGETS = 64

#: Keys of the lists in the data; those of the single values have no "s".
_RULES: dict[str, Callable[[object], Any]] = {
    'target_portals': rules.portal,
    'target_iqns': rules.iscsi_name,
    'target_luns': rules.lun,
}


@base.AttachWorkerObjectRegistry.register
class ISCSITarget(base.AttachWorkerObject):
    """One portal of a target, and the volume there."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'address:port', see rules.portal.
        'portal': fields.TextField(rules.portal),
        #: iqn., eui. or naa. name, as the target spells it.
        'name': fields.TextField(rules.iscsi_name),
        #: Number as it goes over the wire, addressing_mode applied.
        'lun': fields.IntegerField(rules.lun),
    }


@base.AttachWorkerObjectRegistry.register
class ISCSIConnectionInfo(connection_info.ConnectionInfo):
    """A volume behind one or more iSCSI portals."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 1 to 64 ways to the volume; the property ``targets`` has them as
        #: tuples.
        'target_list': fields.ObjectsField('ISCSITarget', MAX_TARGETS),
        #: Whether the data named one portal only, in the singular keys: a
        #: multipath attach may find more by SendTargets discovery.
        'may_discover': fields.FlagField(default=False),
        #: How to log in: 'CHAP'; null: without authentication.
        'auth_method': fields.ChoiceField('CHAP', nullable=True),
        #: Name and secret that this host shows to the target.
        'auth_username': fields.TextField(rules.user_name, nullable=True),
        'auth_password': fields.SecretField(rules.chap_secret, nullable=True),
        #: Name and secret that the target shows to this host (mutual CHAP).
        'auth_username_in': fields.TextField(rules.user_name, nullable=True),
        'auth_password_in': fields.SecretField(
            rules.chap_secret, nullable=True
        ),
        #: The same for SendTargets discovery, where a target asks for it.
        'discovery_auth_method': fields.ChoiceField('CHAP', nullable=True),
        'discovery_auth_username': fields.TextField(
            rules.user_name, nullable=True
        ),
        'discovery_auth_password': fields.SecretField(
            rules.chap_secret, nullable=True
        ),
        'discovery_auth_username_in': fields.TextField(
            rules.user_name, nullable=True
        ),
        'discovery_auth_password_in': fields.SecretField(
            rules.chap_secret, nullable=True
        ),
        #: Name of the open-iscsi iface to go through; null: 'default' (TCP).
        'transport_iface': fields.TextField(
            rules.transport_iface, nullable=True
        ),
    }

    IGNORED_IN_DIGEST = frozenset(
        f'{prefix}auth_{name}'
        for prefix in ('', 'discovery_')
        for name in ('method', 'username', 'username_in')
    )

    DERIVED = frozenset({'target_list', 'may_discover'})

    protocol = 'iscsi'

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        data = dict(data)
        # An empty method is one more way to say that there is none.
        for key in ('auth_method', 'discovery_auth_method'):
            if data.get(key) == '':
                del data[key]
        if volume_type == 'iser' and data.get('transport_iface') is None:
            data['transport_iface'] = 'iser'
        info = super()._from_data(volume_type, data)
        info.target_list = _targets(data)
        info.may_discover = not data.get('target_portals')
        return info

    def validate(self) -> None:
        super().validate()
        unique: dict[connection_info.Target, ISCSITarget] = {}
        for each in self.target_list:
            unique.setdefault(_target(each).canonical, each)
        self.target_list = rules.distinct('target_list', unique, MAX_TARGETS)
        self._check_auth('')
        self._check_auth('discovery_')

    def _check_auth(self, prefix: str) -> None:
        method = f'{prefix}auth_method'
        own = [f'{prefix}auth_username', f'{prefix}auth_password']
        theirs = [f'{name}_in' for name in own]
        if any(getattr(self, name) for name in theirs):
            needed = [method, *own, *theirs]
        elif getattr(self, method):
            needed = own
        else:
            # Credentials without a method are for nothing: forget them.
            needed = []
            for name in own:
                setattr(self, name, None)
        for name in needed:
            if getattr(self, name) is None:
                raise rules.invalid(
                    name, 'is required by the other auth settings'
                )

    @property
    def targets(self) -> list[connection_info.Target]:
        return [_target(each) for each in self.target_list]

    def is_complete(self, multipath: bool) -> bool:
        if multipath and self.may_discover:
            return False
        return super().is_complete(multipath)

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        info = self.obj_clone()
        info.target_list = [
            ISCSITarget(portal=portal, name=name, lun=lun)
            for portal, name, lun in targets
        ]
        info.may_discover = False
        return info


def _target(target: ISCSITarget) -> connection_info.Target:
    return connection_info.Target(target.portal, target.name, target.lun)


def _targets(data: Mapping[str, Any]) -> list[ISCSITarget]:
    """Combine portals, names and LUNs of the data.

    A list wins over the single value. Where some lists are missing, or have
    one entry, the single value stands for each target.
    """
    lists = {
        key: [
            rules.check(f'{key}[{index}]', rule, value)
            for index, value in enumerate(
                rules.entries(data, key, MAX_TARGETS)
            )
        ]
        for key, rule in _RULES.items()
    }
    singles = {
        key: rules.check(key[:-1], rule, data[key[:-1]])
        for key, rule in _RULES.items()
        if data.get(key[:-1]) is not None
    }
    singles.setdefault('target_luns', 0)
    given = [key for key, values in lists.items() if values]
    longest = max(given, key=lambda key: len(lists[key]), default=None)
    count = len(lists[longest]) if longest else 1
    for key in given:
        if len(lists[key]) not in (1, count):
            raise rules.invalid(
                key, f'must have one entry, or as many as {longest}'
            )
    for key in lists:
        if key not in given and key not in singles:
            raise rules.invalid(key if given else key[:-1], 'is required')
    portals, names, luns = (
        values * count if len(values) == 1 else values
        for values in (lists[key] or [singles[key]] for key in lists)
    )
    luns = rules.wire_luns(
        luns,
        data.get('addressing_mode'),
        'target_luns' if 'target_luns' in given else 'target_lun',
    )
    return [
        ISCSITarget(portal=portal, name=name, lun=lun)
        for portal, name, lun in zip(portals, names, luns, strict=True)
    ]
