# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The machines that a guest can run on, and which there is here."""

import abc
from collections.abc import Sequence
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

from tests import newer
from tests.kernel import guest

#: What User-Mode Linux needs where the processor has AMX; it says why.
PTRACE = pathlib.Path(__file__).with_name('whole_state.c')
_INSTALL = 'tools/setup.sh installs it'


class Machine(abc.ABC):
    """A way to run a guest on this machine.

    :cvar key: what ``LAB_KERNEL`` calls it
    :cvar patience: seconds that a guest has until its init runs, see
        :meth:`tests.kernel.guest.Guest.wait_for_init`
    """

    key: str
    name: str
    patience: float

    @abc.abstractmethod
    def check(self) -> None:
        """:raises CannotBoot: this machine lacks something"""

    @abc.abstractmethod
    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        """The program that boots ``control/init`` of a guest.

        :raises CannotBoot: it could not be made
        """

    def slowness(self) -> float:
        """How many times longer than in User-Mode Linux programs take."""
        return 1

    def boot(
        self, command: list[str], results: pathlib.Path, memory: str
    ) -> guest.Guest:
        """A guest whose init runs.

        :raises CannotBoot: it did not come to that
        """
        self.check()
        booted = guest.Guest(command, results, f'console-{self.key}.log')
        booted.slowness = self.slowness()
        guest.say(f'{self.name}; logs in {booted.results}')
        try:
            booted.start(self.argv(booted, memory))
            booted.wait_for_init(self.patience)
        except BaseException:
            booted.close()
            raise
        return booted


