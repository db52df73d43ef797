# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What may be written down: secrets only sealed, and only for a while."""

import functools
import hashlib
import json
import os
import pathlib
from typing import Any

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.objects import sealing

LOG = logging.getLogger(__name__)


def without_secrets(thing: objects.AttachWorkerObject) -> dict[str, Any]:
    """An object as a primitive that holds no secret.

    It can be made an object again; that one does not pass validate() where
    it would need the secret.
    """
    return _divided(thing)[0]


def if_without_secrets(
    thing: objects.AttachWorkerObject,
) -> dict[str, Any] | None:
    """An object as a primitive; None if it holds a secret."""
    primitive, secrets = _divided(thing)
    return None if secrets else primitive


def _divided(
    thing: objects.AttachWorkerObject,
) -> tuple[dict[str, Any], dict[str, str]]:
    """An object as a primitive, and its secrets by their path."""
    secrets = {}

    def take(secret: str, place: str) -> None:
        secrets[place.removeprefix('.')] = secret

    return sealing.replace_secrets(thing.obj_to_primitive(), take), secrets


class Sealer:
    """Keeps the secrets of unfinished requests, until the next boot.

    :param directory: of the key; in memory, so that a reboot takes it away
    :param state_path: directory of the journal; each has a key of its own
    """

    def __init__(self, directory: pathlib.Path, state_path: str) -> None:
        name = hashlib.sha256(os.path.abspath(state_path).encode())
        path = directory / f'{name.hexdigest()[:16]}.key'
        try:
            self._key = _key(path)
        except OSError as error:
            LOG.warning(
                'No key can be kept in %s (%s): an attach with a secret that '
                'is cut short by a restart of the worker will fail',
                path,
                error.strerror,
            )
            self._key = sealing.new_key()

    def seal(self, request: Any) -> bytes | None:
        """The secrets of a request; None if it has none."""
        _, secrets = _divided(request)
        if not secrets:
            return None
        return sealing.seal(self._key, json.dumps(secrets), request.request_id)

    def restore(self, request: Any, sealed: bytes | None) -> None:
        """Give a request that was read from the journal its secrets back.

        :raises SecretsLost: the key is gone
        """
        if sealed is None:
            return
        try:
            secrets = sealing.unseal(self._key, sealed, request.request_id)
        except sealing.CannotOpen as error:
            raise exception.SecretsLost() from error
        for path, secret in json.loads(secrets).items():
            *parents, name = path.split('.')
            setattr(functools.reduce(getattr, parents, request), name, secret)


def _key(path: pathlib.Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Complete under its name, or not there: two files, one of them linked.
    if not path.exists():
        draft = path.with_suffix(f'.{os.getpid()}')
        draft.unlink(missing_ok=True)
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
        with open(descriptor, 'wb') as stream:
            stream.write(sealing.new_key())
        draft.rename(path)
    key = path.read_bytes()
    if len(key) != sealing.KEY_SIZE:
        path.unlink()
        return _key(path)
    return key
