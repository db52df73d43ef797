# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Maps as sysfs shows them, and what multipathd says and refuses."""

from collections.abc import Callable
from collections.abc import Iterator
import errno
import functools
import pathlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import privileged
from attachworker.host import machine
from attachworker.host import multipath
from attachworker.host import uevents
from attachworker.host import verbs
from tests.unit.host import fake_uevents

WWID = '36001405000000001'
BUSY = OSError(errno.EBUSY, 'multipathd: fail')
CHANGED = {'ACTION': 'change', 'DEVPATH': '/devices/virtual/block/dm-0'}


class Here(verbs.Verbs):
    """Runs a verb in the thread of the caller, however long it takes."""

    def call(
        self, verb: Callable[..., Any], *arguments: Any, **about: Any
    ) -> Any:
        return verb(*arguments)


class Slow(verbs.Verbs):
    """No verb returns in the time that is left."""

    def call(
        self, verb: Callable[..., Any], *arguments: Any, **about: Any
    ) -> Any:
        raise exception.DeadlineExceeded(step=about['name'])


class Daemon:
    """multipathd, as the privileged verbs show it."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.resized: list[str] = []
        self.answer: Callable[[int], None] = lambda asked: None
        self.answers: list[bool] = []
        self.refusals: list[OSError] = []
        self.queueing: list[tuple[str, bool]] = []
        self.removed: list[str] = []
        self.blacklist: set[str] = set()

    def remember(self, wwid: str) -> None:
        privileged.multipath.remember(wwid)

    def forget(self, wwid: str) -> None:
        privileged.multipath.forget(wwid)

    def running(self) -> bool:
        return self.answers.pop(0)

    def map_paths(self, map_name: str) -> list[tuple[str, str]]:
        if self.refusals:
            raise self.refusals.pop(0)
        return self.states

    def set_queueing(self, map_name: str, queue: bool) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.queueing.append((map_name, queue))

    def make_map(self, disk: str) -> None:
        if disk in self.blacklist:
            raise PermissionError(errno.EPERM, 'multipathd: blacklisted')

    def remove_map(self, map_name: str) -> None:
        self.removed.append(map_name)

    def resize_map(self, map_name: str) -> None:
        self.resized.append(map_name)
        self.answer(len(self.resized))


def machine_of(
    root: pathlib.Path,
    daemon: Daemon,
    calls: verbs.Verbs,
    monitor: uevents.UeventMonitor,
) -> machine.Machine:
    verbs_of = types.SimpleNamespace(multipath=daemon)
    return machine.Machine(root, verbs_of, calls, monitor)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def source() -> fake_uevents.FakeSource:
    return fake_uevents.FakeSource()


@pytest.fixture
def maps(
    tmp_path: pathlib.Path, daemon: Daemon, source: fake_uevents.FakeSource
) -> Iterator[multipath.Multipath]:
    # Only an event makes it look again.
    monitor = uevents.UeventMonitor(source, fallback_interval=3600.0)
    yield multipath.Multipath(machine_of(tmp_path, daemon, Here(), monitor))
    monitor.close()


def dm(root: pathlib.Path, name: str, uuid: str, *disks: str) -> None:
    """A device-mapper device on top of disks, as sysfs shows it."""
    block = root / 'sys/class/block'
    block.mkdir(parents=True, exist_ok=True)
    (root / 'sys/devices/virtual/block' / name / 'dm').mkdir(parents=True)
    (block / name).symlink_to(f'../../devices/virtual/block/{name}')
    (block / name / 'dm/uuid').write_text(f'{uuid}\n')
    (block / name / 'slaves').mkdir()
    for disk in disks:
        (block / name / 'slaves' / disk).touch()
        (block / disk / 'holders').mkdir(parents=True, exist_ok=True)
        (block / disk / 'holders' / name).touch()


MAP = multipath.Map('dm-0', WWID, ('sda', 'sdb'))


def test_a_map_is_known_by_its_uuid(
    tmp_path: pathlib.Path, maps: multipath.Multipath
) -> None:
    # Given a disk that other things hold, too, some of them with its WWID
    dm(tmp_path, 'dm-1', 'LVM-abcdef', 'sda')
    dm(tmp_path, 'dm-2', f'part1-mpath-{WWID}', 'sda')
    dm(tmp_path, 'dm-3', f'CRYPT-LUKS2-{WWID}', 'sda')
    # Then none of them is its map
    assert maps.of('sda') is None
    assert maps.find(WWID) is None
    # And the one that is, is found from either side
    dm(tmp_path, 'dm-0', f'mpath-{WWID}', 'sda', 'sdb')
    assert maps.of('sda') == maps.of('sdb') == maps.find(WWID) == MAP


@pytest.mark.parametrize('wwid', ['1ACME_a/b', '1' + 'x' * 200, '1\\x1b'])
def test_what_cannot_be_listed_is_not(
    maps: multipath.Multipath, wwid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target says what its volume is called: anything."""
    monkeypatch.setattr(privileged.default, 'client_mode', False)
    maps.remember(wwid, deadlines.Deadline.after(10))
    maps.forget(wwid, deadlines.Deadline.after(10))


