# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What may be written down: secrets only sealed, and only for a while."""

import hashlib
import os
import pathlib
from typing import Any

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker.journal import reading
from attachworker.objects import sealing

LOG = logging.getLogger(__name__)


def without_secrets(thing: objects.AttachWorkerObject) -> dict[str, Any]:
    """An object as a primitive that holds no secret.

    It can be made an object again; that one does not pass validate() where
    it would need the secret.
    """
    primitive: dict[str, Any] = thing.obj_to_primitive()
    for path, _secret in sealing.secrets_of(thing):
        *parents, name = path.split('.')
        fields = primitive[reading.DATA]
        for parent in parents:
            fields = fields[parent][reading.DATA]
        del fields[name]
    return primitive


def if_without_secrets(
    thing: objects.AttachWorkerObject,
) -> dict[str, Any] | None:
    """An object as a primitive; None if it holds a secret."""
    if any(sealing.secrets_of(thing)):
        return None
    primitive: dict[str, Any] = thing.obj_to_primitive()
    return primitive


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
        return sealing.seal_secrets(self._key, request, request.request_id)

    def restore(self, request: Any, sealed: bytes | None) -> None:
        """Give a request that was read from the journal its secrets back.

        :raises SecretsLost: the key is gone
        """
        if sealed is None:
            return
        try:
            sealing.restore_secrets(
                self._key, sealed, request, request.request_id
            )
        except sealing.CannotOpen as error:
            raise exception.SecretsLost() from error


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
