# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Sessions as only a real kernel, target and iscsiadm make them."""

import pathlib
import time
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import iscsi
from attachworker.journal import Database
from attachworker.journal import Holdings
from tests import harness
from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel.spy import Spy

pytestmark = pytest.mark.kernel

SESSIONS = pathlib.Path('/sys/class/iscsi_session')
CONNECTIONS = pathlib.Path('/sys/class/iscsi_connection')
IFACES = pathlib.Path('/etc/iscsi/ifaces')
OURS = ('user', 'CANARY-of-our-side')
THEIRS = ('them', 'CANARY-of-their-side')
PATIENCE = 30.0


def with_data(volume: contract.Volume, **data: Any) -> dict[str, Any]:
    info = volume.connection_info()
    info['data'].update(data)
    return info


def log_in(
    bed: kernel_bed.KernelBed, volume: contract.Volume, **record: str
) -> None:
    """Somebody else on this host logs in."""
    settings = {
        'node.name': volume.target,
        'node.conn[0].address': '127.0.0.1',
        'node.conn[0].port': '3260',
        'node.session.scan': 'manual',
        'iface.iscsi_ifacename': 'default',
        'iface.transport_name': 'tcp',
    }
    code, text = bed.verbs.iscsi.login(
        volume.target, '127.0.0.1', 3260, settings | record, PATIENCE
    )
    assert code == 0, text


def attribute(name: str) -> list[str]:
    """Of all sessions, by number."""
    found = sorted(SESSIONS.glob('session*'))
    return [(path / name).read_text().strip() for path in found]


def wait_until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.05)


@pytest.mark.parametrize(
    ('theirs', 'code'),
    [
        (THEIRS, None),
        ((THEIRS[0], 'CANARY-that-is-wrong'), 'auth_failed'),
        (('another', THEIRS[1]), 'auth_failed'),
    ],
    ids=['right', 'wrong secret', 'wrong name'],
)
def test_mutual_chap(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    theirs: tuple[str, str],
    code: str | None,
) -> None:
    """A target that cannot show its secret may be anybody."""
    volume = bed.create_volume(chap=OURS)
    bed.target_of(volume).show_secret(*THEIRS)
    before = bed.snapshot()
    info = with_data(
        volume, auth_username_in=theirs[0], auth_password_in=theirs[1]
    )
    with Spy() as spy:
        result = worker.attach(volume, connection_info=info)
    assert any(b'--login' in command for command in spy.commands)
    assert spy.leaks == set()
    assert 'CANARY' not in str(result.as_dict())
    if code is None:
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        # the kernel knows it, so iscsid can prove it again after a restart
        assert attribute('username_in') == [THEIRS[0]]
        assert worker.detach(volume.name).status == 'detached'
    else:
        assert result.error.code == code, result.as_dict()
    assert bed.snapshot() == before