def test_a_map_of_another_volume(
    tmp_path: pathlib.Path, maps: multipath.Multipath
) -> None:
    dm(tmp_path, 'dm-0', f'mpath-{WWID}0', 'sda')
    assert maps.find(WWID) is None
    assert maps.of('sdb') is None


def test_a_map_of_the_same_kernel_name_is_not_removed(
    tmp_path: pathlib.Path, maps: multipath.Multipath, daemon: Daemon
) -> None:
    # Given a map that has gone, and another volume's of its name
    dm(tmp_path, 'dm-0', f'mpath-{WWID}0', 'sda')
    # Then that one stays, and the first one is gone
    assert maps.remove(MAP, deadlines.Deadline.after(10))
    assert daemon.removed == []


def test_only_what_is_refused_for_good_is_not_waited_for(
    maps: multipath.Multipath, daemon: Daemon
) -> None:
    # Given one disk of two on the blacklist
    daemon.blacklist = {'sda'}
    asked = []

    def give_up() -> bool:
        asked.append(1)
        return len(asked) > 2

    wait = functools.partial(
        maps.wait_for, WWID, ['sda', 'sdb'], 1, False, give_up=give_up
    )
    # Then the other one may come yet
    assert wait(deadlines.Deadline.after(30)) is None
    assert len(asked) == 3
    # And with both there, nothing is waited for
    daemon.blacklist = {'sda', 'sdb'}
    asked.clear()
    assert wait(deadlines.Deadline.after(30)) is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    ('states', 'working'),
    [
        ([('sda', 'active'), ('sdb', 'active')], ['sda', 'sdb']),
        ([('sda', 'failed'), ('sdb', 'active')], ['sdb']),
        ([('sda', 'undef'), ('sdb', 'failed')], []),
        ([], []),
    ],
)
def test_only_active_paths_work(
    maps: multipath.Multipath,
    daemon: Daemon,
    deadline: deadlines.Deadline,
    states: list[tuple[str, str]],
    working: list[str],
) -> None:
    daemon.states = states
    assert maps.working(MAP, deadline) == working


def test_a_resize_is_asked_for_again_when_the_map_has_changed(
    maps: multipath.Multipath,
    daemon: Daemon,
    source: fake_uevents.FakeSource,
    deadline: deadlines.Deadline,
) -> None:
    # Given a multipathd that refuses once, for udev has not seen the map
    def refuse_once(asked: int) -> None:
        if asked == 1:
            source.put(CHANGED)
            raise BUSY

    daemon.answer = refuse_once
    # When a resize is asked for
    maps.resize(MAP, deadline)
    # Then it was asked again, and has done it
    assert daemon.resized == ['dm-0', 'dm-0']


def test_a_resize_that_is_refused_until_the_deadline(
    maps: multipath.Multipath, daemon: Daemon
) -> None:
    # Given a multipathd that refuses, and time that is over then
    deadline = deadlines.Deadline.after(60.0)

    def refuse(asked: int) -> None:
        deadline.at = 0.0
        raise BUSY

    daemon.answer = refuse
    # Then what it has said is what the caller gets
    with pytest.raises(OSError, match='multipathd: fail'):
        maps.resize(MAP, deadline)
    assert daemon.resized == ['dm-0']


def test_a_resize_without_multipathd_does_not_wait(
    maps: multipath.Multipath, daemon: Daemon, deadline: deadlines.Deadline
) -> None:
    def absent(asked: int) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, 'nobody there')

    daemon.answer = absent
    with pytest.raises(ConnectionRefusedError):
        maps.resize(MAP, deadline)
    assert daemon.resized == ['dm-0']


def test_a_resize_after_the_deadline_is_not_asked_for(
    maps: multipath.Multipath, daemon: Daemon
) -> None:
    with pytest.raises(OSError, match='not asked in time'):
        maps.resize(MAP, deadlines.Deadline.after(0.0))
    assert daemon.resized == []


