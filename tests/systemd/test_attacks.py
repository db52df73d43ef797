# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What somebody who has taken over the worker gets out of the real helpers.

Worker and helpers are started by the unit, within its limits, and the code of
the attack runs in the process of the worker, as its user. It can reach what
that process can reach: the sockets of both helpers, and the files of the
host. Each thing that it must not get ends in an error, and what it was after
is as it was. Controllers of NVMe are in ``tests/contract/test_removals.py``:
this kernel has none. That no portal outside of ``portal_networks`` is asked
the helpers do not promise: the worker sees to it, and one that was taken over
can connect to where it likes anyway.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
import socket
from typing import Any

import pytest

from attachworker import client
from tests.contract import bed as beds
from tests.functional import rabbitmq
from tests.kernel.bed import KernelBed
from tests.kernel.test_removals import attached_by_hand
from tests.kernel.test_removals import mounted
from tests.kernel.test_removals import opened
from tests.systemd import machine
from tests.systemd import taken_over

pytestmark = pytest.mark.timeout(900)

ROOT = pathlib.Path(beds.LOCAL_ROOT)
#: What all code of the attacker begins with.
_IMPORTS = """
import os
import pathlib
from attachworker import privileged
from attachworker.privileged import process

def raw(context, name, *arguments):
    channel = getattr(privileged, context).channel
    return channel.remote_call(name, arguments, {}, None)
"""
#: Puts a link in the place of a directory, and takes it back, again and again.
_SWAP = """
import threading, time
directory, aside, outside = {names!r}
done = threading.Event()
def swap():
    while not done.is_set():
        os.rename(directory, aside)
        os.symlink(outside, directory)
        os.unlink(directory)
        os.rename(aside, directory)
thread = threading.Thread(target=swap)
thread.start()
answer = []
for _ in range(300):
    try:
        privileged.loop.attach(directory + '/shadow', True)
        answer.append('attached')
    except OSError as error:
        answer.append(type(error).__name__)
done.set()
thread.join()
"""