def test_secrets_of_a_login_do_not_reach_the_next(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """Launchpad: an old CHAP record made later logins without CHAP work."""
    volume = bed.create_volume(chap=OURS)
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    info = volume.connection_info()
    for key in ('auth_method', 'auth_username', 'auth_password'):
        del info['data'][key]
    result = worker.attach(volume, connection_info=info)
    assert result.error.code == 'auth_failed', result.as_dict()


def test_two_sessions_to_one_portal(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """Launchpad 2116553, 2092195: only one of them was cleaned."""
    # Given two sessions of somebody else, and the device on the second
    volume = bed.create_volume()
    log_in(bed, volume, **{'node.session.nr_sessions': '2'})
    with_sessions = bed.snapshot()
    assert len(with_sessions['sessions']) == 2
    hosts = sorted(pathlib.Path('/sys/class/iscsi_host').iterdir())
    (hosts[1] / 'device/scsi_host' / hosts[1].name / 'scan').write_text(
        f'0 0 {volume.lun}'
    )
    disks = pathlib.Path('/sys/class/block')
    wait_until(lambda: list(disks.glob('sd*')))
    (disk,) = disks.glob('sd*')
    # When it is attached, the device that is there is used
    result = worker.attach(volume)
    assert result.device.path == f'/dev/{disk.name}', result.as_dict()
    # And when there is one on the first session too, a detach takes both
    (hosts[0] / 'device/scsi_host' / hosts[0].name / 'scan').write_text(
        f'0 0 {volume.lun}'
    )
    wait_until(lambda: len(list(disks.glob('sd*'))) == 2)
    assert worker.detach(volume.name).status == 'detached'
    assert list(disks.glob('sd*')) == []
    # And both sessions stay: they are not ours
    assert bed.snapshot() == with_sessions


def test_iface_of_its_own(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an iface with another name of this host, bound to a NIC
    name = 'iqn.2026-01.example:second-name'
    IFACES.mkdir(exist_ok=True)
    record = IFACES / 'second'
    record.write_text(
        '# BEGIN RECORD 2.1.8\n'
        'iface.iscsi_ifacename = second\n'
        'iface.net_ifacename = lo\n'
        'iface.transport_name = tcp\n'
        f'iface.initiatorname = {name}\n'
        '# END RECORD\n'
    )
    content = record.read_bytes()
    # And a session of somebody else to the same portal, through no iface
    volume = bed.create_volume()
    log_in(bed, volume)
    before = bed.snapshot()
    try:
        info = with_data(volume, transport_iface='second')
        result = worker.attach(volume, connection_info=info)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        # Then there is a session through the iface, and the other stays
        assert sorted(attribute('ifacename')) == ['default', 'second']
        assert name in attribute('initiatorname')
        assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
        assert record.read_bytes() == content
    finally:
        record.unlink()
        IFACES.rmdir()


def test_iface_that_is_not_there(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """By its mere name iscsiadm would go any way."""
    volume = bed.create_volume()
    info = with_data(volume, transport_iface='eth5')
    result = worker.attach(volume, connection_info=info)
    assert result.error.code == 'host_tool_missing', result.as_dict()
    assert 'iscsiadm -m iface -I eth5 -o new' in result.error.message
    assert bed.snapshot()['sessions'] == []


def test_ipv6_in_any_spelling(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """Launchpad 1793627: the spelling of the session is another one."""
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.target_of(volume).listen_also('[::1]')
    for attachment_id, portal in (
        ('short', '[::1]:3260'),
        ('long', '[0000:0:0:0:0:0:0:0001]:3260'),
    ):
        info = with_data(volume, target_portal=portal)
        result = worker.attach(volume, attachment_id, connection_info=info)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
    assert len(bed.snapshot()['sessions']) == 1
    for attachment_id in ('short', 'long'):
        assert worker.detach(attachment_id).status == 'detached'
    assert bed.snapshot() == before


def test_another_lun_at_each_target(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """As arrays with a mirror have it; Launchpad 1774293."""
    # Given one volume behind two targets, as LUN 1 and as LUN 5
    volume = bed.create_volume(lun=1)
    mirror = bed.create_volume(lun=0)
    bed.target_of(mirror).map(5, bed.backing_of(volume))
    before = bed.snapshot()
    info = with_data(
        volume,
        target_portals=['127.0.0.1:3260'] * 2,
        target_iqns=[volume.target, mirror.target],
        target_luns=[1, 5],
    )
    result = worker.attach(
        volume, connection_info=info, multipath=True, min_paths=2
    )
    assert result.status == 'attached', result.as_dict()
    assert {(path.target, path.lun) for path in result.device.paths} == {
        (volume.target, 1),
        (mirror.target, 5),
    }
    assert bed.read(result.device.path) == volume.pattern
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('several', [False, True])
def test_digests_timers_and_algorithms(
    bed: kernel_bed.KernelBed, tmp_path: pathlib.Path, several: bool
) -> None:
    # Given a connector with options
    volume = bed.create_volume(chap=OURS)
    before = bed.snapshot()
    settings = {
        each.dest: each.default for each in iscsi.ISCSIConnector.options()
    }
    settings |= {
        'header_digest': 'CRC32C',
        'data_digest': 'None,CRC32C',
        'replacement_timeout': 7,
        'chap_algorithms': ['SHA3-256', 'SHA256'],
    }
    host = bed.host()
    database = Database(tmp_path)
    connector = iscsi.ISCSIConnector(host, types.SimpleNamespace(**settings))
    holdings = Holdings(database, 'a', host.boot_id)
    info = objects.ConnectionInfo.from_dict(volume.connection_info())
    (target,) = info.targets
    deadline = deadlines.Deadline.after(PATIENCE)
    # When it connects a path
    claim = base.Claim(target, holdings, deadline, several)
    path = connector.connect(info, claim, base.Interest())
    # and, as the flow does next, waits until its disk can be opened
    connector.identify(path, deadline)
    # Then the kernel has them; a path without others waits as iscsid.conf says
    assert bed.read(f'/dev/{path.disk}') == volume.pattern
    assert attribute('recovery_tmo') == ['7' if several else '120']
    (connection,) = CONNECTIONS.iterdir()
    assert (connection / 'header_digest').read_text().strip() == '1'
    assert (connection / 'data_digest').read_text().strip() == '0'
    left = connector.disconnect(claim, lambda path: (True, []))
    assert left == []
    host.close()
    database.close()
    assert bed.snapshot() == before
