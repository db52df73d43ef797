# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A guest that does not boot is ended, shown, and replaced by another."""

import os
import pathlib
import re
import subprocess
import time

import pytest

from tests.kernel import guest
from tests.kernel import machines
from tests.lab import running

pytestmark = pytest.mark.timeout(300)

#: What becomes of a guest, in the place of its kernel. $1 is its control
#: directory.
BOOTS = ': >"$1/booted"; sh "$1/command" >>"$1/output"; echo 0 >"$1/exit_code"'
PANICS = 'echo "Kernel panic - not syncing"; exit 1'
HANGS = 'echo "Waiting for root device"; exec sleep 1000'
#: Needs a processor for a while.
COMPUTES = f'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; {BOOTS}'
ENDS = ': >"$1/booted"; echo "Kernel panic, and late"; exit 1'


class StandIn(machines.Machine):
    """A program that takes the place of a kernel and its machine."""

    def __init__(self, key: str, script: str, patience: float = 30) -> None:
        self.key = self.name = key
        self.script = script
        self.patience = patience

    def check(self) -> None:
        pass

    def slowness(self) -> float:
        return 20

    def argv(self, booted: guest.Guest, memory: str) -> list[str]:
        return ['sh', '-c', self.script, 'sh', str(booted.control)]


class Missing(StandIn):
    def check(self) -> None:
        raise guest.CannotBoot('there is none; tools/setup.sh installs it')


def run(results: pathlib.Path, *candidates: machines.Machine) -> int:
    booted = machines.boot(candidates, ['echo', 'done'], results, '1G')
    try:
        return booted.wait(30)
    finally:
        booted.close()


def test_the_first_machine_that_boots_runs_the_command(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, StandIn('one', BOOTS), StandIn('two', PANICS)) == 0
    out, err = capfd.readouterr()
    assert out == 'done\n'
    assert 'two' not in err


@pytest.mark.parametrize(
    ('script', 'reason'),
    [
        (PANICS, 'the guest ended before its init ran'),
        (HANGS, r'its init does not run after \d+ s'),
    ],
    ids=['panics', 'hangs'],
)
def test_what_does_not_boot_is_ended_and_the_next_machine_is_tried(
    tmp_path: pathlib.Path,
    capfd: pytest.CaptureFixture[str],
    script: str,
    reason: str,
) -> None:
    fails = StandIn('one', script, patience=1)
    began = time.monotonic()

    assert run(tmp_path, fails, StandIn('two', BOOTS)) == 0

    assert time.monotonic() - began < 20
    out, err = capfd.readouterr()
    assert out == 'done\n'
    console = (tmp_path / 'console-one.log').read_text()
    assert re.search(f'one: {reason}; the last lines of', err)
    assert console in (
        'Kernel panic - not syncing\n',
        HANGS.split('"')[1] + '\n',
    )
    assert f'console-one.log:\n    {console}' in err
    assert (tmp_path / 'console-two.log').exists()


def test_time_that_a_guest_waits_for_a_processor_does_not_count(
    tmp_path: pathlib.Path,
) -> None:
    all_processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_processors)})
    # Each in a session of its own, as these may get equal shares.
    others = [
        subprocess.Popen(
            ['sh', '-c', 'while :; do :; done'], start_new_session=True
        )
        for _ in range(30)
    ]
    try:
        began = time.monotonic()
        assert run(tmp_path, StandIn('one', COMPUTES, patience=1)) == 0
        assert time.monotonic() - began > 1, 'it did not wait for one'
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, all_processors)


def test_a_command_has_more_time_on_a_slow_machine(
    tmp_path: pathlib.Path,
) -> None:
    slow = StandIn('one', f'{BOOTS}; sleep 1')
    booted = machines.boot([slow], ['true'], tmp_path, '1G')
    try:
        assert booted.wait(0.5) == 0
    finally:
        booted.close()


