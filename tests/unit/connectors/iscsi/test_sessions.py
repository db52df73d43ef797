# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which of the sessions to a portal a request may use."""

import pathlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi import sessions
from attachworker.host import verbs
from tests.unit.connectors.iscsi import interfaces
from tests.unit.objects import shapes

OURS = 'iqn.2026-01.example:host'
SECOND = 'iqn.2026-01.example:second-name'


def session(
    sid: int, interface: str = 'default', name: str = OURS
) -> initiator.Session:
    return initiator.Session(
        sid=sid,
        host=sid,
        target_id=0,
        target_name=shapes.IQN,
        state='LOGGED_IN',
        directory=pathlib.Path('/nowhere'),
        interface=interface,
        initiator_name=name,
    )


class FakeInitiator:
    def __init__(self, *known: initiator.Session) -> None:
        self._known = list(known)

    def name(self) -> str:
        return OURS

    def sessions(self, *_: object) -> list[initiator.Session]:
        return self._known


def sessions_of(*known: initiator.Session) -> sessions.Sessions:
    host: Any = types.SimpleNamespace(verbs=verbs.Verbs())
    fake: Any = FakeInitiator(*known)
    settings = types.SimpleNamespace(login_timeout=5)
    return sessions.Sessions(host, fake, settings)


@pytest.mark.parametrize(
    ('interface', 'usable'),
    [
        (interfaces.DEFAULT, [1, 3]),
        (interfaces.named('eth5', {'iface.initiatorname': SECOND}), [2]),
        (interfaces.named('eth6'), [3]),
        # The name of a session may be older than that of the iface, or host.
        (interfaces.named('eth5'), []),
        (interfaces.named('eth6', {'iface.initiatorname': SECOND}), []),
    ],
)
def test_sessions_are_told_apart_by_iface_and_name(
    interface: initiator.Interface, usable: list[int]
) -> None:
    # Given four, two of which show another name of this host
    made = sessions_of(
        session(1),
        session(2, 'eth5', SECOND),
        session(3, 'eth6'),
        session(4, 'default', SECOND),
    )
    info = objects.ConnectionInfo.from_dict(shapes.lio())
    (target,) = info.targets
    found = made.usable(interface, target)
    assert [one.sid for one in found] == usable
    # and all are seen
    assert [one.sid for one in made.of(target)] == [1, 2, 3, 4]


def test_places_of_a_host_name() -> None:
    deadline = deadlines.Deadline.after(10.0)
    target = objects.Target('localhost:3260', shapes.IQN, 7)
    found = sessions_of().by_address(target, deadline)
    assert ('127.0.0.1:3260', shapes.IQN, 7) in found
    assert target not in found
    address = target._replace(portal='[2001:db8::1]:3260')
    assert sessions_of().by_address(address, deadline) == [address]
    nowhere = target._replace(portal='no.such.host.invalid:3260')
    with pytest.raises(exception.TargetUnreachable):
        sessions_of().by_address(nowhere, deadline)
