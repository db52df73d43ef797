# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Secrets of an object, sealed with AES-GCM.

What is sealed is bound to the object that it belongs to: opened for another
one, it is refused.
"""

from collections.abc import Iterator
import functools
import json
import os

from cryptography import exceptions
from cryptography.hazmat.primitives.ciphers import aead

from attachworker.objects import base
from attachworker.objects import fields

#: Bytes of a key.
KEY_SIZE = 32
_NONCE_SIZE = 12


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


def secrets_of(
    thing: base.AttachWorkerObject, prefix: str = ''
) -> Iterator[tuple[str, str]]:
    """The path of each field that holds a secret, with dots, and its value."""
    for name, field in thing.fields.items():
        value = getattr(thing, name) if thing.obj_attr_is_set(name) else None
        if value is not None and isinstance(field, fields.SecretField):
            yield f'{prefix}{name}', value
        elif isinstance(value, base.AttachWorkerObject):
            yield from secrets_of(value, f'{prefix}{name}.')


def seal_secrets(
    key: bytes, thing: base.AttachWorkerObject, owner: str
) -> bytes | None:
    """All secrets of an object in one; None if it has none."""
    found = dict(secrets_of(thing))
    return seal(key, json.dumps(found), owner) if found else None


def restore_secrets(
    key: bytes, sealed: bytes, thing: base.AttachWorkerObject, owner: str
) -> None:
    """Give an object back what :func:`seal_secrets` took of it.

    :raises CannotOpen: see :func:`unseal`; the object is as it was
    """
    for path, value in json.loads(unseal(key, sealed, owner)).items():
        *parents, name = path.split('.')
        setattr(functools.reduce(getattr, parents, thing), name, value)
