# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""A rotation that an earlier worker has begun, brought to its one end."""

from collections.abc import Iterator
import pathlib

import pytest

from attachworker import objects
from attachworker.host import encryption
from attachworker.journal import Sealer
from tests.simulator import bed as beds
from tests.simulator.faults import Fault
from tests.unit.earlier import Earlier
from tests.unit.earlier import ended
from tests.unit.earlier import worker

OLD, NEW = 'CANARY-old', 'CANARY-new'


@pytest.fixture(scope='module')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


class Begun:
    """A volume that is open, and a worker that was killed."""

    def __init__(self, bed: beds.SimulatedBed, state: pathlib.Path) -> None:
        self.bed, self.state = bed, state
        self.volume = bed.create_volume()
        bed.encrypt(self.volume, 'luks2', OLD)
        with worker(bed, state) as running:
            attached = running.attach(
                self.volume, encryption={'provider': 'luks2', 'key': OLD}
            )
            assert attached.status == 'attached', attached.as_dict()
        self._disk = attached.device.paths[0].device
        self.earlier = Earlier(bed, state)

    def accepts(self, sealed: bytes | None = None) -> None:
        request = objects.RotateKeyRequest(
            request_id='rotate',
            attachment_id=self.volume.name,
            old_key=OLD,
            new_key=NEW,
        )
        sealer = Sealer(self.state / 'run', str(self.state))
        self.earlier.accepts(
            'rotate', request, sealed=sealed or sealer.seal(request)
        )

    def adds(self, noted: bool = True) -> None:
        if noted:
            self.earlier.records.intend_key('rotate')
        self._change(self.bed.verbs.encryption.add_key, OLD, NEW)

    def removes(self) -> None:
        self._change(self.bed.verbs.encryption.remove_key, OLD, NEW)

    def _change(self, verb: object, key: str, other: str) -> None:
        assert callable(verb)
        verb(
            *(self._disk, self.bed.instance(self._disk)),
            *(encryption.name_of(self.volume.name), 'luks2', key, other),
            *(0, 60.0),
        )

    def was_tried(self, times: int) -> None:
        for _ in range(times):
            self.earlier.records.count_attempt('rotate')

    def opening(self) -> list[str]:
        return [
            key
            for key in (OLD, NEW)
            if self.bed.verbs.encryption.has_key(
                *(self._disk, self.bed.instance(self._disk)),
                *('luks2', key, 0, 60.0),
            )
        ]

    def ends(self) -> tuple[objects.OperationResult, list[str]]:
        """What the next worker makes of it, and which keys open it then."""
        self.earlier.dies()
        name = self.volume.name
        with worker(self.bed, self.state) as running:
            found = ended(running, 'rotate')
            assert 'CANARY' not in str(found.as_dict())
            opening = self.opening()
            assert running.attachments() == [f'{name} attached']
            assert running.detach(name).status == 'detached'
        return found, opening


@pytest.fixture
def begun(
    shared_bed: beds.SimulatedBed, tmp_path: pathlib.Path
) -> Iterator[Begun]:
    yield Begun(shared_bed, tmp_path / 'state')
    shared_bed.restart_host()


@pytest.mark.parametrize('steps', [0, 1, 2])
def test_it_goes_on_from_where_the_volume_is(begun: Begun, steps: int) -> None:
    # Given one that has added its key, or has removed the old one, too
    begun.accepts()
    for step in (begun.adds, begun.removes)[:steps]:
        step()
    result, opening = begun.ends()
    assert result.status == 'rotated', result.as_dict()
    assert opening == [NEW]


@pytest.mark.parametrize('noted', [False, True])
def test_what_fails_takes_back_what_was_added(
    begun: Begun, noted: bool
) -> None:
    # Given one that has added its key, or has found it there
    begun.accepts()
    begun.adds(noted)
    # When the next worker cannot go on
    begun.bed.arm(Fault.FAIL_BEFORE, 'encryption.remove_key', times=1)
    result, opening = begun.ends()
    # Then that key goes, unless somebody else has put it there
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert result.error.step == 'RemoveKey'
    assert result.leftovers == []
    assert opening == ([OLD] if noted else [OLD, NEW])


