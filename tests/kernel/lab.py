# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A throw-away machine with a real kernel, to run one command in.

``python -m tests.kernel.lab run -- COMMAND`` boots it, runs COMMAND as root
in this checkout, and brings back its output, its exit code and the logs.
The guest sees the root file system of this machine, virtual environment and
checkout included, through a layer in memory: what it writes is gone with it,
except below ``$LAB_RESULTS``. It has its own kernel, its own loopback network
and its own daemons, so nothing it does reaches the disks of this machine.

Only the standard library is used here: setup.sh runs it on a bare machine.
"""

import abc
import argparse
import contextlib
import ctypes
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import types
from typing import NoReturn

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
MODULES = pathlib.Path('/usr/lib/uml/modules')
#: Where a guest sees the results directory.
GUEST_RESULTS = '/run/lab/results'
#: What the command may know of the environment it was called from.
PASSED_ON = ('ATTACHWORKER_', 'HYPOTHESIS_', 'LAB_', 'PYTEST_')
PASSED_ON_EXACTLY = ('CI', 'COLUMNS', 'LANG', 'LC_ALL', 'TERM')

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1

EXIT_TIMEOUT = 124
EXIT_NO_GUEST = 125


class CannotBoot(Exception):
    """This machine cannot run a guest; the text says what to do."""


class Stopped(Exception):
    """A signal asked the lab to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def say(message: str) -> None:
    print(f'lab: {message}', file=sys.stderr, flush=True)


def die_with_parent() -> None:
    """Called in the child: no guest outlives a lab that is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine(abc.ABC):
    """A way to run a guest on this machine."""

    name: str

    @abc.abstractmethod
    def check(self) -> None:
        """:raises CannotBoot: this machine lacks something"""

    @abc.abstractmethod
    def argv(
        self, control: pathlib.Path, results: pathlib.Path, memory: str
    ) -> list[str]:
        """The program that boots ``control/init`` in a guest."""


class UserModeLinux(Machine):
    """A kernel that is an ordinary program: needs no virtualization."""

    name = 'User-Mode Linux'

    def check(self) -> None:
        program = shutil.which('linux.uml')
        if program is None:
            raise CannotBoot('there is no linux.uml (package user-mode-linux)')
        release = subprocess.run(
            [program, '--version'],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout.strip()
        if not (MODULES / release).is_dir():
            raise CannotBoot(
                f'{program} is of release {release}, but '
                f'{MODULES / release} is missing'
            )

    def argv(
        self, control: pathlib.Path, results: pathlib.Path, memory: str
    ) -> list[str]:
        return [
            # A process namespace: with its first process all end, and that
            # one ends with unshare.
            *('unshare', '--pid', '--fork', '--kill-child', '--mount-proc'),
            *('linux.uml', f'mem={memory}', 'panic=1'),
            *('rootfstype=hostfs', 'rootflags=/', 'ro'),
            *(f'uml_dir={control}', 'umid=guest'),
            *('ssl=null', 'con=null', 'con0=null,fd:1'),
            *(f'init={control}/init', f'LAB_CONTROL={control}'),
        ]


class Qemu(Machine):
    """A virtual machine, through virtme-ng; slow where there is no KVM."""

    name = 'QEMU'

    def __init__(self) -> None:
        self.vng = str(pathlib.Path(sys.executable).with_name('vng'))

    def kernel(self) -> pathlib.Path | None:
        found = [
            path
            for path in pathlib.Path('/boot').glob('vmlinuz-*')
            if (
                pathlib.Path('/lib/modules')
                / path.name.removeprefix('vmlinuz-')
            ).is_dir()
        ]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def check(self) -> None:
        if not os.access(self.vng, os.X_OK):
            raise CannotBoot('there is no virtme-ng in the environment')
        if shutil.which(f'qemu-system-{platform.machine()}') is None:
            raise CannotBoot('there is no QEMU')
        if self.kernel() is None:
            raise CannotBoot('there is no /boot/vmlinuz-* with its modules')

    def argv(
        self, control: pathlib.Path, results: pathlib.Path, memory: str
    ) -> list[str]:
        return self._argv(control, results, memory, kvm=self.kvm_works())

    def _argv(
        self,
        control: pathlib.Path,
        results: pathlib.Path,
        memory: str,
        kvm: bool,
    ) -> list[str]:
        writable = ('/etc', '/var', '/root', '/usr/lib/modules')
        return [
            *(self.vng, '--run', str(self.kernel())),
            *(() if kvm else ('--disable-kvm',)),
            *(f'--overlay-rwdir={path}' for path in writable),
            *(f'--rwdir={path}' for path in (control, results)),
            *('--user', 'root', '--cpus', '2', '--memory', memory),
            *('--', f'LAB_CONTROL={control} {control}/init virtual'),
        ]

    def kvm_works(self) -> bool:
        """Found out by a boot, once: /dev/kvm may be there and not work."""
        if not os.access('/dev/kvm', os.R_OK | os.W_OK):
            return False
        answer = CHECKOUT / '.venv/kvm'
        if not answer.exists():
            say('trying KVM, for at most 30 s')
            with contextlib.ExitStack() as stack:
                trial = Guest(self, ['true'], scratch(stack), '512M')
                stack.callback(trial.close)
                argv = self._argv(
                    trial.control, trial.results, trial.memory, kvm=True
                )
                trial.start(argv)
                works = trial.wait(30) == 0
            answer.write_text('works' if works else 'does not work')
        return answer.read_text() == 'works'


def choose(wanted: str) -> Machine:
    """The first way that this machine has everything for.

    :param wanted: 'uml', 'qemu' or '' for any
    """
    if os.geteuid() != 0:
        raise CannotBoot('a guest can only be root if you are')
    reasons = []
    for key, kind in (('uml', UserModeLinux), ('qemu', Qemu)):
        if wanted not in (key, ''):
            continue
        machine = kind()
        try:
            machine.check()
        except CannotBoot as error:
            reasons.append(f'{kind.name}: {error}')
        else:
            return machine
    raise CannotBoot('; '.join(reasons) + '; run tools/setup.sh')


class Guest:
    """One boot.

    :param command: what to run inside
    """

    def __init__(
        self,
        machine: Machine,
        command: list[str],
        results: pathlib.Path,
        memory: str,
    ) -> None:
        self.machine = machine
        self.command = command
        self.results = results.resolve()
        self.memory = memory
        self.control = pathlib.Path(tempfile.mkdtemp(prefix='attachworker-'))
        self.process: subprocess.Popen[bytes] | None = None
        self.copier: threading.Thread | None = None
        self.ended = threading.Event()

    def environment(self) -> dict[str, str]:
        passed = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(PASSED_ON) or name in PASSED_ON_EXACTLY
        }
        venv = CHECKOUT / '.venv'
        if sys.prefix != sys.base_prefix:
            venv = pathlib.Path(sys.prefix)
        return passed | {
            'LAB_CHECKOUT': str(CHECKOUT),
            'LAB_RESULTS': GUEST_RESULTS,
            'LAB_RESULTS_ON_HOST': str(self.results),
            'LAB_VENV': str(venv),
        }

    def start(self, argv: list[str] | None = None) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        init = self.control / 'init'
        shutil.copy(pathlib.Path(__file__).with_name('guest_init.sh'), init)
        init.chmod(0o755)
        (self.control / 'command').write_text(shlex.join(self.command))
        assignments = (
            f'{name}={shlex.quote(value)}\n'
            for name, value in self.environment().items()
        )
        (self.control / 'environment').write_text(''.join(assignments))
        output = self.control / 'output'
        output.touch()
        if argv is None:
            argv = self.machine.argv(self.control, self.results, self.memory)
        path = pathlib.Path(sys.executable).parent
        with open(self.results / 'console.log', 'wb') as console:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                preexec_fn=die_with_parent,
                # The parts of virtme-ng find each other by it.
                env=os.environ | {'PATH': f'{path}:{os.environ["PATH"]}'},
            )
        self.copier = threading.Thread(
            target=copy, daemon=True, args=(output, self.ended)
        )
        self.copier.start()

    def wait(self, timeout: float) -> int:
        """The exit code of the command, EXIT_TIMEOUT or EXIT_NO_GUEST."""
        assert self.process is not None
        assert self.copier is not None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            say(f'the guest was stopped after {timeout:g} s')
            return EXIT_TIMEOUT
        finally:
            self.kill()
            self.ended.set()
            self.copier.join()
        try:
            return int((self.control / 'exit_code').read_text())
        except (OSError, ValueError):
            say(f'the guest ended early; see {self.results}/console.log')
            return EXIT_NO_GUEST

    def kill(self) -> None:
        """End all processes of the guest; each is one of the host's too."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.control, ignore_errors=True)