class UserModeLinux(Machine):
    """A kernel that is an ordinary program: needs no virtualization."""

    key = 'uml'
    name = 'User-Mode Linux'
    patience = 30
    modules = pathlib.Path('/usr/lib/uml/modules')
    options: tuple[str, ...] = ()

    def program(self) -> str | None:
        """Where its program is; None: nowhere."""
        return shutil.which('linux.uml')

    def check(self) -> None:
        release = self.release()
        if shutil.which('cc') is None:
            raise guest.CannotBoot(f'there is no C compiler; {_INSTALL}')
        if not (self.modules / release).is_dir():
            raise guest.CannotBoot(
                f'{self.program()} is of release {release}, but '
                f'{self.modules / release} is missing'
            )

    def release(self) -> str:
        """:raises CannotBoot: it does not say, or is not there"""
        program = self.program()
        if program is None:
            raise guest.CannotBoot(f'there is no linux.uml; {_INSTALL}')
        try:
            return subprocess.run(
                [program, '--version'],
                check=True,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=self.patience,
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            raise guest.CannotBoot(f'it does not run: {error}') from error

    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        control = booted.control
        # The kernel and its processes are processes of this machine that
        # wake each other at every system call: on one processor that takes a
        # fourth of the time that it takes across two. Labs that run at the
        # same time have slots of their own, see tools/test.sh.
        slot = int(os.environ.get('LAB_SLOT', '-1'))
        processors = sorted(os.sched_getaffinity(0))
        processor = processors[slot % len(processors)]
        return [
            *('taskset', '--cpu-list', str(processor)),
            # A process namespace: with its first process all end, and that
            # one ends with unshare.
            *('unshare', '--pid', '--fork', '--kill-child', '--mount-proc'),
            # That is the shell. When the kernel panics it ends itself with a
            # signal, and to a first process that would do nothing.
            *('sh', '-c', '"$@"; exit', 'sh'),
            *('env', *self.environment(control), str(self.program())),
            *(f'mem={memory}', 'panic=1'),
            *('rootfstype=hostfs', 'rootflags=/', 'ro'),
            *(f'uml_dir={control}', 'umid=guest'),
            *('ssl=null', 'con=null', 'con0=null,fd:1'),
            *(f'init={control}/init', f'LAB_CONTROL={control}'),
            f'LAB_MODULES={self.modules / self.release()}',
            *self.options,
        ]

    def environment(self, control: pathlib.Path) -> list[str]:
        """What is added to the environment of the program."""
        return [f'LD_PRELOAD={self.build_ptrace(control)}']

    def build_ptrace(self, directory: pathlib.Path) -> pathlib.Path:
        """Compile the library to preload; that takes a tenth of a second.

        It is used on every processor, although only some need it: so there
        is one way to boot, which is tested wherever tests run.
        """
        library = directory / 'whole_state.so'
        try:
            subprocess.run(
                ['cc', '-shared', '-fPIC', '-o', library, PTRACE], check=True
            )
        except subprocess.CalledProcessError as error:
            raise guest.CannotBoot(str(error)) from error
        return library


class NewerUserModeLinux(UserModeLinux):
    """The one of Debian's next release, see :mod:`tests.newer`.

    Its kernel lets processes make their system calls without tracing them,
    and takes half of the time. A processor with AMX is no trouble to it.
    """

    key = 'newer-uml'
    name = f'User-Mode Linux of Debian {newer.SUITE}'
    modules = newer.USER_MODE_LINUX / 'usr/lib/uml/modules'
    options = ('seccomp=auto',)

    def program(self) -> str | None:
        return shutil.which(newer.USER_MODE_LINUX / 'usr/bin/linux.uml')

    def environment(self, control: pathlib.Path) -> list[str]:
        return []


class Qemu(Machine):
    """A virtual machine, through virtme-ng; slow where there is no KVM."""

    key = 'qemu'
    name = 'QEMU'
    patience = 150

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
            raise guest.CannotBoot(f'virtme-ng is missing; {_INSTALL}')
        if shutil.which(f'qemu-system-{platform.machine()}') is None:
            raise guest.CannotBoot(f'there is no QEMU; {_INSTALL}')
        if self.kernel() is None:
            raise guest.CannotBoot(
                f'there is no /boot/vmlinuz-* with its modules; {_INSTALL}'
            )

    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        kvm = self.kvm_works()
        if not kvm:
            guest.say('KVM does not work: programs are ten times slower')
        return self._argv(booted, memory, kvm)

    def slowness(self) -> float:
        return 1 if self.kvm_works() else 5

    def _argv(self, booted: guest.Guest, memory: str, kvm: bool) -> list[str]:
        overlays = ('/etc', '/var', '/root', '/usr/lib/modules')
        init = f'{booted.control}/init'
        return [
            *(self.vng, '--run', str(self.kernel())),
            *(() if kvm else ('--disable-kvm',)),
            *(f'--overlay-rwdir={path}' for path in overlays),
            *(f'--rwdir={path}' for path in (booted.control, booted.results)),
            *('--verbose', '--user', 'root'),
            *('--cpus', '1', '--memory', memory),
            *('--', f'LAB_CONTROL={booted.control} {init} virtual'),
        ]

    def kvm_works(self) -> bool:
        """Found out by a boot, once: /dev/kvm may be there and not work."""
        if not os.access('/dev/kvm', os.R_OK | os.W_OK):
            return False
        answer = guest.CHECKOUT / '.venv/kvm'
        if not answer.exists():
            guest.say('trying KVM, for at most 30 s')
            answer.write_text('works' if self._boots() else 'does not work')
        return answer.read_text() == 'works'

    def _boots(self) -> bool:
        with tempfile.TemporaryDirectory() as results:
            trial = guest.Guest(['true'], pathlib.Path(results))
            try:
                trial.start(self._argv(trial, '512M', kvm=True))
                trial.wait_for_init(30)
            except guest.CannotBoot:
                return False
            finally:
                trial.close()
        return True


def candidates(wanted: str) -> Sequence[Machine]:
    """The machines to try, in this order.

    :param wanted: their keys, with commas between them; '' for all
    :raises ValueError: there is no such machine
    """
    known = {
        machine.key: machine
        for machine in (NewerUserModeLinux(), UserModeLinux(), Qemu())
    }
    keys = wanted.split(',') if wanted else list(known)
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f'{unknown[0]!r} is none of {", ".join(known)}')
    return [known[key] for key in keys]


def boot(
    machines: Sequence[Machine],
    command: list[str],
    results: pathlib.Path,
    memory: str,
) -> guest.Guest:
    """A guest on the first machine where one comes as far as its init.

    :raises CannotBoot: it did so on none
    """
    if os.geteuid() != 0:
        raise guest.CannotBoot('a guest can only be root if you are')
    for machine in machines:
        try:
            return machine.boot(command, results, memory)
        except guest.CannotBoot as error:
            guest.say(f'{machine.name}: {error}')
    names = ' or '.join(machine.name for machine in machines)
    raise guest.CannotBoot(f'no guest could be booted in {names}')