@pytest.mark.parametrize('verb', ['read_header', 'has_key'])
def test_what_cannot_be_looked_at_for_a_moment(
    begun: Begun, verb: str
) -> None:
    # Given one that has added its key, and a first look that fails
    begun.accepts()
    begun.adds()
    begun.bed.arm(Fault.FAIL_BEFORE, f'encryption.{verb}', times=1)
    result, opening = begun.ends()
    # Then that key goes as well
    assert result.error.step == 'CheckKeys', result.as_dict()
    assert (result.leftovers, opening) == ([], [OLD])


def test_what_cannot_be_taken_back_is_told(begun: Begun) -> None:
    begun.accepts()
    begun.adds()
    begun.bed.arm(Fault.FAIL_BEFORE, 'encryption.remove_key', times=2)
    result, opening = begun.ends()
    assert result.status == 'failed'
    assert 'the new key may open the volume' in result.leftovers[-1]
    assert opening == [OLD, NEW]


@pytest.mark.parametrize('removed', [False, True])
def test_one_that_was_tried_too_often(begun: Begun, removed: bool) -> None:
    # Given one that has killed its worker again and again
    begun.accepts()
    begun.adds()
    if removed:
        begun.removes()
    begun.was_tried(3)
    # Then it is not tried any more, but one key is what the result says
    result, opening = begun.ends()
    if removed:
        assert (result.status, opening) == ('rotated', [NEW])
    else:
        assert (result.status, opening) == ('failed', [OLD])
        assert result.leftovers == []
        assert 'was restarted' in result.error.message


@pytest.mark.parametrize('noted', [False, True])
def test_one_whose_keys_are_lost(begun: Begun, noted: bool) -> None:
    # Given a worker that has no key for its secrets any more
    begun.accepts(sealed=b'with another key')
    if noted:
        begun.adds()
    result, opening = begun.ends()
    # Then it says what it cannot know
    assert result.status == 'failed'
    assert result.error.retryable
    assert bool(result.leftovers) == noted
    assert opening == ([OLD, NEW] if noted else [OLD])


@pytest.mark.parametrize('fault', [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize('verb', ['add_key', 'remove_key'])
def test_a_write_that_hangs(begun: Begun, verb: str, fault: Fault) -> None:
    # Given a storage that takes no write for the time of the request
    armed = begun.bed.arm(fault, f'encryption.{verb}')
    begun.earlier.dies()
    name = begun.volume.name
    with worker(begun.bed, begun.state) as running:
        result = running.rotate(name, OLD, NEW, deadline_seconds=3)
        # Then nobody says that it is known which key opens the volume
        assert result.error.code == 'deadline_exceeded', result.as_dict()
        assert 'the new key may open the volume' in result.leftovers[-1]
        # And once it has returned, a new request goes on from there
        armed.release()
        assert running.rotate(name, OLD, NEW).status == 'rotated'
        assert begun.opening() == [NEW]
        assert running.detach(name).status == 'detached'


def test_of_before_a_reboot(begun: Begun) -> None:
    # Given a host that dies when the key was added
    begun.accepts()
    begun.adds()
    begun.bed.restart_host()
    begun.earlier.dies()
    with worker(begun.bed, begun.state) as running:
        result = ended(running, 'rotate')
        # Then it is not attached any more, and the caller is told
        assert result.error.code == 'attachment_not_found', result.as_dict()
        assert 'the new key may open the volume' in result.leftovers[-1]
        # When it is attached again, then a new request does it
        name = begun.volume.name
        wanted = {'provider': 'luks2', 'key': OLD}
        attached = running.attach(begun.volume, encryption=wanted)
        assert attached.status == 'attached', attached.as_dict()
        assert running.rotate(name, OLD, NEW).status == 'rotated'
        assert running.detach(name).status == 'detached'
