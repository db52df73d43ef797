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

from attachworker import exception
from attachworker import objects

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


def as_object(primitive: dict[str, Any], what: str) -> Any:
    """The versioned object that a column holds.

    :param what: for people: whose it is
    :raises RecordUnreadable: it is none, or none that this version knows
    """
    with legible(what):
        return objects.AttachWorkerObject.obj_from_primitive(primitive)


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


def class_in(text: str, what: str) -> Any:
    """The class of the versioned object that a column holds.

    :param what: see :func:`as_object`
    :raises RecordUnreadable: likewise
    """
    return _class_in(text) or type(as_object(decoded(text), what))


# The text alone decides, so it is decided once for each. To make the objects
# of a thousand rows takes longer than all else that is done with these.
@functools.lru_cache(maxsize=16384)
def _class_in(text: str) -> type[objects.AttachWorkerObject] | None:
    try:
        return type(as_object(decoded(text), ''))
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