def test_where_nothing_boots_each_reason_is_said(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(guest.CannotBoot, match='in one or two'):
        run(tmp_path, StandIn('one', PANICS), Missing('two', BOOTS))
    _, err = capfd.readouterr()
    assert 'Kernel panic - not syncing' in err
    assert 'two: there is none; tools/setup.sh installs it' in err


def test_a_guest_that_ends_after_its_boot_is_not_run_again(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its command may have begun: what it did is not done twice."""
    status = run(tmp_path, StandIn('one', ENDS), StandIn('two', BOOTS))
    assert status == guest.EXIT_NO_GUEST
    out, err = capfd.readouterr()
    assert out == ''
    assert 'Kernel panic, and late' in err


def test_only_named_machines_are_tried() -> None:
    def keys(wanted: str) -> list[str]:
        return [machine.key for machine in machines.candidates(wanted)]

    assert keys('') == ['newer-uml', 'uml', 'qemu']
    for named in ('newer-uml', 'uml', 'qemu', 'qemu,uml'):
        assert keys(named) == named.split(',')
    with pytest.raises(ValueError, match="'xen' is none of newer-uml, uml"):
        keys('xen')


def test_a_machine_without_the_programs_says_what_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('PATH', '/nonexistent')
    for machine in machines.candidates(''):
        with pytest.raises(guest.CannotBoot, match=r'tools/setup\.sh'):
            machine.check()


# With a real kernel


def test_a_kernel_that_does_not_even_say_its_release(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a linux.uml that hangs, whatever it is asked
    program = tmp_path / 'linux.uml'
    program.write_text('#!/bin/sh\nexec sleep 1000\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setattr(machines.UserModeLinux, 'patience', 1)
    # Then that is a reason to try the next one
    with pytest.raises(guest.CannotBoot, match='timed out after 1 seconds'):
        machines.UserModeLinux().release()


def test_the_newer_user_mode_linux_boots(tmp_path: pathlib.Path) -> None:
    """Tests would run without it, too, and take twice as long."""
    done = running.lab(
        tmp_path, *('uname', '--kernel-release'), kernel='newer-uml'
    )
    assert done.returncode == 0, done.stderr
    machine = machines.NewerUserModeLinux()
    assert done.stdout.strip() == machine.release()
    assert machine.release() != machines.UserModeLinux().release()


def logs(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.glob('lab-results-*/*'))


def test_a_kernel_that_panics_ends_the_lab_at_once(
    tmp_path: pathlib.Path,
) -> None:
    began = time.monotonic()
    panics = 'exec /usr/bin/linux.uml "$@" init=/nonexistent'
    done = running.lab(tmp_path, 'true', script=panics)
    assert done.returncode == guest.EXIT_NO_GUEST
    assert time.monotonic() - began < machines.UserModeLinux.patience
    assert 'Requested init /nonexistent failed' in done.stderr
    # and its log is still where it says
    (named,) = set(re.findall(r'\S+/console-uml\.log', done.stderr))
    assert 'Requested init' in pathlib.Path(named).read_text()


@pytest.mark.timeout(2400)  # QEMU on a busy machine; the lab has limits
def test_a_kernel_that_hangs_is_ended_and_another_one_runs_the_command(
    tmp_path: pathlib.Path,
) -> None:
    root = 'root=/dev/ubda rootfstype=ext4 rootwait'
    done = running.lab(
        tmp_path,
        *('uname', '--kernel-release'),
        kernel='uml,qemu',
        script=f'exec /usr/bin/linux.uml "$@" {root}',
    )
    assert done.returncode == 0, done.stderr
    assert 'Linux: its init does not run after' in done.stderr
    assert 'Waiting for root device /dev/ubda' in done.stderr
    assert pathlib.Path('/lib/modules', done.stdout.strip()).is_dir()
    assert {'console-uml.log', 'console-qemu.log'} <= set(logs(tmp_path))


def test_logs_stay_if_the_command_fails(tmp_path: pathlib.Path) -> None:
    done = running.lab(tmp_path, 'sh', '-c', 'echo out; exit 3')
    assert (done.returncode, done.stdout) == (3, 'out\n')
    assert {'console-uml.log', 'dmesg.log'} <= set(logs(tmp_path))
    assert f'logs are in {tmp_path}/lab-results-' in done.stderr


def test_nothing_stays_if_it_succeeds(tmp_path: pathlib.Path) -> None:
    assert running.lab(tmp_path, 'true').returncode == 0
    assert logs(tmp_path) == []
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {'linux.uml'}
