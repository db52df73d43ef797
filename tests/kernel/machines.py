# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The machines that a guest can run on, and which there is here."""

import abc
from collections.abc import Callable
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

from tests.kernel import guest

MODULES = pathlib.Path('/usr/lib/uml/modules')


class CannotBoot(Exception):
    """This machine cannot run a guest; the text says what to do."""


class Machine(abc.ABC):
    """A way to run a guest on this machine."""

    name: str

    @abc.abstractmethod
    def check(self) -> None:
        """:raises CannotBoot: this machine lacks something"""

    @abc.abstractmethod
    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        """The program that boots ``control/init`` of a guest."""


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

    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        control = booted.control
        # The kernel and its processes are processes of this machine that
        # wake each other at every system call: on one processor that takes a
        # fourth of the time that it takes across two.
        processor = max(os.sched_getaffinity(0))
        return [
            *('taskset', '--cpu-list', str(processor)),
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
            raise CannotBoot('virtme-ng is missing')
        if shutil.which(f'qemu-system-{platform.machine()}') is None:
            raise CannotBoot('there is no QEMU')
        if self.kernel() is None:
            raise CannotBoot('there is no /boot/vmlinuz-* with its modules')

    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        return self._argv(booted, memory, kvm=self.kvm_works())

    def _argv(self, booted: guest.Guest, memory: str, kvm: bool) -> list[str]:
        overlays = ('/etc', '/var', '/root', '/usr/lib/modules')
        init = f'{booted.control}/init'
        return [
            *(self.vng, '--run', str(self.kernel())),
            *(() if kvm else ('--disable-kvm',)),
            *(f'--overlay-rwdir={path}' for path in overlays),
            *(f'--rwdir={path}' for path in (booted.control, booted.results)),
            *('--user', 'root', '--cpus', '1', '--memory', memory),
            *('--', f'LAB_CONTROL={booted.control} {init} virtual'),
        ]

    def kvm_works(self) -> bool:
        """Found out by a boot, once: /dev/kvm may be there and not work."""
        if not os.access('/dev/kvm', os.R_OK | os.W_OK):
            return False
        answer = guest.CHECKOUT / '.venv/kvm'
        if not answer.exists():
            guest.say('trying KVM, for at most 30 s')
            works = boots(lambda trial: self._argv(trial, '512M', kvm=True))
            answer.write_text('works' if works else 'does not work')
        return answer.read_text() == 'works'


def boots(argv: Callable[[guest.Guest], list[str]]) -> bool:
    """Whether a guest that runs nothing ends well."""
    with tempfile.TemporaryDirectory() as results:
        trial = guest.Guest(['true'], pathlib.Path(results))
        try:
            trial.start(argv(trial))
            return trial.wait(30) == 0
        finally:
            trial.close()


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
