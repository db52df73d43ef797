# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which messages are decoded at all.

kombu inflates what says of itself that it is compressed, and decodes it with
whatever codec of Python it names, before anybody has seen how large it gets.
So a message is looked at as it comes from the wire. What is refused is
rejected: it does not come again, and goes where the broker has been told that
dead letters go.
"""

import collections
from collections.abc import Iterator
import contextlib
import hashlib
import pathlib
from typing import Any

import amqp
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Objects, lists and values in a message: the longest request has a thousand.
_MOST_PARTS = 4096
#: How often a worker may end while it takes one message.
_MOST_DEATHS = 3


class Refused(Exception):
    """A message is not taken.

    :ivar reason: one word, for the metrics; the text has a sentence
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Admission:
    """What the messages of one transport must be like.

    :param most: bytes that one may have; None: as many as the broker lets
        through
    :param suspect: file, which outlives this process, for the message that
        is being taken; None: it is not remembered
    :ivar refused: by reason, how many were
    """

    #: All reasons.
    REASONS = ('encoding', 'size', 'content', 'poison')

    def __init__(
        self, most: int | None = None, suspect: pathlib.Path | None = None
    ) -> None:
        self._most = most
        self._suspect = suspect
        self.refused = collections.Counter(dict.fromkeys(self.REASONS, 0))

    def check(self, raw: Any) -> None:
        """Look at a message before anything is decoded.

        :raises Refused: it may not be
        """
        # On the bus in one process there are no strangers.
        if not isinstance(raw, amqp.Message):
            return
        properties = raw.properties
        if (raw.headers or {}).get('compression'):
            raise Refused(
                'encoding',
                'it is compressed; its sender must not set kombu_compression',
            )
        if (
            properties.get('content_type') != 'application/json'
            or str(properties.get('content_encoding')).lower() != 'utf-8'
        ):
            raise Refused('encoding', 'it does not say that it is JSON, UTF-8')
        if self._most is not None and len(raw.body) > self._most:
            raise Refused(
                'size',
                f'it has {len(raw.body)} bytes, and max_message_size is '
                f'{self._most}',
            )

    def check_content(self, payload: Any) -> None:
        """Look at what is in the envelope, which is decoded next.

        :raises Refused: it may not be
        """
        text = payload.get('oslo.message') if isinstance(payload, dict) else 0
        if not isinstance(text, str):
            raise Refused('content', 'it has not the form of oslo.messaging')
        parts = sum(map(text.count, '{[,'))
        if self._most is not None and parts > _MOST_PARTS:
            raise Refused('size', f'it has {parts} objects, lists and values')

    @contextlib.contextmanager
    def taking(self, raw: Any) -> Iterator[None]:
        """Note which message is being taken, if it has come before.

        Should this process end over it, the next one knows.

        :raises Refused: too many have
        """
        if self._suspect is None or not raw.delivery_info.get('redelivered'):
            yield
            return
        digest = hashlib.sha256(raw.body).hexdigest()
        deaths = self._deaths(digest) + 1
        if deaths >= _MOST_DEATHS:
            self._remember('')
            raise Refused(
                'poison',
                f'the worker has ended {deaths} times while it took it '
                f'({len(raw.body)} bytes, SHA-256 {digest})',
            )
        self._remember(f'{digest} {deaths}')
        try:
            yield
        finally:
            self._remember('')

    def count(self, refused: Refused, queue: str) -> None:
        """Report a message that was refused."""
        self.refused[refused.reason] += 1
        log = LOG.error if refused.reason == 'poison' else LOG.warning
        log('A message in queue %s is put aside: %s', queue, refused)

    def _remember(self, what: str) -> None:
        assert self._suspect is not None
        try:
            self._suspect.write_text(what)
        except OSError as error:
            LOG.error('%s: %s', self._suspect, error.strerror)

    def _deaths(self, digest: str) -> int:
        """How often a worker has ended over a message that came again."""
        assert self._suspect is not None
        try:
            known, count = self._suspect.read_text().split()
            return int(count) if known == digest else 0
        except (OSError, ValueError):
            return 0
