# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Base of everything that travels over the bus."""

import datetime
import functools
import hashlib
import json
from typing import Any
from typing import Self

from oslo_versionedobjects import base
from oslo_versionedobjects import fields as ovo_fields

from attachworker.objects import fields
from attachworker.objects import rules


class AttachWorkerObjectRegistry(base.VersionedObjectRegistry):
    """Registers a class under its name, for :meth:`obj_from_primitive`."""


class AttachWorkerObject(base.ComparableVersionedObject, base.VersionedObject):
    """A small value with a version.

    A field that has a default or may be null has a value from the start, the
    others are required; None given to the constructor is no value. Values
    are checked when they are assigned, those from a primitive too;
    :meth:`validate` checks what one value alone cannot show.

    How to change a class: a new field makes a new minor version, gets a
    default, a ``# Version 1.1: ...`` comment and a branch in
    ``obj_make_compatible`` that takes it out for older receivers; a field
    that goes or changes its meaning makes a new major version. HISTORY in
    attachworker.objects and the hashes in the tests follow.
    """

    OBJ_PROJECT_NAMESPACE = 'attachworker'

    #: Fields that say who asks and how, not what is asked for: two objects
    #: that differ in these alone have the same content.
    IGNORED_IN_DIGEST: frozenset[str] = frozenset()

    def __init__(self, context: Any = None, **kwargs: Any) -> None:
        if unknown := kwargs.keys() - self.fields.keys():
            raise TypeError(f'{self.obj_name()} has no {min(unknown)}')
        super().__init__(context)
        cls: Any = type(self)
        values, collections = _defaults(cls)
        vars(self).update(values)
        for given in collections, kwargs:
            for name, value in given.items():
                if value is not None:
                    setattr(self, name, value)

    @classmethod
    def obj_from_primitive(
        cls, primitive: dict[str, Any], context: Any = None
    ) -> Self:
        """Make the object of a primitive, from whomever that came.

        Fields that an older sender does not know have their defaults. The
        result still has to pass :meth:`validate`.

        :raises: InvalidConnectionInfo if it is malformed or a value breaks a
            rule, IncompatibleObjectVersion or UnsupportedObjectError of
            oslo.versionedobjects if it is too new or nothing of ours
        """
        try:
            found = super().obj_from_primitive(primitive, context)
        except (
            AttributeError,
            LookupError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            # No "from": texts of the library quote values.
            raise rules.invalid(
                _name(primitive), 'is not a well-formed object'
            ) from None
        return found

    @classmethod
    def _obj_from_primitive(
        cls, context: Any, objver: str, primitive: dict[str, Any]
    ) -> Self:
        # The library assigns one attribute after the other, notes each as
        # changed, and leaves the sender's version in the object. It is an
        # object of this version now, and goes out as one.
        found = cls.__new__(cls)
        base.VersionedObject.__init__(found, context)
        made: Any = cls
        values, collections = _defaults(made)
        vars(found).update(values)
        given = collections | cls._obj_primitive_field(primitive, 'data')
        for name, field in cls.fields.items():
            if name in given:
                value = given[name]
                if value is not None or not field.nullable:
                    value = field.from_primitive(found, name, value)
                    value = field.coerce(found, name, value)
                vars(found)[f'_obj_{name}'] = value
        return found

    def obj_what_changed(self) -> set[str]:
        # Nobody saves objects: equal ones are to have equal primitives.
        return set()

    def obj_attr_is_set(self, attrname: str) -> bool:
        # The library makes a list of all fields each time.
        if attrname in self.fields:
            return f'_obj_{attrname}' in vars(self)
        return super().obj_attr_is_set(attrname)

    def obj_to_primitive(
        self,
        target_version: str | None = None,
        version_manifest: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        if target_version is not None or version_manifest:
            return super().obj_to_primitive(target_version, version_manifest)
        # The same for this version, without what is done for others.
        values = vars(self)
        return {
            f'{self.OBJ_SERIAL_NAMESPACE}.name': self.obj_name(),
            f'{self.OBJ_SERIAL_NAMESPACE}.namespace': (
                self.OBJ_PROJECT_NAMESPACE
            ),
            f'{self.OBJ_SERIAL_NAMESPACE}.version': self.VERSION,
            f'{self.OBJ_SERIAL_NAMESPACE}.data': {
                name: field.to_primitive(self, name, values[f'_obj_{name}'])
                for name, field in self.fields.items()
                if f'_obj_{name}' in values
            },
        }

    def validate(self) -> None:
        """Check the object and all objects in it, before it is used.

        :raises: InvalidConnectionInfo naming the field and the rule
        """
        for name in self.fields:
            if not self.obj_attr_is_set(name):
                raise rules.invalid(name, 'is required')
            value = getattr(self, name)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, AttachWorkerObject):
                    child.validate()

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: plain values, secrets as '***', times in UTC."""
        return {
            name: fields.MASK
            if isinstance(field, fields.SecretField)
            and getattr(self, name) is not None
            else _plain(getattr(self, name))
            for name, field in self.fields.items()
            if self.obj_attr_is_set(name)
        }

    def content_digest(self) -> str:
        """A fingerprint of what a valid object asks for, for comparison.

        A SHA-256 in hexadecimal digits. Secrets and IGNORED_IN_DIGEST do not
        count. Neither do fields that have their default, so that the digest
        of a journaled request stays the same when a later version adds a
        field.
        """
        text = json.dumps(_content(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _defaults(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the fields of a class have before a value is given.

    :returns: the storage of all but the collections, which objects share,
        and the collections, which each object needs for itself
    """
    values: dict[str, Any] = {}
    collections: dict[str, Any] = {}
    for name, field in cls.fields.items():
        if field.default is ovo_fields.UnspecifiedDefault:
            if field.nullable:
                values[f'_obj_{name}'] = None
        elif isinstance(field.default, list | dict):
            collections[name] = field.default
        else:
            values[f'_obj_{name}'] = field.coerce(None, name, field.default)
    return values, collections


def _name(primitive: Any) -> str:
    key = f'{AttachWorkerObject.OBJ_SERIAL_NAMESPACE}.name'
    name = primitive.get(key) if isinstance(primitive, dict) else None
    known = AttachWorkerObjectRegistry.obj_classes()
    return name if isinstance(name, str) and name in known else 'object'


def _plain(value: Any) -> Any:
    if isinstance(value, AttachWorkerObject):
        return value.as_dict()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _content(value: Any) -> Any:
    if isinstance(value, list):
        return [_content(item) for item in value]
    if not isinstance(value, AttachWorkerObject):
        return _plain(value)
    content = {
        name: _content(getattr(value, name))
        for name, field in value.fields.items()
        if name not in value.IGNORED_IN_DIGEST
        and not isinstance(field, fields.SecretField)
        and getattr(value, name) != (None if field.nullable else field.default)
    }
    return {'object': value.obj_name(), 'content': content}
