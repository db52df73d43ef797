# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the privileged side refuses, whoever asks."""

import pathlib
import subprocess
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from attachworker.privileged import iscsi

NAME = 'iqn.2026-01.example:one'
RECORD = {'node.session.auth.password': 'a secret word'}

HOSTILE_NAMES = [
    '',
    '-T',
    '--op=delete',
    '..',
    '../../etc',
    'iqn/../..',
    'iqn/../x',
    'a/b',
    'a\n',
    'a\nb',
    'a\0b',
    'a b',
    'iqn,1',
    'ïqn',
    'a' * 224,
]
HOSTILE_ADDRESSES = [
    '',
    '../x',
    'a/b',
    'a\n',
    'a b',
    'a\0',
    '[::1]',
    '10.0.0.1,1',
    'ü',
    'a' * 256,
    '-x',
]
HOSTILE_PORTS = [0, -1, 65536, 10**9]
HOSTILE_RECORDS = [
    {'node.startup': 'manual\nnode.startup = automatic'},
    {'node.startup': 'a\rb'},
    {'node.startup': 'a\0b'},
    {'node.startup\n': 'manual'},
    {'node.startup = x\n': 'manual'},
    {'': 'manual'},
    {'# END RECORD': 'x'},
    {'NODE': 'x'},
    {'a' * 65: 'x'},
    # open-iscsi keeps 255 bytes of a value, and reads 2,047 of a line: what
    # is behind them is a line of its own.
    {'node.session.auth.password': 'x' * 256},
    {'node.session.auth.password': 'ü' * 128},
    {'node.session.auth.password': 'x' * 2018 + 'node.session.scan = auto'},
    {'node.session.auth.username': 'a\tb'},
    {'node.session.auth.username': 'a\u2028b'},
]


def refused(*arguments: Any) -> None:
    """A login that must end before it has begun."""
    with pytest.raises(ValueError, match=r'^not ') as caught:
        iscsi.login(*arguments, 1.0)
    # and nothing of what was handed over is told
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('name', HOSTILE_NAMES)
def test_names(name: str) -> None:
    refused(name, '192.0.2.1', 3260, RECORD)


@pytest.mark.parametrize('address', HOSTILE_ADDRESSES)
def test_addresses(address: str) -> None:
    refused(NAME, address, 3260, RECORD)


@pytest.mark.parametrize('port', HOSTILE_PORTS)
def test_ports(port: int) -> None:
    refused(NAME, '192.0.2.1', port, RECORD)


@pytest.mark.parametrize('record', HOSTILE_RECORDS)
def test_records(record: dict[str, str]) -> None:
    refused(NAME, '192.0.2.1', 3260, RECORD | record)


@pytest.mark.parametrize(
    'arguments',
    [
        (5, '192.0.2.1', 3260, {}),
        (NAME, None, 3260, {}),
        (NAME, '192.0.2.1', '3260', {}),
        (NAME, '192.0.2.1', 3260.5, {}),
        (NAME, '192.0.2.1', 3260, {'node.startup': 5}),
        (NAME, '192.0.2.1', 3260, {5: 'x'}),
        (NAME, '192.0.2.1', 3260, ['node.startup']),
    ],
)
def test_types(arguments: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        iscsi._check_login(*arguments)


@pytest.mark.parametrize('name', ['', '-o', '../../x', 'a b', 'a/b', '.'])
def test_ifaces(name: str) -> None:
    refused(NAME, '192.0.2.1', 3260, {'iface.iscsi_ifacename': name})


@pytest.mark.parametrize('name', ['', '-o', '../../x', 'a b', 'a/b', '.'])
def test_ifaces_that_are_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=r'^not the name of an iface'):
        iscsi.interface(name, 1.0)


CONFIGURATION = """\
# iscsid.startup = /bin/false
iscsid.startup = /bin/systemctl start iscsid.socket
  iscsid.startup=/sbin/iscsid
node.startup = automatic
# node.session.timeo.replacement_timeout = 5
node.session.timeo.replacement_timeout = 86400
node.session.auth.authmethod = CHAP
node.session.auth.username = of-the-host
node.session.auth.password_in = of-the-host
node.session.auth.chap_algs = SHA256
discovery.sendtargets.auth.username = of-the-host
"""


def test_iscsiadm_does_not_learn_how_to_start_iscsid() -> None:
    kept = iscsi._without_startup(CONFIGURATION.encode()).decode()
    assert 'iscsid.startup' not in kept.replace('# iscsid.startup', '')
    lines = CONFIGURATION.splitlines()
    assert kept.splitlines() == [lines[0], *lines[3:]]