def copy(source: pathlib.Path, ended: threading.Event) -> None:
    """Pass on what the command prints, as it comes, until the end."""
    with open(source, 'rb', buffering=0) as output:
        last = False
        while not last:
            # Looked at before the read: what came until then is read.
            last = ended.wait(0.05)
            while chunk := output.read(65536):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def stop(number: int, frame: types.FrameType | None) -> NoReturn:
    raise Stopped(number)


def scratch(stack: contextlib.ExitStack) -> pathlib.Path:
    return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))


def run(arguments: argparse.Namespace) -> int:
    machine = choose(arguments.kernel)
    results = arguments.results
    if results is None:
        results = pathlib.Path(tempfile.mkdtemp(prefix='lab-results-'))
    say(f'{machine.name}; logs in {results}')
    guest = Guest(machine, arguments.command, results, arguments.memory)
    try:
        guest.start()
        return guest.wait(arguments.timeout)
    except Stopped as stopped:
        say(f'stopped by {stopped}')
        return 128 + stopped.number
    finally:
        guest.close()


def probe(arguments: argparse.Namespace) -> int:
    """Whether a guest boots here; a missing package is not the only cause."""
    machine = choose(arguments.kernel)
    with contextlib.ExitStack() as stack:
        guest = Guest(machine, ['true'], scratch(stack), '256M')
        stack.callback(guest.close)
        guest.start()
        status = guest.wait(60)
    say(f'{machine.name} ' + ('works' if status == 0 else 'does not boot'))
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tests.kernel.lab')
    parser.add_argument(
        '--kernel',
        choices=('uml', 'qemu'),
        default=os.environ.get('LAB_KERNEL', ''),
        help='how to boot (default: User-Mode Linux, else QEMU)',
    )
    commands = parser.add_subparsers(required=True, metavar='run|probe')
    command = commands.add_parser('run', help='run a command in a guest')
    command.add_argument(
        '--timeout', type=float, default=900, metavar='SECONDS'
    )
    command.add_argument(
        '--results',
        type=pathlib.Path,
        metavar='DIR',
        help='directory for logs and results',
    )
    command.add_argument('--memory', default='2G')
    command.add_argument('command', nargs='+', metavar='COMMAND')
    command.set_defaults(run=run)
    command = commands.add_parser('probe', help='try whether a guest boots')
    command.set_defaults(run=probe)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        status: int = arguments.run(arguments)
    except CannotBoot as error:
        say(str(error))
        status = EXIT_NO_GUEST
    return status


if __name__ == '__main__':
    sys.exit(main())
