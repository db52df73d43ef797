# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The unit under a real systemd, with a real broker and real storage."""

import json
import os
import pathlib
import signal
from typing import Any

import pytest

from attachworker import client
from tests.kernel.bed import KernelBed
from tests.systemd import machine

#: The first test waits for the broker, too.
pytestmark = pytest.mark.timeout(900)

KEY = 'a-passphrase-of-some-length'


def main_pid() -> int:
    return int(machine.show('MainPID'))


def test_a_person_installs_it(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    # When it was installed as the page says, then it runs as its own user
    assert machine.show('ActiveState') == 'active'
    account = pathlib.Path('/var/lib/attachworker').stat().st_uid
    assert account != 0
    assert pathlib.Path(f'/proc/{main_pid()}').stat().st_uid == account
    # And it answers
    assert machine.attachctl('ping')['ready'] is True
    connector = machine.attachctl('connector')
    assert connector['initiator'].startswith('iqn.')
    assert connector['multipath'] is True
    assert connector['attachworker']['protocols']['iscsi'] is None
    # And it attaches
    volume = bed.create_volume()
    before = bed.snapshot()
    file = pathlib.Path('/run/volume.json')
    file.write_text(json.dumps(volume.connection_info()))
    result = machine.attachctl(
        'attach', str(file), '--attachment-id', 'my-volume'
    )
    assert result['status'] == 'attached', result
    assert bed.read(result['device']['path']) == volume.pattern
    assert machine.attachctl('detach', 'my-volume')['status'] == 'detached'
    assert bed.snapshot() == before
    assert 'Traceback' not in machine.journal()


def test_the_unit_limits_what_it_runs(
    worker: client.AttachWorkerClient,
) -> None:
    # When it runs, then worker and helper have the limits of the unit
    processes = machine.processes()
    assert len(processes) >= 2
    for pid in processes:
        status = pathlib.Path(f'/proc/{pid}/status').read_text()
        fields = dict(
            line.split(':', 1) for line in status.splitlines() if ':' in line
        )
        assert fields['NoNewPrivs'].strip() == '1'
        assert fields['Seccomp'].strip() == '2'
        # What the helper writes all who look at the host may read
        mask = '0077' if pid == main_pid() else '0022'
        assert fields['Umask'].strip() == mask, fields['Name']
        limits = pathlib.Path(f'/proc/{pid}/limits').read_text()
        (core,) = (line for line in limits.splitlines() if 'core file' in line)
        assert core.split()[4:6] == ['0', '0']
    assert machine.show('MemoryMax') == str(4 << 30)
    assert machine.show('TasksMax') == '4096'


def wrong() -> dict[str, str]:
    """What the check of the host finds to be wrong."""
    found = machine.run(
        'env',
        'PYTHONPATH=/opt/attachworker/source',
        '/usr/bin/attachworker-status',
        'check',
        '--format',
        'json',
        check=False,
    )
    return {
        one['check']: one['detail']
        for one in json.loads(found)
        if one['state'] != 'ok'
    }


def test_directories_that_others_can_write_to(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    # Given a directory of state that the administrator has opened to others
    state = pathlib.Path('/run/open-state')
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    machine.run('systemctl', 'stop', 'attachworker')
    machine.configure(f'state_path = {state}')
    try:
        # Then the worker does not start, and says what to do
        machine.run('systemctl', 'start', 'attachworker', check=False)
        machine.until(lambda: f'chmod go-w {state}' in machine.journal())
        machine.run('systemctl', 'stop', 'attachworker')
        state_is_wrong = wrong()
    finally:
        machine.configure('state_path = /var/lib/attachworker')
    # And so does the check of the host, which finds nothing with those that
    # the unit makes
    assert f'chmod go-w {state}' in state_is_wrong['state_path']
    assert not {'state_path', 'runtime_path'} & wrong().keys()


@pytest.mark.parametrize(
    'kind', ['iscsi', 'multipath', 'luks2', 'local', 'nfs']
)
def test_within_the_limits_of_the_unit(
    bed: KernelBed, worker: client.AttachWorkerClient, kind: str
) -> None:
    options: dict[str, Any] = {}
    if kind == 'local':
        volume = bed.create_local_volume()
    elif kind == 'nfs':
        volume = bed.create_mount_volume()
    else:
        portals = 2 if kind == 'multipath' else 1
        volume = bed.create_volume(portals=portals, chap=('user', 'a-secret'))
    if kind == 'multipath':
        options = {'multipath': True, 'min_paths': 2}
    if kind == 'luks2':
        bed.encrypt(volume, 'luks2', KEY)
        options = {'encryption': {'provider': 'luks2', 'key': KEY}}
    before = bed.snapshot()
    device = machine.attach(worker, volume, **options)
    data = bed.read(device.path)
    assert (data == volume.pattern) is (kind != 'luks2')
    assert (device.multipath_id is not None) is (kind == 'multipath')
    machine.detach(worker, volume)
    assert bed.snapshot() == before
    assert 'Traceback' not in machine.journal()


def test_iscsid_is_there_when_it_is_needed(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    # Given a host on which nothing has started iscsid
    volume = bed.create_volume()
    before = bed.snapshot()
    machine.run('systemctl', 'stop', 'iscsid.socket', 'iscsid.service')
    # When the worker is started, then a login finds it
    machine.run('systemctl', 'restart', 'attachworker')
    path = machine.attach(worker, volume).path
    assert bed.read(path) == volume.pattern
    machine.detach(worker, volume)
    assert bed.snapshot() == before


def test_what_is_attached_outlives_a_restart(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    path = machine.attach(worker, volume).path
    pid = main_pid()
    # When it is stopped, then no process of it is left, and the volume is
    machine.run('systemctl', 'stop', 'attachworker')
    assert machine.show('Result') == 'success'
    assert not pathlib.Path(f'/proc/{pid}').exists()
    assert machine.show('TasksCurrent') in ('0', '[not set]')
    assert bed.read(path) == volume.pattern
    # When it is started again, then it knows the volume
    machine.run('systemctl', 'start', 'attachworker')
    (listed,) = worker.list_attachments()
    assert (listed.state, listed.device.path) == ('attached', path)
    # When it is killed, then systemd starts it again
    os.kill(main_pid(), signal.SIGKILL)
    machine.until(lambda: machine.show('NRestarts') == '1')
    machine.until(lambda: machine.show('ActiveState') == 'active')
    assert bed.read(path) == volume.pattern
    machine.detach(worker, volume)
    assert bed.snapshot() == before


def test_what_the_helper_has_noted_outlives_it(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    # Given a volume whose worker and helper are killed
    volume = bed.create_volume()
    before = bed.snapshot()
    path = machine.attach(worker, volume).path
    restarts = int(machine.show('NRestarts'))
    os.kill(main_pid(), signal.SIGKILL)
    machine.until(lambda: machine.show('NRestarts') == str(restarts + 1))
    machine.until(lambda: machine.show('ActiveState') == 'active')
    # Then the next helper knows that it was made, and only root could say so
    notes = os.stat('/run/attachworker-helper')
    assert (notes.st_uid, notes.st_mode & 0o777) == (0, 0o700)
    with bed.opened(path):
        result = worker.detach_volume(volume.name, force=True)
        assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


def test_reload(bed: KernelBed, worker: client.AttachWorkerClient) -> None:
    pid = main_pid()
    volume = bed.create_volume()

    def use() -> None:
        machine.attach(worker, volume)
        machine.detach(worker, volume)

    use()
    assert ' DEBUG ' not in machine.journal()
    machine.configure('debug = true')
    machine.run('systemctl', 'reload', 'attachworker')

    def has_changed() -> bool:
        use()
        return ' DEBUG ' in machine.journal()

    machine.until(has_changed)
    # And what makes no sense changes nothing
    machine.configure('debug = perhaps')
    machine.run('systemctl', 'reload', 'attachworker')
    machine.until(lambda: 'stay as they were' in machine.journal())
    assert main_pid() == pid
    assert machine.show('ActiveState') == 'active'
    assert worker.ping()['ready'] is True
    machine.configure('debug = false')


def test_a_worker_that_hangs_is_started_again(
    bed: KernelBed, worker: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    path = machine.attach(worker, volume).path
    # Given a watchdog that is quicker than that of the unit
    machine.drop_in(
        'attachworker.service',
        'watchdog.conf',
        '[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\n',
    )
    machine.run('systemctl', 'restart', 'attachworker')
    restarts = machine.show('NRestarts')
    pid = main_pid()
    # When the worker hangs
    os.kill(pid, signal.SIGSTOP)
    # Then another one takes its place, and goes on where it was
    machine.until(lambda: machine.show('NRestarts') != restarts)
    machine.until(lambda: machine.show('ActiveState') == 'active')
    assert main_pid() != pid
    assert 'Watchdog timeout' in machine.journal()
    assert bed.read(path) == volume.pattern
    machine.detach(worker, volume)