class Attacker:
    """Somebody who has taken over the worker."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(machine.PATIENCE)
        self._socket.connect(taken_over.SOCKET)
        self._file = self._socket.makefile('rw')

    def run(self, code: str) -> dict[str, Any]:
        print(json.dumps(f'{_IMPORTS}\n{code}'), file=self._file, flush=True)
        found: dict[str, Any] = json.loads(self._file.readline())
        return found

    def refused(self, code: str, error: str, text: str = '') -> None:
        """See to it that this is an error, which says why."""
        found = self.run(code)
        assert found.get('error') == error, (code, found)
        assert text in found['text'], (code, found)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture(scope='module')
def attacker(
    bed: KernelBed, broker: rabbitmq.RabbitMQNode
) -> Iterator[Attacker]:
    machine.run('systemctl', 'stop', 'attachworker')
    machine.drop_in(
        'attachworker.service',
        'taken-over.conf',
        '[Service]\nExecStart=\nExecStart='
        '!/opt/attachworker/bin/python -m tests.systemd.taken_over\n',
    )
    machine.run('systemctl', 'start', 'attachworker')
    made = Attacker()
    yield made
    made.close()
    machine.run('systemctl', 'stop', 'attachworker')
    os.unlink('/etc/systemd/system/attachworker.service.d/taken-over.conf')
    machine.run('systemctl', 'daemon-reload')


@pytest.fixture(autouse=True)
def honest(
    bed: KernelBed, attacker: Attacker, worker: client.AttachWorkerClient
) -> Iterator[None]:
    """After each attack the host is as it was."""
    before = bed.snapshot()
    yield
    machine.run('udevadm', 'settle')
    # iscsiadm leaves it where it is called by hand
    pathlib.Path('/run/lock/iscsi/lock').unlink(missing_ok=True)
    assert bed.snapshot() == before


def test_the_attack_has_no_more_than_the_worker(attacker: Attacker) -> None:
    found = attacker.run(
        'answer = [os.getuid(), os.getgroups(),'
        " pathlib.Path('/proc/self/status').read_text()]"
    )['answer']
    assert found[0] == pathlib.Path('/var/lib/attachworker').stat().st_uid
    assert 0 not in found[1]
    assert 'CapEff:\t0000000000000000' in found[2]
    # And of the helpers one is root, and one is not
    users = {
        pathlib.Path(f'/proc/{pid}/comm').read_text().strip(): int(
            pathlib.Path(f'/proc/{pid}/status')
            .read_text()
            .partition('Uid:')[2]
            .split()[0]
        )
        for pid in machine.processes()
    }
    assert users['attachworker-ro'] == found[0]
    assert 0 in users.values()


def test_no_other_function_is_run(attacker: Attacker) -> None:
    for context, name in (
        ('default', 'os.system'),
        ('readonly', 'os.system'),
        ('default', 'attachworker.privileged.tools.run'),
        ('readonly', 'attachworker.privileged.iscsi.login'),
        ('default', 'attachworker.privileged.block.read_direct'),
        ('default', 'attachworker.privileged.made.note'),
        ('default', 'attachworker.privileged.sysfs.write'),
    ):
        attacker.refused(
            f"raw({context!r}, {name!r}, '/etc/shadow')", 'NameError', name
        )


def test_the_content_of_a_disk_is_not_told(
    bed: KernelBed, attacker: Attacker
) -> None:
    volume = bed.create_volume(size=64 << 20)
    with attached_by_hand(volume) as disk:
        instance = os.stat(f'/sys/class/block/{disk}').st_ino
        attacker.refused(f"open('/dev/{disk}', 'rb')", 'PermissionError')
        # What can be asked is whether it can be read
        found = attacker.run(
            f'answer = privileged.block.check_readable({disk!r}, {instance})'
        )
        assert found == {'answer': None}
        # And nothing is written over what is there
        attacker.refused(
            f"privileged.encryption.format({disk!r}, {instance}, 'luks2', "
            "'a-key', 1 << 20)",
            'FileExistsError',
            'not empty',
        )
        assert bed.read(f'/dev/{disk}') == volume.pattern


def test_a_file_outside_of_the_roots_becomes_no_device(
    attacker: Attacker,
) -> None:
    account = pathlib.Path('/var/lib/attachworker').stat().st_uid
    # Given a directory below a root in which the attacker may do anything
    theirs = ROOT / 'theirs'
    directory = theirs / 'volumes'
    directory.mkdir(parents=True)
    for one in (theirs, directory):
        os.chown(one, account, account)
    try:
        attacker.refused(
            "privileged.loop.attach('/etc/shadow', True)",
            'PermissionError',
            'local_roots',
        )
        # By a link, and by a hard link
        attacker.run(f"os.symlink('/etc/shadow', {f'{theirs}/link'!r})")
        attacker.refused(
            f'privileged.loop.attach({f"{theirs}/link"!r}, True)',
            'PermissionError',
            'symbolic link',
        )
        attacker.refused(
            f'privileged.loop.attach({f"{theirs}/../../../etc/shadow"!r}, 1)',
            'ValueError',
        )
        # By a directory that turns into a link again and again
        names = (str(directory), f'{theirs}/aside', '/etc')
        found = attacker.run(_SWAP.format(names=names))['answer']
        assert len(found) == 300
        assert set(found) <= {'FileNotFoundError', 'PermissionError'}
        # And the administrator's list is not the attacker's to change
        attacker.run(
            'from oslo_config import cfg\n'
            "cfg.CONF.set_override('local_roots', ['/etc'], group='local')"
        )
        attacker.refused(
            "privileged.loop.attach('/etc/shadow', True)",
            'PermissionError',
            'local_roots',
        )
        attacker.run(
            'from oslo_config import cfg\n'
            "cfg.CONF.clear_override('local_roots', group='local')"
        )
        loops = machine.run('losetup', '--list', '--noheadings')
        assert 'shadow' not in loops
    finally:
        shutil.rmtree(theirs)


@pytest.mark.parametrize('used', ['mounted', 'open', '/boot'])
def test_what_others_have_attached_stays(
    bed: KernelBed, attacker: Attacker, used: str
) -> None:
    """Its device, its session, its path and its line in the list of maps."""
    volume = bed.create_volume(size=64 << 20)
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(attached_by_hand(volume))
        device = pathlib.Path(f'/sys/class/block/{disk}/device').resolve()
        session = next(
            one.name.removeprefix('session')
            for one in device.parents
            if one.name.startswith('session')
        )
        path = f'/dev/{disk}'
        stack.enter_context(
            {
                'mounted': lambda: mounted(path),
                'open': lambda: opened(path),
                '/boot': lambda: bed.used_by_host(path, '/boot'),
            }[used]()
        )
        why = 'never removes' if used == '/boot' else 'was not made by'
        # A scan, or options of its own, do not make it the attacker's
        host, channel, target, lun = device.name.split(':')
        attacker.run(
            f'privileged.scsi.scan({host}, {channel}, {target}, {lun})\n'
            'privileged.removals.allow_foreign = True'
        )
        for verb in (
            f'privileged.scsi.delete({device.name!r})',
            f'privileged.iscsi.logout({session}, 30.0)',
            f'privileged.multipath.remove_path({disk!r})',
        ):
            attacker.refused(verb, 'PermissionError', why)
        assert os.path.exists(path)


def test_a_map_of_others_stays(bed: KernelBed, attacker: Attacker) -> None:
    volume = bed.create_volume(size=64 << 20)
    wwid = f'3{volume.wwn.removeprefix("naa.")}'
    with attached_by_hand(volume) as disk:
        bed.verbs.multipath.make_map(disk)
        holders = pathlib.Path(f'/sys/class/block/{disk}/holders')
        machine.until(lambda: os.listdir(holders))
        (name,) = os.listdir(holders)
        machine.run('udevadm', 'settle')
        with bed.used_by_host(f'/dev/{name}', '/boot'):
            for verb in (
                f'remove_map({name!r})',
                f'set_queueing({name!r}, False)',
                f'remove_path({disk!r})',
                f'forget({wwid!r})',
            ):
                attacker.refused(
                    f'privileged.multipath.{verb}',
                    'PermissionError',
                    'never removes',
                )
        # A mapping that is not called as ours are cannot even be named
        attacker.refused("privileged.encryption.close('root')", 'ValueError')
        machine.run('udevadm', 'settle')
        bed.verbs.multipath.remove_map(name)
        bed.verbs.multipath.forget(wwid)


def test_nothing_can_be_claimed_in_the_notes(attacker: Attacker) -> None:
    notes = pathlib.Path('/run/attachworker-helper')
    notes.mkdir(mode=0o700, exist_ok=True)
    attacker.refused(f"open({f'{notes}/claimed'!r}, 'w')", 'PermissionError')
    attacker.refused(f"os.rename({str(notes)!r}, '/run/x')", 'PermissionError')


def test_no_file_is_made_through_a_lock_directory(
    attacker: Attacker,
) -> None:
    # Given a directory of root's in which files have an effect
    of_root = pathlib.Path('/run/of-root')
    of_root.mkdir(mode=0o755)
    file = str(of_root / 'by-attachworker')
    # What locks the files of os-brick is the worker, which is not root
    attacker.refused(f"open({file!r}, 'w')", 'PermissionError')
    # The helper locks nothing but the file of a helper, and follows no link
    attacker.refused(f'process.hold({file!r})', 'ValueError', 'lock file')
    place = '/run/attachworker/attachworker-helper.lock'
    attacker.run(f'os.symlink({file!r}, {place!r})')
    attacker.refused(f'process.hold({place!r})', 'OSError', 'symbolic links')
    attacker.run(f'os.unlink({place!r})')
    # And a login covers no directory but its own
    locks = pathlib.Path('/run/lock/iscsi')
    if locks.is_dir():
        locks.rmdir()
    locks.parent.mkdir(exist_ok=True)
    locks.parent.chmod(0o1777)
    attacker.run(f'os.symlink({str(of_root)!r}, {str(locks)!r})')
    attacker.refused(
        "privileged.iscsi.interface('default', 30.0)",
        'NotADirectoryError',
        'remove what is there',
    )
    locks.unlink()
    of_root.rmdir()


def test_no_attribute_and_no_record_of_its_choice(attacker: Attacker) -> None:
    login = "'iqn.2010-10.org:x', '127.0.0.1', 3260"
    for verb in (
        "scsi.rescan('0:0:0:0/../../../../../power')",
        'scsi.scan(0, 0, 0, -1)',
        "scsi.delete('../../block/sda')",
        "multipath.remove_path('sda\\x00shutdown')",
        "multipath.remember('x/\\n/y')",
        f"iscsi.login({login}, {{'node.startup': 'manual\\nx = y'}}, 5.0)",
        "nvme.connect({'transport': 'tcp,x=y'})",
        "rbd.refresh('../../pci')",
    ):
        attacker.refused(f'privileged.{verb}', 'ValueError')
    attacker.refused(
        "open('/sys/class/block/loop0/uevent', 'w')", 'PermissionError'
    )


@pytest.mark.parametrize('kind', ['iscsi', 'local'])
def test_who_attaches_honestly_is_served_after_all_that(
    bed: KernelBed, worker: client.AttachWorkerClient, kind: str
) -> None:
    volume = (
        bed.create_local_volume() if kind == 'local' else bed.create_volume()
    )
    device = machine.attach(worker, volume)
    assert bed.read(device.path) == volume.pattern
    machine.detach(worker, volume)
