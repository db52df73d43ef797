# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""os-brick and attachworker at the same target at the same time."""

from collections.abc import Iterator
import threading
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.kernel import bed as kernel_bed
from tests.peer import process

pytestmark = pytest.mark.kernel

#: How often os-brick attaches and detaches its volume.
_TURNS = 3
#: Seconds that either may wait for the other one, on a busy machine: os-brick
#: has its lock for as long as a call takes.
_PATIENCE = 150

#: Of a snapshot: what either may have taken away, or left. os-brick leaves
#: lock files.
_LASTING = ('sessions', 'node_records', 'scsi_devices', 'block_devices')


@pytest.fixture
def worker(
    bed: kernel_bed.KernelBed, peer: process.Peer
) -> Iterator[harness.Harness]:
    options: dict[str, Any] = {'os_brick_lock_paths': [peer.lock_path]}
    with harness.Harness(bed, iscsi=options) as running:
        yield running


class Pace:
    """Has each keep its volume while the other one does something.

    os-brick never waits while we do, so that neither waits for ever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ours = 0
        self._theirs = 0
        self._we_wait = False
        self.over = False

    def end(self) -> None:
        """Nobody waits for the other one any more."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def we_did(self) -> None:
        with self._changed:
            self._ours += 1
            self._changed.notify_all()

    def they_did(self) -> None:
        with self._changed:
            self._theirs += 1
            self._changed.notify_all()

    def wait_for_them(self) -> None:
        """Until a call of os-brick has ended."""
        with self._changed:
            seen = self._theirs
            self._we_wait = True
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: self.over or self._theirs > seen, _PATIENCE
            )
            self._we_wait = False
        assert done, 'os-brick does not return'

    def wait_for_us(self) -> None:
        """Until an operation of ours has ended, or we wait for os-brick."""
        with self._changed:
            seen = self._ours
            self._changed.wait_for(
                lambda: self.over or self._we_wait or self._ours > seen
            )


class Neighbour:
    """Attaches and detaches a volume with os-brick, some times."""

    def __init__(
        self,
        bed: kernel_bed.KernelBed,
        peer: process.Peer,
        volume: beds.Volume,
        pace: Pace,
    ) -> None:
        self._bed = bed
        self._peer = peer
        self._volume = volume
        self._pace = pace
        self._thread = threading.Thread(target=self._run)
        self.troubles: list[str] = []

    def __enter__(self) -> 'Neighbour':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pace.end()
        self._thread.join()

    def turn(self) -> None:
        data = self._volume.connection_info()['data']
        made = self._peer.connect(data)
        self._pace.they_did()
        if made.error:
            self.troubles.append(f'connect: {made.error} {made.message}')
            return
        self._look(made.result)
        self._pace.wait_for_us()
        self._look(made.result)
        ended = self._peer.disconnect(data, made.result)
        self._pace.they_did()
        if ended.error:
            self.troubles.append(f'disconnect: {ended.error} {ended.message}')

    def _look(self, device: dict[str, Any]) -> None:
        if self._bed.read(device['path']) != self._volume.pattern:
            self.troubles.append(f'other data on {device}')

    def _run(self) -> None:
        try:
            for _ in range(_TURNS):
                if self.troubles or self._pace.over:
                    break
                self.turn()
        except (OSError, process.PeerEnded) as error:
            self.troubles.append(repr(error))
        finally:
            self._pace.end()


def test_our_session_stays_while_os_brick_uses_it(
    bed: kernel_bed.KernelBed, peer: process.Peer, worker: harness.Harness
) -> None:
    # Given a session that we have made, and os-brick's volume on it
    ours = bed.create_volume()
    theirs = bed.create_volume(on=ours)
    before = bed.snapshot()
    result = worker.attach(ours)
    assert result.error is None, result.error.message
    data = theirs.connection_info()['data']
    made = peer.connect(data)
    assert not made.error, made.message
    assert len(bed.snapshot()['sessions']) == 1
    # When we detach ours
    result = worker.detach(ours.name)
    # Then os-brick has its device still
    assert result.error is None, result.error.message
    assert bed.read(made.result['path']) == theirs.pattern
    # And ends the session, as the last one
    ended = peer.disconnect(data, made.result)
    assert not ended.error, ended.message
    after = bed.snapshot()
    assert {name: after[name] for name in _LASTING} == {
        name: before[name] for name in _LASTING
    }
    bed.remove_volume(theirs)
    bed.remove_volume(ours)


def test_neither_takes_a_session_or_a_device_from_the_other(
    bed: kernel_bed.KernelBed, peer: process.Peer, worker: harness.Harness
) -> None:
    # Given a target with a volume for each
    ours = bed.create_volume()
    theirs = bed.create_volume(on=ours)
    before = bed.snapshot()

    # When both attach and detach, each as the last one at times
    pace = Pace()
    turns = 0
    with Neighbour(bed, peer, theirs, pace) as neighbour:
        while not pace.over:
            result = worker.attach(ours, deadline_seconds=_PATIENCE)
            assert result.error is None, result.error.message
            path = result.device.path
            pace.we_did()
            assert bed.read(path) == ours.pattern
            if turns % 2:
                pace.wait_for_them()
            # Then we have not lost our device meanwhile
            assert bed.read(path) == ours.pattern
            result = worker.detach(ours.name)
            assert result.error is None, result.error.message
            pace.we_did()
            turns += 1

    # And neither has os-brick
    assert neighbour.troubles == []
    assert turns >= 2
    # And nothing is left. A session of os-brick's that it does not end because
    # of our device is not ours to end, either: it goes with its next turn.
    neighbour.turn()
    assert neighbour.troubles == []
    after = bed.snapshot()
    assert {name: after[name] for name in _LASTING} == {
        name: before[name] for name in _LASTING
    }
    bed.remove_volume(theirs)
    bed.remove_volume(ours)
