# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The daemons of the guest, which guest_init.sh has started."""

import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

from tests.kernel import set_ups

_PIDS = pathlib.Path('/run/lab')
_COMMANDS = {
    'iscsid': ('iscsid', '-f'),
    'multipathd': ('multipathd', '-d', '-s'),
}


_MULTIPATHD = '\0/org/kernel/linux/storage/multipathd'
_LENGTH = struct.Struct('@N')


def kill(name: str) -> None:
    """``kill -9``, and wait until it is gone; that it is already is fine."""
    pid = int((_PIDS / f'{name}.pid').read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    # A child of init, or of this process: either reaps it.
    while not has_ended(pid):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether nothing is open any more that it had open."""
    process = pathlib.Path('/proc', str(pid))
    try:
        state = (process / 'stat').read_text().rpartition(')')[2].split()[0]
        # Until its last thread is gone, what all of them share is there.
        return state == 'Z' and len(os.listdir(process / 'task')) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def start(name: str) -> None:
    """Start it (again); its log goes on in the results directory."""
    results = pathlib.Path(os.environ['LAB_RESULTS'])
    with open(results / f'{name}.log', 'ab') as log:
        process = subprocess.Popen(
            _COMMANDS[name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (_PIDS / f'{name}.pid').write_text(f'{process.pid}\n')


def configure_multipathd(
    find_multipaths: str | None,
    user_friendly_names: str,
    no_path_retry: str,
    uid_attribute: str | None = None,
    blacklist: str = '',
) -> None:
    """Write its configuration, for its next start."""
    # It looks at its paths every second, so that tests need not wait long.
    # The table of known devices has a no_path_retry of its own for LIO.
    find = f'find_multipaths {find_multipaths}' if find_multipaths else ''
    uid = f'uid_attribute {uid_attribute}' if uid_attribute else ''
    set_ups.configure_multipathd(f"""\
defaults {{
    {find}
    user_friendly_names {user_friendly_names}
    polling_interval 1
    {uid}
}}
overrides {{
    no_path_retry {no_path_retry}
}}
blacklist {{
    {blacklist}
}}
""")


def wait_for_multipathd(seconds: float = 20.0) -> None:
    """Until it answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            ask_multipathd('show daemon')
        except OSError:
            assert time.monotonic() < end, 'multipathd does not start'
            time.sleep(0.05)
        else:
            return


def multipathd_paths() -> list[str]:
    """The disks that it knows; none if it does not run."""
    try:
        return ask_multipathd('show paths raw format %d').split()
    except OSError:
        return []


def drain_multipathd() -> None:
    """Until it has dealt with all events of udev, if it runs."""
    subprocess.run(['udevadm', 'settle', '--timeout=30'], check=True)
    limit = time.monotonic() + 30
    while True:
        try:
            if 'busy: False' in ask_multipathd('show status'):
                return
        except OSError:
            return
        assert time.monotonic() < limit, 'multipathd is busy all the time'
        time.sleep(0.05)


def ask_multipathd(command: str) -> str:
    """Its answer to a command; much quicker than ``multipathd COMMAND``."""
    request = command.encode() + b'\0'
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(_MULTIPATHD)
        client.sendall(_LENGTH.pack(len(request)) + request)
        with client.makefile('rb') as answer:
            (length,) = _LENGTH.unpack(answer.read(_LENGTH.size))
            return answer.read(length).rstrip(b'\0').decode()
