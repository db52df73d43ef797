# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Sessions, login and logout, on a simulated host."""

import pathlib

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as hosts
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi.initiator import Initiator
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.on_files import on_files

RECORD = {
    'node.session.scan': 'manual',
    'node.session.initial_login_retry_max': '1',
    'node.conn[0].timeo.login_timeout': '1',
}


def split(volume: contract.Volume, number: int = 0) -> tuple[str, int]:
    address, _, port = volume.portals[number].rpartition(':')
    return address, int(port)


def sessions(
    host: hosts.Host, volume: contract.Volume, number: int = 0
) -> list[initiator.Session]:
    return Initiator(host).sessions(volume.target, *split(volume, number))


def login(host: hosts.Host, volume: contract.Volume, number: int = 0) -> bool:
    return Initiator(host).login(
        volume.target,
        *split(volume, number),
        RECORD,
        10.0,
        deadlines.Deadline.after(10.0),
    )


def test_login_makes_a_session(
    bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    # Given a target without a session
    volume = bed.create_volume()
    assert sessions(host, volume) == []
    before = Initiator(host).last_sid()
    # When this host logs in
    assert login(host, volume) is True
    # Then there is one, with what is needed to scan below it
    (session,) = sessions(host, volume)
    assert session.sid > before
    assert session.sid == Initiator(host).last_sid()
    assert session.state == 'LOGGED_IN'
    assert session.target_name == volume.target
    assert session.directory.is_dir()
    assert session.directory.parent.name == f'host{session.host}'
    # And the second login finds it
    assert login(host, volume) is False
    assert sessions(host, volume) == [session]


def test_sessions_are_told_apart_by_target_and_portal(
    bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    volume, other = bed.create_volume(portals=2), bed.create_volume()
    login(host, volume, 0)
    login(host, volume, 1)
    login(host, other)
    found = [sessions(host, volume, 0), sessions(host, volume, 1)]
    found.append(sessions(host, other))
    assert [len(one) for one in found] == [1, 1, 1]
    assert len({one[0].sid for one in found}) == 3
    assert Initiator(host).sessions(other.target, *split(volume)) == []


def test_numbers_are_not_given_twice(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    volume = bed.create_volume()
    login(host, volume)
    (first,) = sessions(host, volume)
    Initiator(host).logout(first, 1.0, deadline)
    assert sessions(host, volume) == []
    assert Initiator(host).last_sid() == 0
    login(host, volume)
    (second,) = sessions(host, volume)
    assert second.sid > first.sid


@pytest.mark.parametrize(
    ('code', 'error', 'word'),
    [
        (24, exception.AuthFailed, 'credentials'),
        (4, exception.TargetUnreachable, 'connection failed'),
        (11, exception.TargetUnreachable, 'no answer'),
        (20, exception.HostToolFailed, 'iscsid is not running'),
        (8, exception.LoginFailed, 'no login in time'),
        (19, exception.LoginFailed, 'exit code 19: injected'),
        (-9, exception.LoginFailed, 'exit code -9'),
    ],
)
def test_what_iscsiadm_says(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    code: int,
    error: type[exception.AttachWorkerError],
    word: str,
) -> None:
    volume = bed.create_volume()
    plan.arm(faults.Fault.FAIL_EXIT, 'iscsi.login', exit_code=code)
    with pytest.raises(error) as caught:
        login(host, volume)
    assert word in str(caught.value)
    assert plan.unfired() == []


def test_logout_of_a_session_that_is_gone(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    # Given a session that somebody else has ended meanwhile
    volume = bed.create_volume()
    login(host, volume)
    (session,) = sessions(host, volume)
    bed.control('drop_session', target=volume.target, portal=volume.portals[0])
    # Then its end is no failure
    Initiator(host).logout(session, 1.0, deadline)


def test_logout_that_fails(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    volume = bed.create_volume()
    login(host, volume)
    (session,) = sessions(host, volume)
    plan.arm(faults.Fault.FAIL_EXIT, 'iscsi.logout', exit_code=9)
    with pytest.raises(exception.HostToolFailed, match='exit code 9'):
        Initiator(host).logout(session, 1.0, deadline)


def test_initiator_name(bed: beds.SimulatedBed, host: hosts.Host) -> None:
    path = bed.root / 'etc/iscsi/initiatorname.iscsi'
    kept = path.read_text()
    assert Initiator(host).name() == kept.strip().partition('=')[2]
    try:
        path.write_text('# InitiatorName=iqn.no\nInitiatorName = iqn.yes \n')
        assert Initiator(host).name() == 'iqn.yes'
        path.write_text('GenerateName=yes\nInitiatorName=\n')
        assert Initiator(host).name() is None
        path.unlink()
        assert Initiator(host).name() is None
    finally:
        path.write_text(kept)


def session_tree(
    root: pathlib.Path, sid: int, name: str, **connection: str
) -> None:
    """What the kernel shows of one session."""
    host = root / f'sys/devices/platform/host{sid}/session{sid}'
    attributes = host / f'iscsi_session/session{sid}'
    attributes.mkdir(parents=True)
    (attributes / 'targetname').write_text(f'{name}\n')
    (attributes / 'state').write_text('LOGGED_IN\n')
    (attributes / 'target_id').write_text('0\n')
    (attributes / 'device').symlink_to(host)
    classes = root / 'sys/class/iscsi_session'
    classes.mkdir(parents=True, exist_ok=True)
    (classes / f'session{sid}').symlink_to(attributes)
    # a child of the session, as the kernel has it
    name = f'connection{sid}:0'
    directory = host / name / 'iscsi_connection' / name
    directory.mkdir(parents=True)
    connections = root / 'sys/class/iscsi_connection'
    connections.mkdir(exist_ok=True)
    (connections / name).symlink_to(directory)
    for key, value in connection.items():
        (directory / key).write_text(f'{value}\n')


@pytest.fixture
def static(tmp_path: pathlib.Path) -> Initiator:
    """Reads a tree that a test has written; changes nothing."""
    return Initiator(on_files(tmp_path))


def test_a_redirected_session_belongs_to_both_portals(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    session_tree(
        tmp_path,
        1,
        'iqn.a',
        persistent_address='192.0.2.1',
        persistent_port='3260',
        address='192.0.2.2',
        port='3261',
    )
    for portal in (('192.0.2.1', 3260), ('192.0.2.2', 3261)):
        assert [one.sid for one in static.sessions('iqn.a', *portal)] == [1]
    assert static.sessions('iqn.a', '192.0.2.1', 3261) == []
    assert static.sessions('iqn.b', '192.0.2.1', 3260) == []


def test_spellings_of_ipv6(tmp_path: pathlib.Path, static: Initiator) -> None:
    session_tree(
        tmp_path,
        1,
        'iqn.a',
        persistent_address='2001:0DB8:0000:0000:0000:0000:0000:0001',
        persistent_port='3260',
    )
    assert len(static.sessions('iqn.a', '2001:db8::1', 3260)) == 1


def test_names_of_targets_have_no_case(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    session_tree(
        tmp_path,
        1,
        'iqn.2026-01.example:Upper',
        persistent_address='192.0.2.1',
        persistent_port='3260',
    )
    for name in ('iqn.2026-01.example:UPPER', 'IQN.2026-01.example:upper'):
        (found,) = static.sessions(name, '192.0.2.1', 3260)
        # and they are told as the kernel has them
        assert found.target_name == 'iqn.2026-01.example:Upper'


def test_a_session_through_a_host_name_is_found_by_its_address(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    """Somebody else has logged in by name: that is all iscsid persists."""
    session_tree(
        tmp_path,
        1,
        'iqn.a',
        persistent_address='storage.example',
        persistent_port='3260',
        address='192.0.2.1',
        port='3260',
    )
    assert len(static.sessions('iqn.a', '192.0.2.1', 3260)) == 1


def test_several_sessions_to_one_portal_oldest_first(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    for sid in (10, 9, 2):
        session_tree(
            tmp_path,
            sid,
            'iqn.a',
            persistent_address='192.0.2.1',
            persistent_port='3260',
        )
    found = static.sessions('iqn.a', '192.0.2.1', 3260)
    assert [one.sid for one in found] == [2, 9, 10]
    assert static.last_sid() == 10


def test_a_session_that_vanishes_meanwhile(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    """Its name is still listed, its attributes are gone."""
    classes = tmp_path / 'sys/class/iscsi_session'
    classes.mkdir(parents=True)
    (classes / 'session3').symlink_to(tmp_path / 'gone')
    assert static.sessions('iqn.a', '192.0.2.1', 3260) == []


def test_a_session_that_vanishes_while_it_is_looked_at(
    tmp_path: pathlib.Path, static: Initiator
) -> None:
    """Its attributes were still there, its device is not any more."""
    attributes = tmp_path / 'sys/class/iscsi_session/session3'
    attributes.mkdir(parents=True)
    (attributes / 'targetname').write_text('iqn.a\n')
    (attributes / 'device').symlink_to(tmp_path / 'gone')
    connection = tmp_path / 'sys/class/iscsi_connection/connection3:0'
    connection.mkdir(parents=True)
    (connection / 'address').write_text('192.0.2.1\n')
    (connection / 'port').write_text('3260\n')
    assert static.sessions('iqn.a', '192.0.2.1', 3260) == []


def test_no_iscsi_at_all(static: Initiator) -> None:
    assert static.sessions('iqn.a', '192.0.2.1', 3260) == []
    assert static.last_sid() == 0
