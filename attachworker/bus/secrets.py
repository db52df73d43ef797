# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Secrets on the wire: sealed with a key that both sides have.

Queues are durable, so whatever travels is on the disk of the broker. A sealed
secret begins with NUL, which no plain one may contain: a worker that cannot
open it refuses it and never takes it for a password.
"""

import base64
import os
import re
from typing import Any

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import rules
from attachworker.objects import sealing

_PREFIX = '\0sealed:1:'
_DATA = f'{base.AttachWorkerObject.OBJ_SERIAL_NAMESPACE}.data'
_KEY_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
_OPTION = 'key_file of group secrets'


class WireSecrets:
    """Seals what leaves, opens what comes in.

    :param keys: by key id; the first one seals, all open
    :param required: whether a plain secret that comes in is refused
    """

    def __init__(
        self, keys: dict[str, bytes] | None = None, required: bool = False
    ) -> None:
        self._keys = keys or {}
        self._required = required

    @classmethod
    def read(
        cls, key_file: str | None, required: bool | None = None
    ) -> 'WireSecrets':
        """Take the keys of a file: lines of ``key-id base64key``.

        :param key_file: None: there are no keys
        :param required: None: if there are keys
        :raises ConfigurationError: file or options make no sense; nothing
            of what is in the file is quoted
        """
        if key_file is None:
            if required:
                raise _misconfigured('is not set, and option required is')
            return cls()
        try:
            with open(key_file, encoding='ascii') as stream:
                mode = os.fstat(stream.fileno()).st_mode
                lines = stream.read().splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or 'it is not ASCII'
            raise _misconfigured(f'{key_file}: {reason}') from None
        if mode & 0o077:
            raise _misconfigured(
                f'{key_file} can be read by others; chmod 600 it'
            )
        keys: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith('#'):
                key_id, key = _key(line, f'{key_file}, line {number}')
                if key_id in keys:
                    raise _misconfigured(f'{key_file} has {key_id} twice')
                keys[key_id] = key
        if not keys:
            raise _misconfigured(f'{key_file} has no key')
        return cls(keys, required is not False)

    def describe(self) -> dict[str, Any]:
        """What callers have to do; the first key id is the preferred one."""
        return {'required': self._required, 'key_ids': list(self._keys)}

    @property
    def available(self) -> bool:
        """Whether there is a key to seal with."""
        return bool(self._keys)

    def seal(self, primitive: Any) -> Any:
        """A primitive of ours with its secrets sealed, if there is a key."""
        if not self._keys:
            return primitive
        key_id, key = next(iter(self._keys.items()))

        def change(value: str, place: str) -> str:
            text = base64.b64encode(sealing.seal(key, value, place)).decode()
            return f'{_PREFIX}{key_id}:{text}'

        return sealing.replace_secrets(primitive, change, _owner(primitive))

    def open(self, primitive: Any) -> Any:
        """A primitive of whomever with its secrets plain.

        :raises InvalidConnectionInfo: one cannot be opened, or is plain and
            must not be
        """
        return sealing.replace_secrets(
            primitive, self._plain, _owner(primitive)
        )

    def _plain(self, value: str, place: str) -> str:
        name = place.rpartition('.')[2]
        ours = ', '.join(self._keys) or 'none'
        if not value.startswith(_PREFIX):
            if self._required:
                raise rules.invalid(
                    name,
                    'must be sealed for this host: give the caller the '
                    f'{_OPTION} (keys of this host: {ours})',
                )
            return value
        key_id, _, text = value.removeprefix(_PREFIX).partition(':')
        if key_id not in self._keys:
            known = key_id if _KEY_ID.fullmatch(key_id) else 'another one'
            raise rules.invalid(
                name,
                f'is sealed with key {known}, which this host does not have '
                f'(it has: {ours}); see {_OPTION}',
            )
        try:
            sealed = base64.b64decode(text, validate=True)
            return sealing.unseal(self._keys[key_id], sealed, place)
        except (sealing.CannotOpen, ValueError):
            raise rules.invalid(
                name,
                f'cannot be opened with key {key_id}: it was sealed with '
                'another key of that name, or for another request',
            ) from None


def _key(line: str, where: str) -> tuple[str, bytes]:
    try:
        key_id, text = line.split()
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise _misconfigured(f'{where} is not "key-id base64key"') from None
    if len(key) != sealing.KEY_SIZE or not _KEY_ID.fullmatch(key_id):
        raise _misconfigured(
            f'{where}: an id of letters and digits and a key of '
            f'{sealing.KEY_SIZE} bytes are needed'
        )
    return key_id, key


def _owner(primitive: Any) -> str:
    """The request that secrets are bound to; "/" for a mere volume."""
    data = primitive.get(_DATA) if isinstance(primitive, dict) else None
    found = data.get('request_id') if isinstance(data, dict) else None
    return f'{found}/' if isinstance(found, str) else '/'


def _misconfigured(reason: str) -> exception.ConfigurationError:
    return exception.ConfigurationError(option=_OPTION, reason=reason)
