# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


from collections.abc import Iterator
import json
import os
import pathlib
import pwd
import tempfile

from oslo_config import cfg
import pytest

from attachworker import conf as options
from attachworker import host as hosts
from attachworker.cmd import check
from attachworker.cmd import status
from tests.contract.bed import MOUNT_BASE
from tests.simulator import bed as beds
from tests.simulator import mounts

SOCKETS = """\
Num       RefCount Protocol Flags    Type St Inode Path
0: 00000002 00000000 00010000 0001 01 1 @ISCSIADM_ABSTRACT_NAMESPACE
0: 00000002 00000000 00010000 0001 01 2 @/org/kernel/linux/storage/multipathd
"""


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    made = beds.SimulatedBed()
    path = made.root / 'proc/net/unix'
    path.parent.mkdir(parents=True)
    path.write_text(SOCKETS)
    yield made
    made.close()


@pytest.fixture
def host(bed: beds.SimulatedBed) -> Iterator[hosts.Host]:
    made = bed.host()
    yield made
    made.close()


@pytest.fixture
def runtime() -> Iterator[pathlib.Path]:
    """A directory in memory."""
    with tempfile.TemporaryDirectory(dir='/dev/shm') as made:
        yield pathlib.Path(made)


@pytest.fixture
def conf(tmp_path: pathlib.Path, runtime: pathlib.Path) -> cfg.ConfigOpts:
    file = tmp_path / 'worker.conf'
    user = pwd.getpwuid(os.getuid()).pw_name
    file.write_text(
        f'[DEFAULT]\nstate_path = {tmp_path}\nruntime_path = {runtime}\n'
        f'user = {user}\n'
        'transport_url = rabbit://u:CANARY@127.0.0.1:1/\n'
        '[local]\nlocal_roots = /srv\n'
        f'[nfs]\nmount_point_base = {MOUNT_BASE}\n'
    )
    made = cfg.ConfigOpts()
    options.register(made)
    made([], default_config_files=[str(file)], default_config_dirs=[])
    return made


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests; the simulated host is theirs."""
    monkeypatch.setattr(os, 'geteuid', lambda: 0)


@pytest.fixture(autouse=True)
def no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a broker; BUS does."""
    found = check.Finding('bus', check.OK)
    monkeypatch.setattr(check, '_bus', lambda conf: found)


BUS = check._bus


def states(found: list[check.Finding]) -> set[str]:
    return {one.state for one in found}


def the(found: list[check.Finding], name: str) -> check.Finding:
    (one,) = (one for one in found if one.check == name)
    return one


