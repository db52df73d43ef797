# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Types of the fields of the objects.

They are stricter than those of oslo.versionedobjects, which make a string of
a number and a boolean of anything, and they raise InvalidConnectionInfo
with the name of the field. Since every assignment passes here, an object that
was made from a primitive has kept the same rules as one made at home.
"""

from collections.abc import Callable
import datetime
from typing import Any

from oslo_versionedobjects import fields

from attachworker.objects import rules

STATUSES = ('attached', 'detached', 'extended', 'rotated', 'failed')
ATTACHMENT_STATES = (
    'attaching',
    'attached',
    'degraded',
    'detaching',
    'missing',
    'failed',
)
PROTOCOLS = ('iscsi', 'nvmeof', 'rbd', 'local', 'fibre_channel', 'nfs')
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

#: Rules that the fingerprints of objects spell in another way.
_SPELLING = {
    'iscsi_name': 'ISCSIName',
    'nqn': 'NQN',
    'nvme_transport': 'NVMeTransport',
}


class _Ruled:
    def __init__(self, rule: Callable[[object], Any]) -> None:
        self.rule = rule

    def coerce(self, obj: Any, attr: str, value: Any) -> Any:
        return rules.check(attr, self.rule, value)


class _Text(_Ruled, fields.String):
    pass


class _Secret(_Text):
    """A string that is never printed.

    SensitiveString of oslo.versionedobjects masks only what looks like
    'password=...' inside of a text.
    """

    def stringify(self, value: str) -> str:
        return f"'{MASK}'"


class _Integer(_Ruled, fields.Integer):
    pass


class _Flag(_Ruled, fields.Boolean):
    pass


class Choice(fields.Enum):
    def coerce(self, obj: Any, attr: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.valid_values:
            raise rules.invalid(
                attr, 'must be ' + ' or '.join(self.valid_values)
            )
        return value


class UTCDateTime(fields.DateTime):
    """A time in UTC with whole seconds, as it looks after a journey."""

    def coerce(self, obj: Any, attr: str, value: Any) -> datetime.datetime:
        moment = super().coerce(obj, attr, value)
        return moment.astimezone(datetime.UTC).replace(microsecond=0)


class _RuledField(fields.AutoTypedField[Any]):
    """A field whose values keep one of the rules."""

    TYPE: type[_Ruled]

    def __init__(self, rule: Callable[[object], Any], **kwargs: Any) -> None:
        self.AUTO_TYPE: Any = self.TYPE(rule)
        super().__init__(**kwargs)

    def __repr__(self) -> str:
        # The fingerprint of an object is made of this.
        rule = self.AUTO_TYPE.rule.__name__
        name = _SPELLING.get(rule) or rule.title().replace('_', '')
        return f'{name}(default={self._default},nullable={self._nullable})'


# The second bases tell mypy what the values are.
class TextField(_RuledField, fields.AutoTypedField[str]):
    TYPE = _Text


class SecretField(_RuledField, fields.AutoTypedField[str]):
    TYPE = _Secret


class FlagField(_RuledField, fields.AutoTypedField[bool]):
    TYPE = _Flag

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(rules.flag, **kwargs)


class IntegerField(_RuledField, fields.AutoTypedField[int]):
    TYPE = _Integer


class BoundedIntegerField(IntegerField):
    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        self._bounds = f'minimum={minimum},maximum={maximum}'
        super().__init__(rules.bounded(minimum, maximum), **kwargs)

    def __repr__(self) -> str:
        return (
            f'BoundedInteger(default={self._default},'
            f'nullable={self._nullable},{self._bounds})'
        )


class ChoiceField(fields.BaseEnumField):
    def __init__(self, *values: str, **kwargs: Any) -> None:
        self.AUTO_TYPE = Choice(values)
        super().__init__(**kwargs)


class ObjectsField(fields.AutoTypedField[list[Any]]):
    """A list of objects, which is counted before any of them is made."""

    def __init__(self, name: str, most: int) -> None:
        self.AUTO_TYPE = fields.List(fields.Object(name))
        self.objname = name
        self._most = most
        super().__init__()

    def from_primitive(self, obj: Any, attr: str, value: Any) -> Any:
        if isinstance(value, list) and len(value) > self._most:
            raise rules.invalid(
                attr, f'must have at most {self._most} entries'
            )
        return super().from_primitive(obj, attr, value)


class UTCDateTimeField(fields.AutoTypedField[datetime.datetime]):
    AUTO_TYPE = UTCDateTime()


class DictOfFloatsField(fields.AutoTypedField[dict[str, float]]):
    AUTO_TYPE = fields.Dict(fields.Float())
