# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Secrets of an object: where they are, and how AES-GCM seals them.

What is sealed is bound to the object that it belongs to: opened for another
one, it is refused.
"""

from collections.abc import Callable
import functools
import os
from typing import Any

from cryptography import exceptions
from cryptography.hazmat.primitives.ciphers import aead

from attachworker.objects import base
from attachworker.objects import fields

#: Bytes of a key.
KEY_SIZE = 32
_NONCE_SIZE = 12
_NAMESPACE = base.AttachWorkerObject.OBJ_SERIAL_NAMESPACE
_NAME = f'{_NAMESPACE}.name'
_DATA = f'{_NAMESPACE}.data'

Change = Callable[[str, str], str | None]


class CannotOpen(Exception):
    """It was sealed with another key or for another object, or changed."""


def new_key() -> bytes:
    return os.urandom(KEY_SIZE)


def seal(key: bytes, plain: str, owner: str) -> bytes:
    """Encrypt a text.

    :param owner: what it belongs to, in no way secret
    """
    nonce = os.urandom(_NONCE_SIZE)
    cipher = aead.AESGCM(key)
    return nonce + cipher.encrypt(nonce, plain.encode(), owner.encode())


def unseal(key: bytes, sealed: bytes, owner: str) -> str:
    """The text that was given to :func:`seal`.

    :raises CannotOpen: key, owner or content are not what they were
    """
    nonce, content = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
    try:
        plain = aead.AESGCM(key).decrypt(nonce, content, owner.encode())
    except (exceptions.InvalidTag, ValueError):
        raise CannotOpen from None
    return plain.decode()


def replace_secrets(value: Any, change: Change, place: str = '') -> Any:
    """A copy of a primitive, in which each secret of each object is changed.

    :param change: gets a secret and its place, and gives what is to be there
        instead; None: nothing is
    :param place: what precedes the path of each, which has a dot before each
        name
    """
    if isinstance(value, list):
        return [
            replace_secrets(item, change, f'{place}.{number}')
            if isinstance(item, dict)
            else item
            for number, item in enumerate(value)
        ]
    if not isinstance(value, dict) or not isinstance(value.get(_DATA), dict):
        return value
    secret = _secret_fields(value.get(_NAME))
    if secret is None:  # nobody will make an object of it
        return value
    data = {}
    for name, item in value[_DATA].items():
        where = f'{place}.{name}'
        if name not in secret or not isinstance(item, str):
            data[name] = replace_secrets(item, change, where)
        elif (changed := change(item, where)) is not None:
            data[name] = changed
    return value | {_DATA: data}


def first_secret(value: Any) -> str | None:
    """The name of a field of a primitive that holds a secret, if one does."""
    found: list[str] = []
    replace_secrets(value, lambda secret, place: found.append(place))
    return found[0].rpartition('.')[2] if found else None


def _secret_fields(name: Any) -> frozenset[str] | None:
    """None: there is no such class."""
    classes = base.AttachWorkerObjectRegistry.obj_classes()
    if not isinstance(name, str) or name not in classes:
        return None
    found: Any = classes[name][0]
    return _secret_fields_of(found)


@functools.cache
def _secret_fields_of(cls: Any) -> frozenset[str]:
    return frozenset(
        name
        for name, field in cls.fields.items()
        if isinstance(field, fields.SecretField)
    )
