# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Secrets on the wire: sealed with a key that both sides have.

Queues are durable, so whatever travels is on the disk of the broker. A sealed
secret begins with NUL, which no plain one may contain: a worker that cannot
open it refuses it and never takes it for a password.

It opens at one host, in the very message that it was sealed in, and for a
while only: whoever reads it on the bus can have nothing else done with it,
nor the same once more when the worker has forgotten the request.
"""

import base64
from collections.abc import Callable
import datetime
import functools
import hashlib
import json
import math
import os
import re
import time
from typing import Any

from oslo_log import log as logging

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import rules
from attachworker.objects import sealing

LOG = logging.getLogger(__name__)

_MARK = '\0sealed:'
#: The number of this form, the key, the second since 1970 (UTC), the rest.
_SEALED = re.compile(r'2:([^:]*):([0-9]{1,11}):(.*)', re.DOTALL)
#: Of the release before this one, bound to request_id and place. Callers are
#: upgraded after the workers; the next release does not open it any more.
_FORMER = re.compile(r'1:([^:]*):()(.*)', re.DOTALL)
_DATA = f'{base.AttachWorkerObject.OBJ_SERIAL_NAMESPACE}.data'
_KEY_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
_OPTION = 'key_file of group secrets'


class WireSecrets:
    """Seals what leaves, opens what comes in.

    :param keys: by key id; the first one seals, all open
    :param required: whether a plain secret that comes in is refused
    :param host: whose secrets are opened
    :param window: seconds for which one may be on its way
    """

    def __init__(
        self,
        keys: dict[str, bytes] | None = None,
        required: bool = False,
        host: str = '',
        window: float = math.inf,
    ) -> None:
        self._keys = keys or {}
        self._required = required
        self._host = host
        self._window = window
        self._former_is_known = False

    @classmethod
    def read(
        cls,
        key_file: str | None,
        required: bool | None = None,
        host: str = '',
        window: float = math.inf,
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
            return cls(host=host, window=window)
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
        return cls(keys, required is not False, host, window)

    def describe(self) -> dict[str, Any]:
        """What callers have to do; the first key id is the preferred one."""
        return {'required': self._required, 'key_ids': list(self._keys)}

    @property
    def required(self) -> bool:
        """Whether a secret in the clear is refused."""
        return self._required

    @property
    def available(self) -> bool:
        """Whether there is a key to seal with."""
        return bool(self._keys)

    def seal(self, primitive: Any, host: str) -> Any:
        """A primitive of ours with its secrets sealed, if there is a key.

        :param host: whose worker it is for
        """
        if not self._keys:
            return primitive
        key_id, key = next(iter(self._keys.items()))
        moment = str(int(time.time()))
        digest = _digest(primitive)

        def change(value: str, place: str) -> str:
            owner = _owner(host, digest, moment, place)
            text = base64.b64encode(sealing.seal(key, value, owner)).decode()
            return f'{_MARK}2:{key_id}:{moment}:{text}'

        return sealing.replace_secrets(primitive, change)

    def open(self, primitive: Any) -> Any:
        """A primitive of whomever with its secrets plain.

        :raises InvalidConnectionInfo: one cannot be opened, or is plain and
            must not be
        """
        digest = functools.cache(lambda: _digest(primitive))

        def change(value: str, place: str) -> str:
            return self._plain(value, place, primitive, digest)

        return sealing.replace_secrets(primitive, change)

    def _plain(
        self,
        value: str,
        place: str,
        primitive: Any,
        digest: Callable[[], str],
    ) -> str:
        name = place.rpartition('.')[2]
        ours = ', '.join(self._keys) or 'none'
        if not value.startswith(_MARK):
            if self._required:
                raise must_be_sealed(name, list(self._keys))
            return value
        sealed = value.removeprefix(_MARK)
        found = _SEALED.fullmatch(sealed) or _FORMER.fullmatch(sealed)
        if found is None:
            raise rules.invalid(
                name,
                'is sealed in a form that this release does not open; see '
                'the release notes of the worker',
            )
        key_id, moment, text = found.groups()
        if key_id not in self._keys:
            known = key_id if _KEY_ID.fullmatch(key_id) else 'another one'
            raise rules.invalid(
                name,
                f'is sealed with key {known}, which this host does not have '
                f'(it has: {ours}); see {_OPTION}',
            )
        try:
            opened = sealing.unseal(
                self._keys[key_id],
                base64.b64decode(text, validate=True),
                _owner(self._host, digest(), moment, place)
                if moment
                else _former_owner(primitive, place),
            )
        except (sealing.CannotOpen, ValueError):
            raise rules.invalid(
                name,
                f'cannot be opened with key {key_id}: it was sealed with '
                'another key of that name, for another host, or for another '
                'request',
            ) from None
        self._check_time(name, moment)
        return opened

    def _check_time(self, name: str, moment: str) -> None:
        if not moment:
            if not self._former_is_known:
                self._former_is_known = True
                LOG.warning(
                    'A caller seals secrets as the release before this one '
                    'does, and they can be taken for other requests of the '
                    'same request_id: upgrade the callers. The next release '
                    'of the worker refuses them.'
                )
        elif abs(time.time() - int(moment)) > self._window:
            sent, now = (
                datetime.datetime.fromtimestamp(second, datetime.UTC)
                for second in (int(moment), time.time())
            )
            raise rules.invalid(
                name,
                f'was sealed at {sent:%Y-%m-%d %H:%M:%S} UTC and is good for '
                f'{self._window:.0f} seconds; here it is '
                f'{now:%Y-%m-%d %H:%M:%S}: send the request again, and see '
                'that both clocks are right',
            )


def must_be_sealed(
    name: str, key_ids: list[str]
) -> exception.InvalidConnectionInfo:
    """The error for a secret that is plain and must not be."""
    ours = ', '.join(key_ids) or 'none'
    return rules.invalid(
        name,
        'must be sealed for this host: give the caller the '
        f'{_OPTION} (keys of this host: {ours})',
    )


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


def _digest(primitive: Any) -> str:
    """A fingerprint of all that is asked for, but the values of secrets."""
    bare = sealing.replace_secrets(primitive, lambda secret, place: '')
    text = json.dumps(bare, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _owner(host: str, digest: str, moment: str, place: str) -> str:
    return json.dumps([host, digest, moment, place])


def _former_owner(primitive: Any, place: str) -> str:
    data = primitive.get(_DATA) if isinstance(primitive, dict) else None
    found = data.get('request_id') if isinstance(data, dict) else None
    return f'{found}/{place}' if isinstance(found, str) else f'/{place}'


def _misconfigured(reason: str) -> exception.ConfigurationError:
    return exception.ConfigurationError(option=_OPTION, reason=reason)
