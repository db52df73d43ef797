# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""open-iscsi as hosts really have it, and the ways to storage."""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess

import pytest

from tests import harness
from tests.kernel import bed as kernel_bed
from tests.kernel import daemons
from tests.kernel import lio
from tests.kernel import set_ups
from tests.kernel import test_iscsi_sessions as steps
from tests.kernel.spy import Spy

pytestmark = pytest.mark.kernel

ETC = pathlib.Path('/etc/iscsi')
VAR = pathlib.Path('/var/lib/iscsi')
CONFIGURATION = ETC / 'iscsid.conf'
OTHER_NAME = 'iqn.2026-01.example:another-name-of-this-host'
OURS = ('user', 'CANARY-of-our-side')


@contextlib.contextmanager
def configured(**settings: str) -> Iterator[None]:
    """Settings of iscsid.conf, in place of those that it has."""
    before = CONFIGURATION.read_text()
    lines = [
        line
        for line in before.splitlines()
        if line.partition('=')[0].strip() not in settings
    ]
    lines += [f'{key} = {value}' for key, value in settings.items()]
    try:
        CONFIGURATION.write_text('\n'.join(lines) + '\n')
        yield
    finally:
        CONFIGURATION.write_text(before)


@contextlib.contextmanager
def iface(place: pathlib.Path, name: str, **settings: str) -> Iterator[None]:
    """An iface that the operator has made."""
    settings = {
        'iscsi_ifacename': name,
        'transport_name': 'tcp',
    } | settings
    record = place / 'ifaces' / name
    record.parent.mkdir(exist_ok=True)
    lines = ''.join(f'iface.{k} = {v}\n' for k, v in settings.items())
    record.write_text(f'# BEGIN RECORD 2.1.8\n{lines}# END RECORD\n')
    try:
        yield
    finally:
        record.unlink()
        with contextlib.suppress(OSError):
            record.parent.rmdir()


def files(*places: pathlib.Path) -> list[str]:
    return sorted(
        str(path) for place in places for path in (place, *place.rglob('*'))
    )


@pytest.mark.parametrize('linked', [False, True])
def test_records_in_var_lib(
    bed: kernel_bed.KernelBed, worker: harness.Harness, linked: bool
) -> None:
    """RHEL and its kin, and open-iscsi itself since 2.1.9."""
    # Given an iscsiadm with its records below /var/lib, the place of which
    # may be a link to the other
    volume = bed.create_volume(portals=2, chap=OURS)
    if linked:
        VAR.rmdir()
        VAR.symlink_to(ETC)
    before = bed.snapshot()
    theirs = (
        set_ups.iscsiadm('#!/bin/sh\nexec /usr/sbin/iscsiadm "$@"\n')
        if linked
        else set_ups.records_in_var()
    )
    try:
        with theirs, Spy() as spy:
            places = files(ETC, VAR)
            # When a volume is attached with a discovery, which logs in twice
            info = volume.connection_info()
            for key in ('target_portals', 'target_iqns', 'target_luns'):
                info['data'].pop(key, None)
            result = worker.attach(
                volume, connection_info=info, multipath=True, min_paths=2
            )
            # Then it is there, and the host has no record of it
            assert result.status == 'attached', result.as_dict()
            assert bed.read(result.device.path) == volume.pattern
            assert files(ETC, VAR) == places
            assert worker.detach(volume.name).status == 'detached'
            assert files(ETC, VAR) == places
        assert spy.leaks == set()
        assert bed.snapshot() == before
    finally:
        if linked:
            VAR.unlink()
            VAR.mkdir()


