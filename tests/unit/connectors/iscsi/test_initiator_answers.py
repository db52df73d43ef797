# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What iscsiadm says to a login or a discovery, and what that means."""

import pathlib

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


@pytest.mark.parametrize(
    'key', ['username', 'password', 'username_in', 'password_in']
)
@pytest.mark.parametrize('blank', ['{} ', ' {}', '{}\t'])
def test_credentials_with_a_blank_at_an_end(key: str, blank: str) -> None:
    """The parser of open-iscsi's records cuts it off."""
    credentials = {f'node.session.auth.{key}': blank.format('a secret word')}
    with pytest.raises(exception.AuthFailed, match=f'blanks .* {key}:') as one:
        refused((24, ''), **credentials)
    assert 'secret word' not in str(one.value)
    # and none within, nor another setting, is mentioned
    sound = {
        'node.session.auth.password': 'a secret word',
        'node.conn[0].address': ' ',
    }
    with pytest.raises(exception.AuthFailed) as another:
        refused((24, ''), **sound)
    assert 'blank' not in str(another.value)


def test_a_record_that_iscsiadm_does_not_find() -> None:
    with pytest.raises(exception.LoginFailed, match='/var/lib/iscsi'):
        refused((21, 'No records found'))


RECORD = """\
# BEGIN RECORD 2.1.8
iface.iscsi_ifacename = eth5
iface.net_ifacename = eth5.7
iface.hwaddress = <empty>
iface.transport_name = tcp
iface.initiatorname = iqn.2026-01.example:five
iface.vlan_id = 0
node.startup = automatic
# END RECORD
"""


class Ifaces:
    """Knows one iface, as iscsiadm prints it."""

    def __init__(self, record: str) -> None:
        self._record = record

    def interface(self, name: str, timeout: float) -> tuple[int, str]:
        if name == 'eth5':
            return 0, self._record
        return 21, f'iscsiadm: Could not read iface {name} info: 21'


def iface(
    name: str, record: str = RECORD, root: pathlib.Path | None = None
) -> initiator.Interface:
    host = on_files(*([root] if root else []), iscsi=Ifaces(record))
    deadline = deadlines.Deadline.after(10.0)
    return initiator.Initiator(host).interface(name, 1.0, deadline)


def test_an_iface_is_as_its_record_says() -> None:
    found = iface('eth5')
    assert found.settings == {
        'iface.iscsi_ifacename': 'eth5',
        'iface.net_ifacename': 'eth5.7',
        'iface.transport_name': 'tcp',
        'iface.initiatorname': 'iqn.2026-01.example:five',
        'iface.vlan_id': '0',
    }
    assert found.initiator_name == 'iqn.2026-01.example:five'
    assert (found.device, found.goes_by_tcp) == ('eth5.7', True)


def test_an_iface_that_is_not_there() -> None:
    with pytest.raises(
        exception.HostToolMissing, match='iscsiadm -m iface -I eth6 -o new'
    ):
        iface('eth6')


def test_ifaces_that_need_no_record() -> None:
    for name, carries in (('default', 'tcp'), ('iser', 'iser')):
        found = iface(name)
        assert found.settings == {
            'iface.iscsi_ifacename': name,
            'iface.transport_name': carries,
        }
        assert (found.device, found.initiator_name) == (None, None)
        assert found.goes_by_tcp == (carries == 'tcp')


@pytest.mark.parametrize(
    ('hardware', 'device', 'goes_by_tcp'),
    [
        ('02:00:00:00:00:01', 'eth0', True),
        # a bond has the address of its members: iscsid takes any of them
        ('02:00:00:00:00:02', None, False),
        ('02:00:00:00:00:09', None, False),
    ],
)
def test_an_iface_by_hardware_address(
    tmp_path: pathlib.Path,
    hardware: str,
    device: str | None,
    goes_by_tcp: bool,
) -> None:
    for name, last in (('eth0', '1'), ('eth1', '2'), ('bond0', '2')):
        place = tmp_path / 'sys/class/net' / name
        place.mkdir(parents=True)
        (place / 'address').write_text(f'02:00:00:00:00:0{last}\n')
    record = RECORD.replace('<empty>', hardware.upper())
    found = iface('eth5', record, tmp_path)
    assert (found.device, found.goes_by_tcp) == (device, goes_by_tcp)


def test_an_adapter_is_not_asked_by_tcp() -> None:
    record = RECORD.replace('= tcp', '= qla4xxx')
    found = iface('eth5', record)
    assert not found.goes_by_tcp
    # Nobody answers there.
    portal = '192.0.2.1:3260'
    assert found.first_answering([portal], 0.1) == portal


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
