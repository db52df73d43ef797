# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What iscsiadm says to a login or a discovery, and what that means."""

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors.iscsi import initiator
from tests.unit.on_files import on_files


class Refuses:
    """Fails each login in the same way."""

    def __init__(self, answer: tuple[int, str] | OSError) -> None:
        self._answer = answer

    def login(self, *arguments: object) -> tuple[int, str]:
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer


def refused(answer: tuple[int, str] | OSError, **record: str) -> None:
    made = initiator.Initiator(on_files(iscsi=Refuses(answer)))
    deadline = deadlines.Deadline.after(10.0)
    made.login('iqn.a', '192.0.2.1', 3260, record, 1.0, deadline)


def test_a_target_that_cannot_show_its_secret() -> None:
    """iscsid calls that a fatal error, like some others."""
    secret = {'node.session.auth.password_in': 'a secret word'}
    with pytest.raises(exception.AuthFailed) as caught:
        refused((19, 'fatal'), **secret)
    assert 'secret word' not in str(caught.value)
    with pytest.raises(exception.LoginFailed):
        refused((19, 'fatal'))


def test_an_iface_that_is_not_there() -> None:
    with pytest.raises(exception.HostToolMissing, match='no iface eth5'):
        refused(FileNotFoundError(2, 'no iface eth5; make it'))


class Discovers:
    """Answers a discovery as iscsiadm would."""

    def __init__(self, code: int, output: str) -> None:
        self._answer = (code, output)

    def discover(self, *arguments: object) -> tuple[int, str]:
        return self._answer


def discovered(code: int, output: str) -> list[tuple[str, str]]:
    made = initiator.Initiator(on_files(iscsi=Discovers(code, output)))
    deadline = deadlines.Deadline.after(10.0)
    return made.discover('192.0.2.1', 3260, {}, 1.0, deadline)


def test_a_discovery_is_read_between_warnings() -> None:
    """Launchpad 1705674, 1453992, 1732199, 1886855: tags, texts, no tag."""
    output = """\
iscsiadm: Config file line 17 too long.
192.0.2.1:3260,1 iqn.2026-01.example:one
192.0.2.2:3260,-1 iqn.2026-01.example:two
[2001:db8::1]:3260,2 iqn.2026-01.example:one
2001:db8::2:3260,2 iqn.2026-01.example:one
iscsiadm: connect to 192.0.2.9 timed out
192.0.2.3 iqn.2026-01.example:one
192.0.2.4:3260,1
storage.example:3260,1 iqn.2026-01.example:one

"""
    assert discovered(0, output) == [
        ('192.0.2.1:3260', 'iqn.2026-01.example:one'),
        ('192.0.2.2:3260', 'iqn.2026-01.example:two'),
        ('[2001:db8::1]:3260', 'iqn.2026-01.example:one'),
        ('2001:db8::2:3260', 'iqn.2026-01.example:one'),
        ('storage.example:3260', 'iqn.2026-01.example:one'),
    ]


def test_a_discovery_that_finds_nothing() -> None:
    """Launchpad 1756206: that is no error."""
    assert discovered(21, 'iscsiadm: No portals found') == []


@pytest.mark.parametrize(
    ('code', 'output', 'error', 'word'),
    [
        (24, '', exception.AuthFailed, 'Discovery at 192.0.2.1:3260'),
        (
            19,
            'iscsiadm: failing authentication, received incorrect CHAP '
            'response from target',
            exception.AuthFailed,
            'credentials',
        ),
        (19, 'other', exception.HostToolFailed, 'exit code 19: other'),
        (4, '', exception.TargetUnreachable, '192.0.2.1:3260'),
        (11, '', exception.TargetUnreachable, '192.0.2.1:3260'),
        (6, 'a\nlast', exception.HostToolFailed, 'exit code 6: last'),
    ],
)
def test_a_discovery_that_fails(
    code: int, output: str, error: type[Exception], word: str
) -> None:
    with pytest.raises(error) as caught:
        discovered(code, output)
    assert word in str(caught.value)
