# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Login and logout: what a kernel with iscsid does, too."""

import concurrent.futures

import pytest

from tests.contract import bed as beds
from tests.simulator import verbs as verb_names
from tests.unit.simulator import view


def test_login_makes_a_session_and_shows_no_lun(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()

    code, _ = kernel.login(volume)

    assert code == verb_names.OK
    session = kernel.session(volume)
    assert session.state == 'LOGGED_IN'
    assert session.portal == volume.portals[0]
    assert session.directory.name == f'session{session.number}'
    assert session.directory.parent.parent.name == 'platform'
    assert kernel.devices(session) == []


def test_sessions_get_growing_numbers_and_hosts_of_their_own(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume(portals=2)
    kernel.login(volume, 0)
    kernel.login(volume, 1)
    first, second = kernel.sessions(volume)
    assert {first.portal, second.portal} == set(volume.portals)
    assert first.host != second.host

    verbs.iscsi.logout(second.number, 30.0)
    kernel.login(volume, 1)

    third = kernel.session(volume, 1)
    assert third.number > second.number
    assert third.host > second.host


def test_second_login_says_that_the_session_exists(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    kernel.login(volume)

    code, _ = kernel.login(volume)

    assert code == verb_names.SESSION_EXISTS
    assert len(kernel.sessions(volume)) == 1


def test_logins_at_once_make_one_session(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        codes = [code for code, _ in pool.map(kernel.login, [volume] * 4)]

    assert sorted(codes) == [verb_names.OK] + [verb_names.SESSION_EXISTS] * 3
    assert len(kernel.sessions(volume)) == 1


@pytest.mark.parametrize(
    'settings',
    [
        {'node.session.auth.password': 'another-secret'},
        {'node.session.auth.username': 'somebody'},
        {'node.session.auth.authmethod': 'None'},
    ],
    ids=lambda settings: ''.join(settings).rpartition('.')[2],
)
def test_wrong_credentials_leave_nothing(
    bed: beds.Bed, kernel: view.Kernel, settings: dict[str, str]
) -> None:
    volume = bed.create_volume(chap=('user', 'secret-of-user'))
    before = bed.snapshot()

    code, message = kernel.login(volume, settings=settings)

    assert code == verb_names.AUTH_FAILED
    assert 'secret' not in message
    assert bed.snapshot() == before


def test_right_credentials_log_in(bed: beds.Bed, kernel: view.Kernel) -> None:
    volume = bed.create_volume(chap=('user', 'secret-of-user'))

    assert kernel.login(volume)[0] == verb_names.OK


def test_dead_portal_times_out_and_leaves_nothing(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    bed.stop_portal(volume.portals[0])
    before = bed.snapshot()

    code, _ = kernel.login(volume)

    assert code == verb_names.LOGIN_TIMED_OUT
    assert bed.snapshot() == before


def test_portal_that_comes_back_takes_logins(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    bed.stop_portal(volume.portals[0])
    bed.start_portal(volume.portals[0])

    assert kernel.login(volume)[0] == verb_names.OK


def test_unknown_target_is_refused(
    bed: beds.Bed, verbs: verb_names.Verbs
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    address, _, port = volume.portals[0].rpartition(':')

    code, _ = verbs.iscsi.login(
        'iqn.2010-10.org.openstack:volume-unknown',
        address,
        int(port),
        view.record(volume),
        30.0,
    )

    assert code == verb_names.LOGIN_FAILED
    assert bed.snapshot() == before


def test_automatic_scan_shows_every_lun(
    bed: beds.Bed, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    neighbour = bed.create_volume(on=volume)

    kernel.login(volume, settings={'node.session.scan': 'auto'})

    session = kernel.session(volume)
    view.until(lambda: len(kernel.devices(session)) == 2)
    found = {device.wwid for device in kernel.devices(session)}
    assert found == {f'naa.{volume.wwn}', f'naa.{neighbour.wwn}'}


def test_logout_takes_the_session_and_its_devices_away(
    bed: beds.Bed, verbs: verb_names.Verbs, kernel: view.Kernel
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    disk = kernel.attach(volume).disk

    code, _ = verbs.iscsi.logout(kernel.session(volume).number, 30.0)

    assert code == verb_names.OK
    assert kernel.sessions(volume) == []
    assert bed.snapshot() == before
    assert not (bed.root / f'dev/{disk}').exists()


def test_logout_of_an_unknown_session_finds_nothing(
    verbs: verb_names.Verbs,
) -> None:
    assert verbs.iscsi.logout(4711, 30.0)[0] == verb_names.NOT_FOUND
