# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Results of casts: whom they wait for."""

from collections.abc import Iterator
import threading
import time
from typing import Any

import oslo_messaging as messaging
import pytest

from attachworker import objects
from attachworker.bus import replies

PATIENCE = 20.0
#: Seconds until an attempt to reach a receiver that is gone is over.
SILENCE = 0.5


class Receivers:
    """Some answer at once, those that are called 'gone…' never do."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempts: list[str] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0

    def call(self, server: str) -> None:
        with self.lock:
            self.attempts.append(server)
            now = self.at_once[server] = self.at_once.get(server, 0) + 1
            self.most_at_once = max(self.most_at_once, now)
        try:
            if server.startswith('gone'):
                time.sleep(SILENCE)
                raise messaging.MessagingTimeout
        finally:
            with self.lock:
                self.at_once[server] -= 1


class Client:
    def __init__(self, receivers: Receivers, target: Any) -> None:
        self._receivers, self._target = receivers, target

    def call(self, *arguments: Any, **values: Any) -> None:
        self._receivers.call(self._target.server)


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Receivers:
    made = Receivers()
    monkeypatch.setattr(
        replies.messaging,
        'get_rpc_client',
        lambda transport, target, **values: Client(made, target),
    )
    return made


class Sender(replies.ReplySender):
    """:ivar settled: requests that have a receipt, in this order"""

    def __init__(self) -> None:
        self.settled: list[str] = []
        super().__init__(
            None,
            lambda request_id, receiver: self.settled.append(request_id),
            retention=600,
            retry_first=60,
            threads=2,
        )

    def send(self, request_id: str, server: str, final: bool = True) -> None:
        reply_to = objects.ReplyTo(exchange='e', topic='t', server=server)
        self.deliver(request_id, reply_to, None, final)


@pytest.fixture
def sender(receivers: Receivers) -> Iterator[Sender]:
    made = Sender()
    yield made
    made.stop()


def wait_for(sender: Sender, request_id: str) -> None:
    end = time.monotonic() + PATIENCE
    while request_id not in sender.settled:
        assert time.monotonic() < end, 'it was not sent'
        time.sleep(0.01)


def test_nobody_waits_for_receivers_that_are_gone(
    receivers: Receivers, sender: Sender
) -> None:
    # Given many results for receivers that are gone
    for number in range(60):
        sender.send(f'{number}', f'gone-{number % 6}')
    sender.start()
    time.sleep(3 * SILENCE)
    # When there is one for somebody who answers
    sender.send('good', 'here')
    wait_for(sender, 'good')
    # Then it has not waited for all of them
    assert len(receivers.attempts) < 20
    # And none of them has more than one thread
    assert receivers.most_at_once == 1


def test_a_refusal_is_kept_once_and_not_for_long(
    receivers: Receivers, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a receiver that is gone, and whose requests are refused
    monkeypatch.setattr(replies, '_MOST_REFUSALS', 3)
    for _ in range(2):
        for number in range(10):
            sender.send(f'{number}', 'gone', final=False)
    sender.start()
    time.sleep(5 * SILENCE)
    # Then each is tried once, and no more than so many are kept
    assert len(receivers.attempts) == 3
    # And there is room again for others
    sender.send('other', 'here', final=False)
    sender.send('good', 'here')
    wait_for(sender, 'good')
    assert receivers.attempts.count('here') == 2
