# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Two helpers, as a worker that is started as root has them."""

from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
import pwd
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from attachworker import privileged
from attachworker.privileged import process
from attachworker.privileged import processes

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason='a helper drops capabilities'
)

USER = pwd.getpwnam('nobody')
#: linux/capability.h
_DAC_OVERRIDE, _DAC_READ_SEARCH, _SYS_CHROOT = 1, 2, 18
_SYS_PTRACE, _SYS_ADMIN = 19, 21
#: Seconds that anything here may take.
_PATIENCE = 60.0

#: Starts its helpers as the worker does, and then has them do what it is told.
_WORKER = """
import json, pathlib, sys
from oslo_config import cfg
from attachworker import privileged
from attachworker.privileged import process
from attachworker.privileged import processes
cfg.CONF([], project='attachworker')
privileged.system.FILES['nqn'] = pathlib.Path(sys.argv[1])
process.start('nobody')
process.hold(sys.argv[2])
print(flush=True)
for line in sys.stdin:
    context, name, arguments = json.loads(line)
    channel = getattr(privileged, context).channel
    try:
        answer = channel.remote_call(name, tuple(arguments), {}, None)
    except Exception as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer), flush=True)
"""


#: As a worker that is not root, whose helpers a command has to start.
_STARTED_BY_COMMAND = """
import os, sys
from oslo_config import cfg
from attachworker import privileged
from attachworker.privileged import process
cfg.CONF(sys.argv[1:], project='attachworker')
os.geteuid = lambda: 1000
process.start(None)
try:
    privileged.loop.attach('/etc/passwd', True)
except PermissionError as error:
    print(error.strerror)
print((privileged.system.read('machine id') or 'None').strip(), flush=True)
os._exit(0)
"""


@dataclasses.dataclass
class Worker:
    running: subprocess.Popen[str]

    def ask(self, context: str, name: str, *arguments: Any) -> Any:
        """Have a helper do something, by its whole name."""
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        asked = (context, f'attachworker.privileged.{name}', arguments)
        self.running.stdin.write(f'{json.dumps(asked)}\n')
        self.running.stdin.flush()
        return json.loads(self.running.stdout.readline())

    def helpers(self) -> dict[str, int]:
        """The processes of the helpers, by context."""
        found = sorted(
            int(path.name)
            for path in pathlib.Path('/proc').glob('[0-9]*')
            if status(int(path.name)).get('PPid') == str(self.running.pid)
        )
        assert len(found) == len(privileged.CONTEXTS)
        return dict(zip(('readonly', 'default'), found, strict=True))


def status(pid: int) -> dict[str, str]:
    """What the kernel tells of a process; nothing if it has ended."""
    try:
        text = pathlib.Path(f'/proc/{pid}/status').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = (line.partition(':') for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}


def capabilities(pid: int) -> set[int]:
    mask = int(status(pid)['CapPrm'], 16)
    return {number for number in range(64) if mask >> number & 1}


@pytest.fixture
def secret(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file that only root may read."""
    file = tmp_path / 'secret'
    file.write_text('only root may read this')
    file.chmod(0o400)
    return file


@pytest.fixture
def worker(tmp_path: pathlib.Path, secret: pathlib.Path) -> Iterator[Worker]:
    lock = tmp_path / process.LOCK
    lock.touch()
    with subprocess.Popen(
        [sys.executable, '-c', _WORKER, str(secret), str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        yield Worker(running)
        running.kill()


def test_each_helper_has_its_capabilities_and_no_others(
    worker: Worker,
) -> None:
    helpers = worker.helpers()
    assert capabilities(helpers['readonly']) == {_DAC_READ_SEARCH}
    assert capabilities(helpers['default']) == {
        _DAC_OVERRIDE,
        _SYS_CHROOT,
        _SYS_PTRACE,
        _SYS_ADMIN,
    }


def test_the_helper_that_reads_is_not_root(
    worker: Worker, secret: pathlib.Path
) -> None:
    found = status(worker.helpers()['readonly'])
    assert found['Uid'].split() == [str(USER.pw_uid)] * 4
    assert found['Gid'].split() == [str(USER.pw_gid)] * 4
    assert found['Groups'] == ''
    # And yet it reads what only root may
    answer = worker.ask('readonly', 'system.read', 'nqn')
    assert answer == secret.read_text()


def test_what_the_helper_that_reads_has_open_nobody_uses(
    worker: Worker,
) -> None:
    """The other helper counts who has a device open before it removes it."""
    pid = worker.helpers()['readonly']
    assert status(pid)['Name'] == processes.READER
    assert processes._is_bystander(pid)


def test_nobody_else_can_look_into_the_helper_that_reads(
    worker: Worker,
) -> None:
    # Given that the kernel has no core dumps of it, its files are root's
    pid = worker.helpers()['readonly']
    assert os.stat(f'/proc/{pid}/mem').st_uid == 0
    limits = pathlib.Path(f'/proc/{pid}/limits').read_text()
    (core,) = (line for line in limits.splitlines() if 'core file' in line)
    assert core.split()[4:6] == ['0', '0']


@pytest.mark.parametrize(
    ('context', 'name', 'arguments'),
    [
        ('readonly', 'loop.attach', ['/etc/passwd', True]),
        ('readonly', 'process.hold', ['/etc/passwd']),
        ('default', 'system.read', ['nqn']),
        ('default', 'sysfs.write', ['/proc/sys/kernel/core_pattern', '|x']),
        ('default', 'tools.run', ['true']),
        ('default', 'made.note', ['/sys']),
    ],
)
def test_a_helper_has_no_functions_but_its_own_verbs(
    worker: Worker, context: str, name: str, arguments: list[Any]
) -> None:
    kind, text = worker.ask(context, name, *arguments)
    assert (kind, name in text) == ('NameError', True)


def test_the_helper_that_reads_ends_with_its_worker_alone(
    worker: Worker,
) -> None:
    # Given that the other helper hangs
    helpers = worker.helpers()
    os.kill(helpers['default'], signal.SIGSTOP)
    try:
        # When the worker is killed
        worker.running.kill()
        # Then the helper that reads does not wait for the other one
        end = time.monotonic() + _PATIENCE
        while status(helpers['readonly']).get('State', 'Z')[0] != 'Z':
            assert time.monotonic() < end, 'it does not end'
            time.sleep(0.05)
    finally:
        os.kill(helpers['default'], signal.SIGCONT)


def test_one_command_starts_both(tmp_path: pathlib.Path) -> None:
    # Given the configuration of somebody who knows of one helper
    config = tmp_path / 'attachworker.conf'
    command = f'{sys.executable} -m oslo_privsep.daemon'
    config.write_text(
        '[attachworker_privileged]\n'
        f'helper_command = {command} --config-file {config}\n'
    )
    told = subprocess.run(
        [sys.executable, '-c', _STARTED_BY_COMMAND, '--config-file', config],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=_PATIENCE,
    ).stdout.splitlines()
    # Then each answers to its own verbs
    assert 'knows of no local_roots' in told[-2]
    expected = pathlib.Path('/etc/machine-id')
    assert told[-1] == (
        expected.read_text().strip() if expected.exists() else 'None'
    )
