# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""User-Mode Linux runs on a processor with AMX, whatever there is here.

``amx.c`` makes the kernel of this machine behave as one does there.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.kernel import guest
from tests.kernel import machines
from tests.lab import running

pytestmark = pytest.mark.timeout(300)

_AMX = pathlib.Path(__file__).with_name('amx.c')
#: Digests are computed in the registers that the extended state is made of.
_HASH_IN_TWO_THREADS = """
from concurrent import futures
import hashlib
data = bytes(1 << 24)
with futures.ThreadPoolExecutor(2) as threads:
    made = threads.map(lambda _: hashlib.sha256(data).hexdigest(), range(20))
print(*set(made))
"""


@pytest.fixture
def amx(tmp_path: pathlib.Path) -> pathlib.Path:
    library = tmp_path / 'amx.so'
    subprocess.run(['cc', '-shared', '-fPIC', '-o', library, _AMX], check=True)
    return library


@pytest.fixture
def shim(tmp_path: pathlib.Path) -> pathlib.Path:
    return machines.UserModeLinux().build_ptrace(tmp_path)


def set_state(*preloaded: pathlib.Path) -> dict[str, object]:
    """What came of registers that were set, see ``set_state.py``."""
    done = subprocess.run(
        [sys.executable, pathlib.Path(__file__).with_name('set_state.py')],
        env=os.environ | {'LD_PRELOAD': ':'.join(map(str, preloaded))},
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_with_amx_a_kernel_refuses_a_part_of_the_state(
    amx: pathlib.Path,
) -> None:
    found = set_state(amx)
    assert found['whole'] == 11008
    assert (found['error'], found['arrived']) == ('EFAULT', False)


def test_a_part_of_the_state_arrives_and_the_rest_stays(
    amx: pathlib.Path, shim: pathlib.Path
) -> None:
    found = set_state(shim, amx)
    assert (found['error'], found['arrived']) == ('', True)
    assert found['rest_is_kept']


def test_without_amx_a_part_of_the_state_arrives_as_before(
    shim: pathlib.Path,
) -> None:
    found = set_state(shim)
    assert (found['error'], found['arrived']) == ('', True)


def test_threads_of_a_guest_keep_their_registers_apart_with_amx(
    amx: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = running.lab(
        tmp_path,
        *('python', '-c', _HASH_IN_TWO_THREADS),
        script=f'LD_PRELOAD="$LD_PRELOAD:{amx}" exec /usr/bin/linux.uml "$@"',
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == hashlib.sha256(bytes(1 << 24)).hexdigest() + '\n'


def test_user_mode_linux_does_not_boot_there_by_itself(
    amx: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """If this fails, Debian's is new enough: see ``whole_state.c``."""
    done = running.lab(
        tmp_path,
        'true',
        script=f'LD_PRELOAD={amx} exec /usr/bin/linux.uml "$@"',
    )
    assert done.returncode == guest.EXIT_NO_GUEST
    assert 'ptrace set fp regs failed, errno = 14' in done.stderr


def test_nothing_of_it_reaches_the_guest(tmp_path: pathlib.Path) -> None:
    seen = 'cat /proc/[0-9]*/environ /proc/[0-9]*/maps'
    done = running.lab(tmp_path, 'sh', '-c', f'{seen} | tr "\\0" "\\n"')
    assert done.returncode == 0, done.stderr
    assert 'LAB_INSIDE' in done.stdout
    assert 'libc.so' in done.stdout
    assert 'LD_PRELOAD' not in done.stdout
    assert 'whole_state.so' not in done.stdout