def test_a_record_says_what_iscsid_conf_says() -> None:
    """Of a record that it reads, iscsiadm fills the gaps by itself."""
    found = iscsi._defaults(CONFIGURATION, 'node.', {})
    assert found == {
        'node.startup': 'automatic',
        'node.session.timeo.replacement_timeout': '86400',
        'node.session.auth.authmethod': 'CHAP',
        'node.session.auth.username': 'of-the-host',
        'node.session.auth.password_in': 'of-the-host',
        'node.session.auth.chap_algs': 'SHA256',
    }


def test_credentials_are_never_of_two_sources() -> None:
    record = {'node.session.auth.authmethod': 'CHAP'}
    assert iscsi._defaults(CONFIGURATION, 'node.', record) == {
        'node.startup': 'automatic',
        'node.session.timeo.replacement_timeout': '86400',
        'node.session.auth.chap_algs': 'SHA256',
    }


@pytest.mark.parametrize('address', HOSTILE_ADDRESSES)
def test_addresses_of_a_discovery(address: str) -> None:
    with pytest.raises(ValueError, match=r'^not a portal'):
        iscsi.discover(address, 3260, {'iface': 'x'}, 1.0)


@pytest.mark.parametrize('record', HOSTILE_RECORDS)
def test_settings_of_a_discovery(record: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r'^not a setting'):
        iscsi.discover('192.0.2.1', 3260, {'iface': 'x'} | record, 1.0)


@pytest.mark.parametrize('name', ['', '-o', '../x', 'a b', 'a\n', '.', 'ü'])
def test_ifaces_of_a_discovery(name: str) -> None:
    with pytest.raises(ValueError, match=r'^not the name of an iface'):
        iscsi.discover('192.0.2.1', 3260, {'iface': name}, 1.0)


@given(st.text(max_size=20), st.text(max_size=3000))
def test_no_line_can_be_slipped_into_a_record(key: str, value: str) -> None:
    """One setting is one line of the file, however it is spelled."""
    try:
        iscsi._check_login(NAME, '192.0.2.1', 3260, {key: value})
    except ValueError:
        return
    text = f'{key} = {value}\n'
    assert text.encode().count(b'\n') == 1
    assert len(text.encode()) < 2048
    assert b'\r' not in text.encode()
    assert '=' not in key
    assert '#' not in key


@pytest.mark.parametrize(
    ('name', 'address'),
    [
        (NAME, '192.0.2.1'),
        ('eui.02004567A425678D', '2001:db8::1'),
        ('naa.52004567BA64678D', 'storage-1.example.org'),
        ('iqn.2010-10.org.openstack:volume-6f1d_x', 'fe80::1%eth0'),
    ],
)
def test_what_is_sound_passes(name: str, address: str) -> None:
    iscsi._check_login(name, address, 3260, {'node.conn[0].address': 'x'})


@pytest.mark.parametrize(
    'number', ['5; reboot', '-u', '../5', '', None, -1, 5.5, True, '5', 2**40]
)
def test_a_session_is_a_number(number: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        iscsi.logout(number, 1.0)


def test_no_secret_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started, and with what, is seen by every user of the host."""
    seen: list[Any] = []

    def run(*arguments: Any, **keywords: Any) -> Any:
        seen.append((arguments, keywords))
        return subprocess.CompletedProcess([], 21, b'iscsiadm: none\n')

    # the seam to the operating system, not one of ours
    monkeypatch.setattr(subprocess, 'run', run)
    # what a verb runs; its private database needs root
    assert iscsi._run(['-m', 'session'], 1.0) == (21, 'iscsiadm: none')
    ((arguments, keywords),) = seen
    # It has no more memory than the longest honest list of targets takes.
    limit, *command = arguments[0]
    assert limit == 'prlimit'
    assert command == ['--as=536870912', 'iscsiadm', '-m', 'session']
    assert set(keywords['env']) == {'LC_ALL', 'PATH'}
    assert keywords['timeout'] == 1.0


@pytest.mark.parametrize('there', [False, True])
def test_a_link_in_place_of_the_lock_directory_is_not_followed(
    tmp_path: pathlib.Path, there: bool
) -> None:
    """Everybody may write to /run/lock."""
    elsewhere = tmp_path / 'elsewhere'
    if there:
        elsewhere.mkdir()
    (tmp_path / 'iscsi').symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError, match='remove what is there'):
        iscsi._make_lock_directory(str(tmp_path / 'iscsi'))
    assert elsewhere.exists() is there


def test_the_lock_directory_is_made_once(tmp_path: pathlib.Path) -> None:
    place = tmp_path / 'lock/iscsi'
    for _ in range(2):
        iscsi._make_lock_directory(str(place))
    assert place.stat().st_mode & 0o777 == 0o700
