# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Secrets of CHAP and LUKS on a real host, with the real helper and its tools.

tests/functional/test_canary.py has each kind of secret, on a simulated host.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import logging
import pathlib
import stat
import subprocess
import tempfile
import threading
from typing import Any

import pytest

from attachworker import host as hosts
from attachworker.bus import transport
from attachworker.cmd import steps
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds
from tests.crash import kill_points
from tests.crash import scene
from tests.crash import victim
from tests.kernel import crashing
from tests.kernel.bed import KernelBed

CHAP = 'CANARY5ecretOfChap'
KEY = 'CANARY-key-of-a-volume'
_MARK = b'CANARY'
#: Where the worker, its helper, and what they start write anything, or may;
#: the state of the worker is in /dev/shm.
_PLACES = (
    '/run',
    '/dev/shm',
    '/etc/iscsi',
    '/etc/multipath',
    '/var/lib/iscsi',
    '/var/log',
)
#: Where the kernel shows sessions and mappings.
_SYSFS = ('/sys/devices/platform', '/sys/devices/virtual/block')
#: Volumes are longer; bytes.
_LONGEST = 4 << 20


class Loud:
    """The machine of workers that log whatever can be logged."""

    def __init__(self, log: pathlib.Path) -> None:
        self._log = log

    def __call__(self, points: kill_points.Points) -> hosts.Host:
        logging.basicConfig(filename=self._log, level=logging.DEBUG)
        return crashing.Machine()(points)


@dataclasses.dataclass(frozen=True)
class Act:
    """What one worker is asked for; goes to another process.

    :ivar told: gets all that the worker tells
    :ivar wanted: of an attach; None: what was begun before is waited for
    :ivar detaches: what is detached in the end
    """

    told: pathlib.Path
    volume: beds.Volume
    wanted: dict[str, Any] | None = None
    detaches: bool = False

    def __call__(self, worker: harness.Harness) -> None:
        seen: list[Any] = []
        state = pathlib.Path(worker.conf.state_path)
        with steps.StepWatcher(
            transport.get_transport(worker.conf),
            lambda event, payload: seen.append(dict(payload)),
        ):
            if self.wanted is not None:
                result = worker.attach(self.volume, **self.wanted)
                seen.append(result.as_dict())
            elif self.detaches:
                seen.append(worker.detach(self.volume.name).as_dict())
            else:
                scene.Await(state)()
            seen.append(worker.api.audit({}, worker.name).as_dict())
            seen.append(worker.attachments())
        with open(self.told, 'a', encoding='utf-8') as file:
            file.write(json.dumps(seen, default=str) + '\n')


class Processes:
    """Looks at the arguments and the environment of all, while in use."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> 'Processes':
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            self.looks += 1
            for name in ('cmdline', 'environ'):
                for path in pathlib.Path('/proc').glob(f'[0-9]*/{name}'):
                    with contextlib.suppress(OSError):
                        if _MARK in path.read_bytes():
                            self.found.add(str(path))


def files_with_it() -> list[str]:
    """Files of this host that hold a secret, whoever may read them."""
    # In /tmp there is also what the machine around the guest has there.
    with tempfile.NamedTemporaryFile(dir='/tmp') as one:
        ours = pathlib.Path(one.name).stat().st_dev
        found = list(_files(pathlib.Path('/tmp').glob('*'), ours))
    for place in map(pathlib.Path, _PLACES):
        found += _files(place.rglob('*'))
    return sorted(str(one) for one in found if _MARK in _content(one))


def _files(
    paths: Iterable[pathlib.Path], device: int | None = None
) -> Iterator[pathlib.Path]:
    for path in paths:
        with contextlib.suppress(OSError):  # gone meanwhile
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST:
                continue
            if device in (None, status.st_dev):
                yield path


def _content(path: pathlib.Path) -> bytes:
    with contextlib.suppress(OSError):  # the same
        return path.read_bytes()
    return b''


def shown_by_the_kernel(*who: str) -> list[str]:
    """What it shows a user of in sysfs; to root without ``who``."""
    # (the pattern would be in the list of processes)
    found = subprocess.run(
        [*who, 'grep', '-rlsaf', '-', *_SYSFS],
        input=_MARK.decode(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return [pathlib.Path(one).name for one in found.stdout.splitlines()]


@pytest.mark.timeout(300)
def test_a_secret_is_nowhere_whatever_happens(
    bed: KernelBed, tmp_path: pathlib.Path
) -> None:
    assert tmp_path.is_relative_to('/dev/shm')
    # Given a volume whose target and whose header want a secret
    volume = bed.create_volume(chap=('user', CHAP))
    bed.encrypt(volume, 'luks2', KEY)
    before = bed.snapshot()
    wanted = {'encryption': {'provider': 'luks2', 'key': KEY}}
    wrong = {'encryption': {'provider': 'luks2', 'key': f'{KEY}?'}}
    log, told = tmp_path / 'log', tmp_path / 'told'

    def work(
        fatal: str | None = None, recovers: bool = False, **act: Any
    ) -> str:
        """What a worker has told, that may be killed on the way."""
        order = victim.Order(
            Loud(log), tmp_path, Act(told, volume, **act), recovers
        )
        killed, _ = victim.run(order, fatal)
        assert killed == (fatal is not None)
        assert files_with_it() == []
        return '' if killed else told.read_text().splitlines()[-1]

    with Processes() as processes:
        # When an attach fails, after both were used
        assert '"encryption_failed"' in work(wanted=wrong)
        assert bed.snapshot() == before
        # And one is cut short while its device is opened, and recovered
        work('encryption.open after #1', wanted=wanted)
        assert '"status": "attached"' in work(recovers=True) or (
            f'{volume.name} attached' in told.read_text().splitlines()[-1]
        )
        # Then no user of the host is shown one while it is attached
        nobody = (
            'setpriv',
            '--reuid=65534',
            '--regid=65534',
            '--clear-groups',
        )
        assert shown_by_the_kernel(*nobody) == []
        # (and root alone that of the session, by the kernel itself)
        assert set(shown_by_the_kernel()) <= {'password', 'password_in'}
        # And when it is detached
        assert '"detached"' in work(detaches=True)
    # Then it was in no command, no file, no log and no answer
    assert processes.looks
    assert processes.found == set()
    assert shown_by_the_kernel() == []
    dmesg = subprocess.run(['dmesg'], stdout=subprocess.PIPE, check=True)
    assert _MARK not in dmesg.stdout
    assert log.stat().st_size > 10_000
    assert 'DEBUG' in log.read_text()
    assert actors.until(lambda: bed.snapshot() == before)
