# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""One boot of a guest: started, listened to, ended."""

from collections.abc import Iterator
import contextlib
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import BinaryIO

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
#: Where a guest sees the results directory.
GUEST_RESULTS = '/run/lab/results'
#: What the command may know of the environment it was called from.
PASSED_ON = ('ATTACHWORKER_', 'HYPOTHESIS_', 'LAB_', 'PYTEST_')
PASSED_ON_EXACTLY = ('CI', 'COLUMNS', 'LANG', 'LC_ALL', 'TERM')

#: As many hold what a kernel says when it panics.
LAST_LINES = 60

EXIT_TIMEOUT = 124
EXIT_NO_GUEST = 125

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class CannotBoot(Exception):
    """There is no guest; the text says why, and what to do."""


def say(message: str) -> None:
    print(f'lab: {message}', file=sys.stderr, flush=True)


def die_with_parent() -> None:
    """Called in the child: no guest outlives a lab that is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Guest:
    """One boot.

    :param command: what to run inside
    :param results: directory for logs and results
    :param console: name of the log of the console there
    """

    def __init__(
        self,
        command: list[str],
        results: pathlib.Path,
        console: str = 'console.log',
    ) -> None:
        self.command = command
        self.results = results.resolve()
        self.console = self.results / console
        self.control = pathlib.Path(tempfile.mkdtemp(prefix='attachworker-'))
        #: What time limits are multiplied by.
        self.slowness: float = 1
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
            # In /tmp it would see what this machine writes there meanwhile.
            'TMPDIR': '/dev/shm',
        }

    def start(self, argv: list[str]) -> None:
        """Boot.

        :param argv: the program that is the machine
        """
        self.results.mkdir(parents=True, exist_ok=True)
        init = self.control / 'init'
        shutil.copy(pathlib.Path(__file__).with_name('guest_init.sh'), init)
        init.chmod(0o755)
        (self.control / 'command').write_text(
            f'exec {shlex.join(self.command)}\n'
        )
        assignments = (
            f'{name}={shlex.quote(value)}\n'
            for name, value in self.environment().items()
        )
        (self.control / 'environment').write_text(''.join(assignments))
        output = self.control / 'output'
        output.touch()
        path = pathlib.Path(sys.executable).parent
        with open(self.console, 'wb') as console:
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
            target=copy,
            daemon=True,
            # Opened here: a guest that does not boot is soon gone.
            args=(open(output, 'rb', buffering=0), self.ended),
        )
        self.copier.start()

    def wait_for_init(self, timeout: float) -> None:
        """Wait until the init of the lab says that it runs.

        :param timeout: seconds; those that the guest waits for a processor,
            because the machine has much else to do, do not count
        :raises CannotBoot: it did not do so in time, or the guest has ended
        """
        assert self.process is not None
        began = time.monotonic()
        limit = began + timeout
        while True:
            # Looked at first: what a guest says before it ends counts.
            ended = self.process.poll() is not None
            if (self.control / 'booted').exists():
                return
            if ended:
                raise CannotBoot(
                    f'the guest ended before its init ran; {self.last_lines()}'
                )
            now = time.monotonic()
            if now > limit:
                limit = began + timeout + self.waited_for_processor()
            if now > limit:
                raise CannotBoot(
                    f'its init does not run after {now - began:.0f} s; '
                    f'{self.last_lines()}'
                )
            time.sleep(0.05)

    def waited_for_processor(self) -> float:
        """Seconds that threads of the guest could run and others did."""
        assert self.process is not None
        return sum(waited(thread) for thread in threads(self.process.pid))

    def last_lines(self) -> str:
        """What the guest has said last on its console."""
        lines = self.console.read_text(errors='replace').splitlines()
        shown = ''.join(f'\n    {line}' for line in lines[-LAST_LINES:])
        return f'the last lines of {self.console}:{shown}'

    def wait(self, timeout: float) -> int:
        """The exit code of the command, EXIT_TIMEOUT or EXIT_NO_GUEST.

        :param timeout: seconds that are enough in User-Mode Linux
        """
        assert self.process is not None
        assert self.copier is not None
        timeout *= self.slowness
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            say(f'the command did not end in {timeout:g} s')
            return EXIT_TIMEOUT
        finally:
            self.kill()
            self.ended.set()
            self.copier.join()
        try:
            return int((self.control / 'exit_code').read_text())
        except (OSError, ValueError):
            say(f'the guest ended early; {self.last_lines()}')
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


def copy(output: BinaryIO, ended: threading.Event) -> None:
    """Pass on what the command prints, as it comes, until the end."""
    with output:
        last = False
        while not last:
            # Looked at before the read: what came until then is read.
            last = ended.wait(0.05)
            while chunk := output.read(65536):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def threads(process: int) -> Iterator[pathlib.Path]:
    """All threads of a process and of those that descend from it."""
    with contextlib.suppress(OSError):  # it has ended
        for thread in pathlib.Path(f'/proc/{process}/task').iterdir():
            yield thread
            for child in (thread / 'children').read_text().split():
                yield from threads(int(child))


def waited(thread: pathlib.Path) -> float:
    with contextlib.suppress(OSError):
        _, nanoseconds, _ = (thread / 'schedstat').read_text().split()
        return int(nanoseconds) / 1e9
    return 0