def test_a_host_that_has_all(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    (bed.root / 'usr/sbin/multipathd').touch()
    port = bed.root / 'sys/class/fc_host/host99'
    port.mkdir(parents=True)
    (port / 'port_name').write_text('0x2100000e1e000001\n')
    found = check.findings(conf, host)
    assert states(found) == {check.OK}, found
    assert {one.check for one in found} == {
        'options',
        'running worker',
        'protocol fibre_channel',
        'protocol iscsi',
        'protocol local',
        'protocol nfs',
        'protocol nvmeof',
        'protocol rbd',
        'iscsid',
        'multipathd',
        'LUKS',
        'initiator name',
        'multipath.conf',
        'state_path',
        'runtime_path',
        'bus',
    }


@pytest.mark.parametrize(
    ('path', 'name', 'told'),
    [
        ('usr/sbin/iscsiadm', 'protocol iscsi', 'install open-iscsi'),
        ('etc/iscsi/initiatorname.iscsi', 'protocol iscsi', 'iscsi-iname'),
        ('dev/nvme-fabrics', 'protocol nvmeof', 'module nvme-tcp'),
        ('dev/loop-control', 'protocol local', 'module loop'),
        ('usr/sbin/cryptsetup', 'LUKS', 'cryptsetup-bin'),
        ('proc/net/unix', 'iscsid', 'enable --now iscsid.socket'),
        ('proc/net/unix', 'multipathd', 'enable --now multipathd'),
    ],
)
def test_what_lacks_is_told_with_what_mends_it(
    conf: cfg.ConfigOpts,
    bed: beds.SimulatedBed,
    host: hosts.Host,
    path: str,
    name: str,
    told: str,
) -> None:
    (bed.root / path).unlink()
    found = check.findings(conf, host)
    assert the(found, name).state == check.WARNING
    assert told in the(found, name).detail
    assert check.FAILURE not in states(found)


def test_a_host_without_an_adapter(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    found = the(check.findings(conf, host), 'protocol fibre_channel')
    assert found.state == check.WARNING
    assert 'load the driver of its adapter' in found.detail


def test_a_protocol_cannot_be_used_without_its_daemon(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    # Given all that iSCSI needs but the daemon
    (bed.root / 'proc/net/unix').write_text('')
    found = check.findings(conf, host)
    # Then the line of the protocol does not say that all is well
    for name in ('protocol iscsi', 'iscsid'):
        assert the(found, name).state == check.WARNING
        assert 'iscsid does not listen' in the(found, name).detail
    # And where nothing else can be used, nothing can be attached
    for path in ('dev/loop-control', 'dev/nvme-fabrics', mounts.TOOL):
        (bed.root / path).unlink()
    (bed.root / 'sys/bus/rbd').rename(bed.root / 'sys/bus/other')
    assert the(check.findings(conf, host), 'protocols').state == check.FAILURE


def test_a_module_that_is_not_loaded(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    (bed.root / 'sys/bus/rbd').rename(bed.root / 'sys/bus/other')
    found = the(check.findings(conf, host), 'protocol rbd')
    assert (found.state, 'load the module rbd' in found.detail) == (
        check.WARNING,
        True,
    )


def test_a_directory_that_is_not_there(
    conf: cfg.ConfigOpts, host: hosts.Host, tmp_path: pathlib.Path
) -> None:
    conf.set_override('state_path', str(tmp_path / 'state'))
    conf.set_override('user', 'nova')
    found = the(check.findings(conf, host), 'state_path')
    assert found.state == check.WARNING
    assert f'-o nova {tmp_path}/state' in found.detail


def test_a_user_who_is_not_there(
    conf: cfg.ConfigOpts, host: hosts.Host
) -> None:
    conf.set_override('user', 'no-such-user')
    found = the(check.findings(conf, host), 'user')
    assert found.state == check.FAILURE
    assert 'no-such-user' in found.detail


def test_the_user_of_the_unit_is_not_in_the_configuration(
    conf: cfg.ConfigOpts,
    host: hosts.Host,
    tmp_path: pathlib.Path,
    runtime: pathlib.Path,
) -> None:
    # Given directories that the unit has made, and root who looks at them
    conf.set_override('user', None)
    if os.getuid() == 0:
        os.chown(tmp_path, 4711, 4711)
        os.chown(runtime, 4711, 4711)
    found = check.findings(conf, host)
    # Then they are those of the worker
    for option in ('state_path', 'runtime_path'):
        assert the(found, option).state == check.OK


def test_directories_that_the_worker_refuses(
    conf: cfg.ConfigOpts,
    host: hosts.Host,
    tmp_path: pathlib.Path,
    runtime: pathlib.Path,
) -> None:
    # Given directories that others can write to
    tmp_path.chmod(0o777)
    runtime.chmod(0o777)
    for option, place in (('state_path', tmp_path), ('runtime_path', runtime)):
        found = the(check.findings(conf, host), option)
        assert found.state == check.FAILURE
        assert f'chmod go-w {place}' in found.detail
    # And one that is not in memory
    conf.set_override('runtime_path', '/usr/lib')
    found = the(check.findings(conf, host), 'runtime_path')
    assert 'not in memory' in found.detail


def test_a_host_that_can_do_nothing(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    for path in (
        'usr/sbin/iscsiadm',
        'dev/loop-control',
        'dev/nvme-fabrics',
        mounts.TOOL,
    ):
        (bed.root / path).unlink()
    (bed.root / 'sys/bus/rbd').rename(bed.root / 'sys/bus/other')
    assert the(check.findings(conf, host), 'protocols').state == check.FAILURE


@pytest.mark.parametrize(
    ('state', 'code'), [('ok', 0), ('warning', 1), ('failure', 2)]
)
def test_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    state: str,
    code: int,
) -> None:
    found = [check.Finding('one', check.OK), check.Finding('two', state, 'x')]
    monkeypatch.setattr(check, 'findings', lambda conf, host: found)
    file = tmp_path / 'worker.conf'
    file.touch()
    arguments = ['check', '--config-file', str(file)]
    assert status.main(arguments) == code
    assert state in capsys.readouterr().out
    assert status.main([*arguments, '--format', 'json']) == code
    assert json.loads(capsys.readouterr().out) == [
        {'check': 'one', 'state': 'ok', 'detail': ''},
        {'check': 'two', 'state': state, 'detail': 'x'},
    ]


def test_a_broker_that_is_not_there(conf: cfg.ConfigOpts) -> None:
    found = BUS(conf)
    # Nobody reaches a worker here
    assert found.state == check.FAILURE
    assert 'transport_url' in found.detail
    assert 'CANARY' not in found.detail


@pytest.mark.parametrize(
    ('version', 'tested'),
    [
        ('3.9.29', False),
        ('3.10.0', True),
        ('4.0.5', True),
        ('4.3.6', True),
        ('4.4.0', False),
        ('None', False),
    ],
)
def test_a_broker_that_was_not_tested(version: str, tested: bool) -> None:
    assert check._is_tested(version) == tested


def test_a_daemon_whose_program_was_replaced(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    process = bed.root / 'proc/4711'
    process.mkdir()
    (process / 'comm').write_text('iscsid\n')
    (process / 'exe').symlink_to('/usr/sbin/iscsid')
    assert the(check.findings(conf, host), 'iscsid').state == check.OK
    (process / 'exe').unlink()
    (process / 'exe').symlink_to('/usr/sbin/iscsid (deleted)')
    found = the(check.findings(conf, host), 'iscsid')
    assert found.state == check.WARNING
    assert 'systemctl restart iscsid' in found.detail


def test_settings_are_looked_at_where_their_program_is(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    assert 'LVM' not in {one.check for one in check.findings(conf, host)}
    (bed.root / 'usr/sbin/lvm').touch()
    found = the(check.findings(conf, host), 'LVM')
    assert found.state == check.WARNING
    assert 'global_filter' in found.detail


def add_process(
    bed: beds.SimulatedBed, pid: int, parent: int, user: int, name: str
) -> None:
    process = bed.root / 'proc' / str(pid)
    process.mkdir(exist_ok=True)
    (process / 'status').write_text(
        f'Name:\t{name}\nUmask:\t0022\nPPid:\t{parent}\n'
        f'Uid:\t{user}\t{user}\t{user}\t{user}\n'
    )


def test_a_worker_that_stays_root(
    conf: cfg.ConfigOpts, bed: beds.SimulatedBed, host: hosts.Host
) -> None:
    # Given a worker of a user of its own, with its helper
    add_process(bed, 1, 0, 0, 'systemd')
    add_process(bed, 4711, 1, 998, 'attachworker')
    add_process(bed, 4712, 4711, 0, 'attachworker')
    assert the(check.findings(conf, host), 'running worker').state == check.OK
    # When another one stays root, then that is told with what mends it
    add_process(bed, 4713, 1, 0, 'attachworker')
    found = the(check.findings(conf, host), 'running worker')
    assert found.state == check.WARNING
    assert 'process 4713' in found.detail
    assert 'option user' in found.detail
