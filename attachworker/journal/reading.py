# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What rows hold as JSON, and what becomes of a row that makes no sense.

Such a row is an error where somebody needs what it holds, and nowhere else:
the other rows are as good as ever.
"""

from collections.abc import Iterator
import contextlib
import functools
import json
from typing import Any
from typing import TypeVar

from attachworker import exception
from attachworker import objects
from attachworker.objects import fields

Object = TypeVar('Object', bound=objects.AttachWorkerObject)

#: Where a primitive has the fields of its object.
DATA = f'{objects.AttachWorkerObject.OBJ_SERIAL_NAMESPACE}.data'


def decoded(text: str | None) -> Any:
    """The JSON object that a column holds.

    What is none becomes an empty one, of which :func:`as_object` makes
    nothing.
    """
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def as_object(primitive: Any, expected: type[Object], what: str) -> Object:
    """The versioned object that a column holds, without its secrets.

    :param expected: the class that it must be, or a subclass of which
    :param what: for people: whose it is
    :raises RecordUnreadable: it is none, none that this version knows, or
        lacks a value
    """
    with legible(what):
        found = objects.AttachWorkerObject.obj_from_primitive(primitive)
        if not isinstance(found, expected):
            raise TypeError
        _check_complete(found)
        return found


def _check_complete(found: objects.AttachWorkerObject) -> None:
    for name, field in found.fields.items():
        if not found.obj_attr_is_set(name):
            if not isinstance(field, fields.SecretField):
                raise LookupError(name)
            continue
        value = getattr(found, name)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, objects.AttachWorkerObject):
                _check_complete(child)


def as_names(text: str, what: str) -> set[str]:
    """The names that a column holds, as a list.

    :param what: see :func:`as_object`
    :raises RecordUnreadable: it holds none
    """
    with legible(what):
        found = json.loads(text)
        if not isinstance(found, list):
            raise TypeError
        return set(map(str, found))


def class_in(text: str, expected: type[Object], what: str) -> type[Object]:
    """The class of the versioned object that a column holds.

    See :func:`as_object` for parameters and errors.
    """
    wanted: Any = expected
    found: type[Object] | None = _class_in(text, wanted)
    return found or type(as_object(decoded(text), expected, what))


# The text alone decides, so it is decided once for each. To make the objects
# of a thousand rows takes longer than all else that is done with these.
@functools.lru_cache(maxsize=16384)
def _class_in(text: str, expected: Any) -> Any:
    try:
        return type(as_object(decoded(text), expected, ''))
    except exception.RecordUnreadable:
        return None


@contextlib.contextmanager
def legible(what: str) -> Iterator[None]:
    """What the body reads makes sense.

    :raises RecordUnreadable: in place of whatever the body raises
    :raises JournalUnavailable: nobody knows: it could not be read
    """
    try:
        yield
    except exception.JournalUnavailable:
        raise
    except Exception as error:
        raise exception.RecordUnreadable(
            what=what, reason=type(error).__name__
        ) from error