@pytest.fixture
def restless(
    tmp_path: pathlib.Path, daemon: Daemon, source: fake_uevents.FakeSource
) -> Iterator[multipath.Multipath]:
    """Looks again without an event."""
    monitor = uevents.UeventMonitor(source, fallback_interval=0.01)
    yield multipath.Multipath(machine_of(tmp_path, daemon, Here(), monitor))
    monitor.close()


def test_a_daemon_that_died_is_waited_for(
    tmp_path: pathlib.Path, daemon: Daemon, restless: multipath.Multipath
) -> None:
    # Given what multipathd leaves behind when it dies
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/multipathd.pid').touch()
    # When it does not answer for a while
    daemon.answers = [False, False, True]
    # Then it is asked until it does
    assert restless.returns(deadlines.Deadline.after(60.0))
    assert daemon.answers == []


def test_a_daemon_that_does_not_come_back(
    tmp_path: pathlib.Path, daemon: Daemon, restless: multipath.Multipath
) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/multipathd.pid').touch()
    daemon.answers = [False] * 1000
    assert not restless.returns(deadlines.Deadline.after(0.1))


def test_a_daemon_that_was_stopped_is_not_waited_for(
    daemon: Daemon, maps: multipath.Multipath
) -> None:
    daemon.answers = [False]
    assert not maps.returns(deadlines.Deadline.after(60.0))
    daemon.answers = [True]
    assert maps.returns(deadlines.Deadline.after(60.0))


GONE = ConnectionRefusedError(errno.ECONNREFUSED, 'nobody there')
HUNG_UP = BrokenPipeError(errno.EPIPE, 'multipathd has hung up')


def test_a_map_is_asked_about_again_after_a_death(
    tmp_path: pathlib.Path, daemon: Daemon, restless: multipath.Multipath
) -> None:
    # Given a multipathd that dies, comes back, and does not know the map yet
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/multipathd.pid').touch()
    daemon.refusals = [HUNG_UP, GONE, BUSY]
    daemon.states = [('sda', 'active'), ('sdb', 'failed')]
    # Then what it says in the end counts
    deadline = deadlines.Deadline.after(60.0)
    assert restless.working(MAP, deadline) == ['sda']
    assert daemon.refusals == []
    # And what it does not say in time is told
    daemon.refusals = [GONE] * 1000
    with pytest.raises(ConnectionRefusedError):
        restless.working(MAP, deadlines.Deadline.after(0.1))


def test_a_map_is_asked_about_once_when_multipathd_was_stopped(
    daemon: Daemon, maps: multipath.Multipath
) -> None:
    daemon.refusals = [GONE] * 2
    with pytest.raises(OSError, match=str(GONE.strerror)):
        maps.working(MAP, deadlines.Deadline.after(60.0))
    assert daemon.refusals == [GONE]


def test_a_map_that_multipathd_is_about_to_learn_of(
    daemon: Daemon, restless: multipath.Multipath
) -> None:
    # Given a multipathd that hears of the removal of an earlier map of the
    # same kernel name only now, and then of the new one
    deadline = deadlines.Deadline.after(60.0)
    daemon.states = [('sda', 'active')]
    # Then what it says in the end counts
    daemon.refusals = [BUSY, BUSY]
    assert restless.working(MAP, deadline) == ['sda']
    daemon.refusals = [BUSY, BUSY]
    restless.set_queueing(MAP, False, deadline)
    assert daemon.queueing == [('dm-0', False)]
    # And what it refuses for good is told
    daemon.refusals = [BUSY] * 1000
    with pytest.raises(OSError, match='multipathd: fail'):
        restless.working(MAP, deadlines.Deadline.after(0.1))


def test_a_map_that_does_not_come_in_time_is_no_deadline_that_has_passed(
    tmp_path: pathlib.Path, source: fake_uevents.FakeSource
) -> None:
    # Given a disk without a map, and a multipathd that is slow to answer
    (tmp_path / 'sys/class/block/sda/holders').mkdir(parents=True)
    monitor = uevents.UeventMonitor(source, fallback_interval=0.01)
    slow = multipath.Multipath(machine_of(tmp_path, Daemon(), Slow(), monitor))
    # When its map is waited for, then there is none yet, and that is all
    limit = deadlines.Deadline.after(0.2)
    assert slow.wait_for(WWID, ['sda'], 1, True, limit) is None
    monitor.close()


def test_a_resize_waits_for_a_daemon_that_died(
    tmp_path: pathlib.Path, daemon: Daemon, restless: multipath.Multipath
) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/multipathd.pid').touch()

    def absent(asked: int) -> None:
        if asked < 3:
            raise GONE

    daemon.answer = absent
    restless.resize(MAP, deadlines.Deadline.after(60.0))
    assert daemon.resized == ['dm-0'] * 3