def test_iface_is_the_one_of_iscsiadm(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an iface where iscsiadm keeps its records, and one that was left
    # where another iscsiadm has kept them
    volume = bed.create_volume()
    before = bed.snapshot()
    with (
        iface(VAR, 'second', initiatorname=OTHER_NAME, net_ifacename='lo'),
        iface(ETC, 'second', initiatorname='iqn.2026-01.example:stale'),
        set_ups.records_in_var(),
    ):
        info = steps.with_data(volume, transport_iface='second')
        result = worker.attach(volume, connection_info=info)
        assert result.status == 'attached', result.as_dict()
        # Then the session is as the former says
        assert steps.attribute('initiatorname') == [OTHER_NAME]
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('what', ['login', 'discovery'])
def test_iscsid_is_not_started(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
    what: str,
) -> None:
    """It would keep the mounts of the worker, and die with it."""
    # Given a host where iscsiadm is to start iscsid, which does not run
    volume = bed.create_volume()
    before = bed.snapshot()
    started = tmp_path / 'started'
    daemons.kill('iscsid')
    info = volume.connection_info()
    try:
        with configured(**{'iscsid.startup': f'/usr/bin/touch {started}'}):
            result = worker.attach(
                volume, connection_info=info, multipath=what == 'discovery'
            )
    finally:
        daemons.start('iscsid')
    # Then nobody starts it, and the operator is told to
    assert not started.exists()
    assert result.error.code == 'host_tool_failed', result.as_dict()
    assert 'systemctl' in result.error.message
    assert 'iscsid.socket' in result.error.message
    assert bed.snapshot() == before


def test_session_of_another_name_of_this_host(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """Storage maps volumes to names: it may show another volume there."""
    # Given a session that was made before this host had its name
    volume = bed.create_volume()
    steps.log_in(bed, volume, **{'iface.initiatorname': OTHER_NAME})
    assert steps.attribute('initiatorname') == [OTHER_NAME]
    before = bed.snapshot()
    # When the volume is attached
    result = worker.attach(volume)
    # Then that session is not used, and stays
    if result.status == 'attached':
        assert lio.initiator_name() in steps.attribute('initiatorname')
        assert worker.detach(volume.name).status == 'detached'
    else:
        assert result.error.code == 'login_failed', result.as_dict()
        assert OTHER_NAME in result.error.message
        assert 'iscsiadm -m session' in result.error.message
    assert bed.snapshot() == before


def test_secret_that_ends_with_a_blank(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given credentials that open-iscsi cannot keep as they are
    volume = bed.create_volume(chap=OURS)
    info = steps.with_data(volume, auth_password='CANARY-that-is-wrong ')
    # When the target refuses what is left of them
    result = worker.attach(volume, connection_info=info)
    # Then the operator is told why
    assert result.error.code == 'auth_failed', result.as_dict()
    assert 'blank' in result.error.message
    assert 'CANARY' not in str(result.as_dict())


@contextlib.contextmanager
def network(*commands: str) -> Iterator[None]:
    """Some network of its own; the last command ends it."""
    *begin, end = commands
    try:
        for command in begin:
            subprocess.run(command.split(), check=True)
        yield
    finally:
        subprocess.run(end.split(), check=True)


@pytest.fixture
def apart() -> Iterator[str]:
    """An address that is reached through one network device only (VRF)."""
    address = '198.51.100.1'
    with network(
        'modprobe -a vrf dummy',
        'sysctl -qw net.ipv4.tcp_l3mdev_accept=1',
        'sysctl -qw net.ipv4.ip_nonlocal_bind=1',
        'ip link add apart type vrf table 10',
        'ip link set apart up',
        'ip link add storage type dummy',
        'ip link set storage master apart up',
        f'ip address add {address}/24 dev storage',
        'ip link delete apart',
    ):
        yield address
    subprocess.run(['ip', 'link', 'delete', 'storage'], check=True)


def mac_of(device: str) -> str:
    return pathlib.Path(f'/sys/class/net/{device}/address').read_text().strip()


@pytest.mark.parametrize('bound_by', ['net_ifacename', 'hwaddress'])
@pytest.mark.parametrize('discovered', [False, True])
def test_portal_that_only_the_iface_reaches(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    apart: str,
    bound_by: str,
    discovered: bool,
) -> None:
    # Given a portal behind a network device that the iface is bound to
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.target_of(volume).listen_also(apart)
    way = {'net_ifacename': 'storage', 'hwaddress': mac_of('storage')}
    with iface(ETC, 'apart', **{bound_by: way[bound_by]}):
        info = steps.with_data(
            volume, target_portal=f'{apart}:3260', transport_iface='apart'
        )
        for key in ('target_portals', 'target_iqns', 'target_luns'):
            info['data'].pop(key, None)
        # When the volume is attached there
        result = worker.attach(
            volume, connection_info=info, multipath=discovered
        )
        # Then the worker has not taken the portal for dead
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        assert worker.detach(volume.name).status == 'detached'
        # And without the iface it is
        del info['data']['transport_iface']
        result = worker.attach(volume, connection_info=info)
        assert result.error.code == 'target_unreachable', result.as_dict()
    assert bed.snapshot() == before


def link_local(device: str) -> str:
    shown = subprocess.run(
        ['ip', '-6', '-o', 'address', 'show', 'dev', device],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return shown.split()[3].partition('/')[0]


def test_link_local_portal_in_a_discovery(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    """Such an address means nothing without a network device."""
    # Given a target that tells of a portal at such an address, too
    volume = bed.create_volume()
    before = bed.snapshot()
    script = f"""#!/bin/sh
/usr/sbin/iscsiadm "$@" || exit
case "$*" in
*sendtargets*) echo '[fe80::1234]:3260,7 {volume.target}' ;;
esac
"""
    info = volume.connection_info()
    with set_ups.iscsiadm(script):
        result = worker.attach(volume, connection_info=info, multipath=True)
    # Then it is left out, and counts as no path that is missing
    assert result.status == 'attached', result.as_dict()
    assert 'fe80' not in str(result.as_dict())
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_link_local_portal_of_a_request(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a target at a link-local address
    volume = bed.create_volume()
    before = bed.snapshot()
    with network(
        'modprobe dummy',
        'ip link add local type dummy',
        'ip link set local up',
        'ip link delete local',
    ):
        steps.wait_until(
            lambda: (
                b'tentative'
                not in subprocess.check_output(
                    ['ip', '-6', 'address', 'show', 'dev', 'local']
                )
            )
        )
        address = link_local('local')
        bed.target_of(volume).listen_also('[::]', 3261)
        info = steps.with_data(volume, target_portal=f'[{address}]:3261')
        # When it is asked for without saying through which device
        result = worker.attach(volume, connection_info=info)
        # Then the error says what is missing
        assert result.error.code == 'target_unreachable', result.as_dict()
        assert 'iface.net_ifacename' in result.error.message
        # And with an iface that says so it is attached
        with iface(ETC, 'local', net_ifacename='local'):
            info['data']['transport_iface'] = 'local'
            result = worker.attach(volume, connection_info=info)
            assert result.status == 'attached', result.as_dict()
            assert bed.read(result.device.path) == volume.pattern
            assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
