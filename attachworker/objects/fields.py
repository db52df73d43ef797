# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Types of the fields of the objects.

They are stricter than those of oslo.versionedobjects, which make a string of
a number and a boolean of anything, and they raise InvalidConnectionInfo
with the name of the field. Since every assignment passes here, an object that
was made from a primitive has kept the same rules as one made at home.
"""

import datetime
from typing import Any

from oslo_versionedobjects import fields

from attachworker import exception
from attachworker.objects import rules

STATUSES = ('attached', 'detached', 'extended', 'failed')
OPERATIONS = ('attach', 'detach', 'extend')
ATTACHMENT_STATES = (
    'attaching',
    'attached',
    'degraded',
    'detaching',
    'missing',
    'failed',
)
AUDIT_STATES = ('ok', 'degraded', 'missing')
FINDING_KINDS = ('orphan', 'stale', 'foreign')
PATH_STATES = ('connected', 'connecting', 'failed')
PROTOCOLS = ('iscsi', 'nvmeof', 'rbd', 'local')
ACCESS_MODES = ('rw', 'ro')
DEVICE_TYPES = ('block', 'local')
AUTH_METHODS = ('CHAP',)
ENCRYPTION_PROVIDERS = ('luks', 'luks2', 'plain')
#: Codes of the errors in a result; attachworker.exception has their meaning.
ERROR_CODES = (
    'invalid_connection_info',
    'unsupported_protocol',
    'target_unreachable',
    'login_failed',
    'auth_failed',
    'device_not_found',
    'wwn_not_found',
    'identity_mismatch',
    'multipath_failed',
    'not_enough_paths',
    'in_use',
    'flush_failed',
    'extend_failed',
    'encryption_failed',
    'deadline_exceeded',
    'cancelled',
    'attachment_conflict',
    'attachment_not_found',
    'busy',
    'host_tool_missing',
    'host_tool_failed',
    'internal',
)

#: What is printed in place of a secret.
MASK = '***'


class RuledString(fields.String):
    """A string that keeps one of the rules."""

    def rule(self, value: object) -> str:
        return rules.text(value)

    def coerce(self, obj: Any, attr: str, value: Any) -> str:
        return rules.check(attr, self.rule, value)


class Text(RuledString):
    pass


class Identifier(RuledString):
    def rule(self, value: object) -> str:
        return rules.identifier(value)


class AbsolutePath(RuledString):
    def rule(self, value: object) -> str:
        return rules.absolute_path(value)


class UserName(RuledString):
    def rule(self, value: object) -> str:
        return rules.user_name(value)


class TransportIface(RuledString):
    def rule(self, value: object) -> str:
        return rules.transport_iface(value)


class ISCSIName(RuledString):
    def rule(self, value: object) -> str:
        return rules.iscsi_name(value)


class Portal(RuledString):
    def rule(self, value: object) -> str:
        return rules.portal(value)


class NQN(RuledString):
    def rule(self, value: object) -> str:
        return rules.nqn(value)


class CephName(RuledString):
    def rule(self, value: object) -> str:
        return rules.ceph_name(value)


class NamespaceId(RuledString):
    def rule(self, value: object) -> str:
        return rules.namespace_id(value)


class NVMeTransport(RuledString):
    def rule(self, value: object) -> str:
        return rules.nvme_transport(value)


class Wwn(RuledString):
    def rule(self, value: object) -> str:
        return rules.wwn(value)


class Secret(RuledString):
    """A string that is never printed.

    SensitiveString of oslo.versionedobjects masks only what looks like
    'password=...' inside of a text.
    """

    def rule(self, value: object) -> str:
        return rules.secret(value)

    def stringify(self, value: str) -> str:
        return f"'{MASK}'"


class SecretLine(Secret):
    def rule(self, value: object) -> str:
        return rules.secret_line(value)


class Flag(fields.Boolean):
    def coerce(self, obj: Any, attr: str, value: Any) -> bool:
        return rules.check(attr, rules.flag, value)


class Lun(fields.Integer):
    def coerce(self, obj: Any, attr: str, value: Any) -> int:
        return rules.check(attr, rules.lun, value)


class NamespaceNumber(fields.Integer):
    def coerce(self, obj: Any, attr: str, value: Any) -> int:
        return rules.check(attr, rules.namespace_number, value)


class BoundedInteger(fields.Integer):
    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        super().__init__()

    def coerce(self, obj: Any, attr: str, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not self.minimum <= value <= self.maximum
        ):
            raise exception.InvalidConnectionInfo(
                key=attr,
                rule=f'must be an integer from {self.minimum} to '
                f'{self.maximum}',
            )
        return value


class Choice(fields.Enum):
    def coerce(self, obj: Any, attr: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.valid_values:
            raise exception.InvalidConnectionInfo(
                key=attr, rule='must be ' + ' or '.join(self.valid_values)
            )
        return value


class UTCDateTime(fields.DateTime):
    """A time in UTC with whole seconds, as it looks after a journey."""

    def coerce(self, obj: Any, attr: str, value: Any) -> datetime.datetime:
        moment = super().coerce(obj, attr, value)
        if moment.tzinfo is datetime.UTC and not moment.microsecond:
            return moment
        return moment.astimezone(datetime.UTC).replace(microsecond=0)

    def from_primitive(
        self, obj: Any, attr: str, value: Any
    ) -> datetime.datetime:
        # The library's own parser takes longer than all the rest of an
        # attachment.
        return datetime.datetime.fromisoformat(value)


class TextField(fields.AutoTypedField[str]):
    AUTO_TYPE = Text()


class IdentifierField(fields.AutoTypedField[str]):
    AUTO_TYPE = Identifier()


class AbsolutePathField(fields.AutoTypedField[str]):
    AUTO_TYPE = AbsolutePath()


class UserNameField(fields.AutoTypedField[str]):
    AUTO_TYPE = UserName()


class TransportIfaceField(fields.AutoTypedField[str]):
    AUTO_TYPE = TransportIface()


class ISCSINameField(fields.AutoTypedField[str]):
    AUTO_TYPE = ISCSIName()


class PortalField(fields.AutoTypedField[str]):
    AUTO_TYPE = Portal()


class NQNField(fields.AutoTypedField[str]):
    AUTO_TYPE = NQN()


class CephNameField(fields.AutoTypedField[str]):
    AUTO_TYPE = CephName()


class NamespaceIdField(fields.AutoTypedField[str]):
    AUTO_TYPE = NamespaceId()


class NamespaceNumberField(fields.AutoTypedField[int]):
    AUTO_TYPE = NamespaceNumber()


class NVMeTransportField(fields.AutoTypedField[str]):
    AUTO_TYPE = NVMeTransport()


class WwnField(fields.AutoTypedField[str]):
    AUTO_TYPE = Wwn()


class SecretField(fields.AutoTypedField[str]):
    AUTO_TYPE = Secret()


class SecretLineField(SecretField):
    AUTO_TYPE = SecretLine()


class FlagField(fields.AutoTypedField[bool]):
    AUTO_TYPE = Flag()


class LunField(fields.AutoTypedField[int]):
    AUTO_TYPE = Lun()


class UTCDateTimeField(fields.AutoTypedField[datetime.datetime]):
    AUTO_TYPE = UTCDateTime()


class BoundedIntegerField(fields.AutoTypedField[int]):
    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        self.AUTO_TYPE = BoundedInteger(minimum, maximum)
        self._bounds = (minimum, maximum)
        super().__init__(**kwargs)

    def __repr__(self) -> str:
        # The fingerprint of an object is made of this.
        return '{}(default={},nullable={},minimum={},maximum={})'.format(
            type(self._type).__name__,
            self._default,
            self._nullable,
            *self._bounds,
        )


class DictOfFloatsField(fields.AutoTypedField[dict[str, float]]):
    AUTO_TYPE = fields.Dict(fields.Float())


class StatusField(fields.BaseEnumField):
    AUTO_TYPE = Choice(STATUSES)


class OperationField(fields.BaseEnumField):
    AUTO_TYPE = Choice(OPERATIONS)


class AttachmentStateField(fields.BaseEnumField):
    AUTO_TYPE = Choice(ATTACHMENT_STATES)


class AuditStateField(fields.BaseEnumField):
    AUTO_TYPE = Choice(AUDIT_STATES)


class FindingKindField(fields.BaseEnumField):
    AUTO_TYPE = Choice(FINDING_KINDS)


class PathStateField(fields.BaseEnumField):
    AUTO_TYPE = Choice(PATH_STATES)


class ProtocolField(fields.BaseEnumField):
    AUTO_TYPE = Choice(PROTOCOLS)


class AccessModeField(fields.BaseEnumField):
    AUTO_TYPE = Choice(ACCESS_MODES)


class DeviceTypeField(fields.BaseEnumField):
    AUTO_TYPE = Choice(DEVICE_TYPES)


class AuthMethodField(fields.BaseEnumField):
    AUTO_TYPE = Choice(AUTH_METHODS)


class EncryptionProviderField(fields.BaseEnumField):
    AUTO_TYPE = Choice(ENCRYPTION_PROVIDERS)


class ErrorCodeField(fields.BaseEnumField):
    AUTO_TYPE = Choice(ERROR_CODES)
