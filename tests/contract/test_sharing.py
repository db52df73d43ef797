# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Two attachments of one volume: neither harms the other."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import threading
from typing import ClassVar
import uuid

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.tasks.run import Run
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds

PATIENCE = 60.0
#: Seconds in which what does not have to wait would have happened.
MOMENT = 1.0
MEBIBYTE = 1024 * 1024


class InterruptedRun(Run):
    """Something else happens as a step of an attachment begins or ends."""

    hooks: ClassVar[dict[tuple[str, str], Callable[[], object]]] = {}

    def _strike(self, point: str) -> None:
        act = InterruptedRun.hooks.pop((self.name, point), None)
        if act is not None:
            act()

    def before(self, step: str) -> None:
        super().before(step)
        self._strike(f'before {step.partition(":")[0]}')

    def after(self, step: str) -> None:
        self._strike(f'after {step.partition(":")[0]}')
        super().after(step)


class Beside(threading.Thread):
    """Something that goes on at the same time, and its result."""

    def __init__(self, act: Callable[[], objects.OperationResult]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._result: objects.OperationResult | None = None

    def run(self) -> None:
        self._result = self._act()

    def begin(self) -> None:
        """Start, and give it time to do what it need not wait for."""
        self.start()
        self.join(MOMENT)

    def result(self) -> objects.OperationResult:
        self.join(PATIENCE)
        assert self._result is not None, 'it has not ended'
        return self._result


@pytest.fixture(scope='module')
def shared_interrupted(shared_bed: beds.Bed) -> Iterator[harness.Harness]:
    with harness.Harness(
        shared_bed, run_class=InterruptedRun, iscsi={'login_timeout': 5}
    ) as running:
        yield running


@pytest.fixture
def worker(
    bed: beds.Bed, shared_interrupted: harness.Harness
) -> Iterator[harness.Harness]:
    """A worker that has, after the test, nothing attached."""
    yield shared_interrupted
    InterruptedRun.hooks.clear()
    left = shared_interrupted.attachments()
    for attachment in left:
        shared_interrupted.detach(attachment.partition(' ')[0], force=True)
    assert left == []


def through(volume: beds.Volume, *portals: int) -> beds.Volume:
    """The same volume, of which a request names only some portals."""
    chosen = tuple(volume.portals[one] for one in portals)
    return dataclasses.replace(volume, portals=chosen)


def attached(
    worker: harness.Harness,
    volume: beds.Volume,
    name: str,
    **values: object,
) -> objects.DeviceInfo:
    result = worker.attach(volume, name, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(
    worker: harness.Harness, name: str, **values: object
) -> objects.OperationResult:
    result = worker.detach(name, **values)
    assert result.status == 'detached', result.as_dict()
    return result


def holds(
    bed: beds.Bed, device: objects.DeviceInfo, volume: beds.Volume
) -> bool:
    return bed.read(device.path) == volume.pattern


def disks(bed: beds.Bed) -> set[str]:
    names = (bed.root / 'sys/class/block').iterdir()
    return {one.name for one in names if one.name.startswith('sd')}


@contextlib.contextmanager
def left_in_use(
    bed: beds.Bed, worker: harness.Harness, volume: beds.Volume, name: str
) -> Iterator[objects.OperationResult]:
    """An attach that is cancelled once somebody has its new device open.

    It is open until the end of the ``with`` block.
    """
    known = disks(bed)
    request_id = str(uuid.uuid4())
    with contextlib.ExitStack() as users:

        def meanwhile() -> None:
            (new,) = disks(bed) - known
            users.enter_context(bed.opened(f'/dev/{new}'))
            worker.api.cancel({}, worker.name, request_id)

        InterruptedRun.hooks[name, 'before VerifyDevice'] = meanwhile
        result = worker.attach(volume, name, request_id=request_id)
        assert result.error.code == 'cancelled', result.as_dict()
        yield result


@contextlib.contextmanager
def used(
    bed: beds.Bed, device: objects.DeviceInfo, use: bool
) -> Iterator[None]:
    if not use:
        yield
        return
    with bed.opened(device.path):
        yield


@pytest.mark.parametrize('named', ['the same', 'otherwise'])
def test_an_attach_that_comes_while_the_map_is_being_detached(
    bed: beds.Bed, worker: harness.Harness, named: str
) -> None:
    # Given a detach that has found its map unused
    volume = again = bed.create_volume(portals=2)
    if named == 'otherwise':
        again = bed.export_volume(volume, bed.create_volume(portals=2))
    attached(worker, volume, 'first', multipath=True, min_paths=2)
    second = Beside(
        lambda: worker.attach(again, 'second', multipath=True, min_paths=2)
    )
    # When another attachment of the volume comes right before the map goes
    InterruptedRun.hooks['first', 'before RemoveMap'] = second.begin
    detached(worker, 'first')
    # Then that one gets a device that stays
    result = second.result()
    assert result.status == 'attached', result.as_dict()
    assert holds(bed, result.device, volume)
    detached(worker, 'second')


@pytest.mark.parametrize('named', ['the same', 'otherwise'])
@pytest.mark.parametrize('portals', [1, 2])
def test_a_failed_attach_leaves_the_map_to_another(
    bed: beds.Bed, worker: harness.Harness, portals: int, named: str
) -> None:
    # Given an attach that has its map
    volume = again = bed.create_volume(portals=portals)
    if named == 'otherwise':
        again = bed.export_volume(volume, bed.create_volume(portals=portals))
    request_id = str(uuid.uuid4())
    second = Beside(lambda: worker.attach(again, 'second', multipath=True))

    def cancel() -> None:
        second.begin()
        worker.api.cancel({}, worker.name, request_id)

    # When another one comes, and then the first one is undone
    InterruptedRun.hooks['first', 'after MapMultipath'] = cancel
    result = worker.attach(
        volume, 'first', multipath=True, request_id=request_id
    )
    assert result.error.code == 'cancelled', result.as_dict()
    # Then the second one has its device
    result = second.result()
    assert result.status == 'attached', result.as_dict()
    assert holds(bed, result.device, volume)
    detached(worker, 'second')


@pytest.mark.parametrize('use', [False, True], ids=['idle', 'in use'])
@pytest.mark.parametrize('force', [False, True], ids=['', 'forced'])
def test_detach_of_one_path_leaves_the_map_of_the_other(
    bed: beds.Bed, worker: harness.Harness, use: bool, force: bool
) -> None:
    # Given two attachments, each through a portal of its own, with one map
    volume = bed.create_volume(portals=2)
    first = attached(worker, through(volume, 0), 'first', multipath=True)
    second = attached(worker, through(volume, 1), 'second', multipath=True)
    assert second.path == first.path
    with used(bed, second, use):
        # When one of them is detached
        result = detached(worker, 'first', force=force)
        assert 'another attachment' in ' '.join(result.warnings)
        # Then the other one has its device
        assert holds(bed, second, volume)
    # and when that is detached as well, then nothing is left
    detached(worker, 'second')


def test_a_volume_that_has_grown_is_attached_once_more(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment with a map, whose volume has grown since
    volume = bed.create_volume(resizable=True)
    other = bed.export_volume(volume, bed.create_volume())
    first = attached(worker, volume, 'first', multipath=True)
    size = 48 * MEBIBYTE
    bed.resize_volume(volume, size)
    # When it is attached under another name, with a disk of the new size
    second = attached(worker, other, 'second', multipath=True)
    # Then both have all of it, through both disks
    assert (second.path, second.size) == (first.path, size)
    slaves = bed.root / 'sys/class/block' / first.path[5:] / 'slaves'
    assert len(list(slaves.iterdir())) == 2
    assert holds(bed, second, volume)
    detached(worker, 'first')
    detached(worker, 'second')


def test_a_volume_that_grows_while_it_is_attached_twice(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attach that has its disk
    volume = bed.create_volume(resizable=True)
    other = bed.export_volume(volume, bed.create_volume())
    size = 48 * MEBIBYTE

    def meanwhile() -> None:
        bed.resize_volume(volume, size)
        attached(worker, other, 'second', multipath=True)

    # When the volume grows, and another attach makes a map of the new size
    InterruptedRun.hooks['first', 'before FindWwn'] = meanwhile
    first = attached(worker, volume, 'first', multipath=True)
    # Then both disks are in that
    assert first.size == size
    slaves = bed.root / 'sys/class/block' / first.path[5:] / 'slaves'
    assert len(list(slaves.iterdir())) == 2
    detached(worker, 'first')
    detached(worker, 'second')


@pytest.mark.parametrize(
    'point', ['after FindWwn', 'before MapMultipath', 'after VerifyDevice']
)
def test_an_attach_that_fails_gives_up_the_device_of_another_one(
    bed: beds.Bed, worker: harness.Harness, point: str
) -> None:
    # Given a volume that is attached
    volume = bed.create_volume()
    other = bed.export_volume(volume, bed.create_volume())
    before = bed.snapshot()
    first = attached(worker, volume, 'first')

    def fail() -> None:
        raise exception.HostToolFailed(what='A step', reason='of a test')

    # When an attach under another name uses its device, and fails then
    InterruptedRun.hooks['second', point] = fail
    result = worker.attach(other, 'second')
    assert (result.status, result.leftovers) == ('failed', [])
    # Then the first one has the device for itself again, and takes it along
    assert holds(bed, first, volume)
    assert detached(worker, 'first').warnings == []
    assert actors.until(lambda: bed.snapshot() == before)


def test_an_undo_leaves_a_device_that_somebody_uses(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attach whose new device somebody has opened
    volume = bed.create_volume()
    before = bed.snapshot()
    known = disks(bed)
    # When it is cancelled
    with left_in_use(bed, worker, volume, 'attachment') as result:
        # Then the device stays, and who uses it is told
        assert 'in use by process' in ' '.join(result.leftovers)
        assert len(disks(bed) - known) == 1
    # And it goes once nobody uses it
    assert actors.until(lambda: bed.snapshot() == before)
    assert actors.until(lambda: worker.attachments() == [])


def test_extend_of_one_keeps_the_paths_of_the_other(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given two attachments, each through a portal of its own, with one map
    volume = bed.create_volume(portals=2, resizable=True)
    first = attached(worker, through(volume, 0), 'first', multipath=True)
    attached(worker, through(volume, 1), 'second', multipath=True)
    slaves = bed.root / 'sys/class/block' / first.path[5:] / 'slaves'
    before = sorted(one.name for one in slaves.iterdir())
    assert len(before) == 2
    # When the volume grows, and one of them is extended
    size = 48 * MEBIBYTE
    bed.resize_volume(volume, size)
    result = worker.extend('first', size)
    # Then the map has grown, with all its paths
    assert result.status == 'extended', result.as_dict()
    assert sorted(one.name for one in slaves.iterdir()) == before
    detached(worker, 'first')
    assert worker.extend('second', size).status == 'extended'
    detached(worker, 'second')


@pytest.mark.parametrize('round', range(4))
def test_two_attaches_at_once_without_a_map_share_one_device(
    bed: beds.Bed, worker: harness.Harness, round: int
) -> None:
    # Given a volume behind two portals
    volume = bed.create_volume(portals=2)
    before = disks(bed)
    # When two callers attach it at the same time
    both = [
        Beside(lambda name=name: worker.attach(volume, name))
        for name in ('first', 'second')
    ]
    for one in both:
        one.start()
    results = [one.result() for one in both]
    # Then they have one device
    assert {one.status for one in results} == {'attached'}
    assert len({one.device.path for one in results}) == 1
    assert actors.until(lambda: len(disks(bed) - before) == 1)
    # And a forced detach of one leaves it to the other
    detached(worker, 'first', force=True)
    assert holds(bed, results[1].device, volume)
    detached(worker, 'second', force=True)


@pytest.mark.parametrize('portal', [0, 1])
def test_a_volume_that_is_here_without_a_map_gets_no_second_device(
    bed: beds.Bed, worker: harness.Harness, portal: int
) -> None:
    # Given a volume that is attached without a map
    volume = bed.create_volume(portals=2)
    first = attached(worker, through(volume, 0), 'first')
    before = disks(bed)
    # When it is attached again, with another portal or with a map
    second = attached(worker, through(volume, portal), 'second')
    third = attached(worker, volume, 'third', multipath=True)
    # Then that is the device that is there
    assert (second.path, third.path) == (first.path, first.path)
    assert third.degraded
    assert third.multipath_id is None
    assert actors.until(lambda: disks(bed) == before)
    # and it goes with the last
    detached(worker, 'first')
    detached(worker, 'third')
    assert holds(bed, second, volume)
    detached(worker, 'second')


@pytest.mark.parametrize('cancelled', [False, True])
def test_another_name_of_a_volume_leaves_no_map(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
    cancelled: bool,
) -> None:
    # Given a volume that is attached without a map, and has another name, and
    # a multipathd that makes a map of whatever has two paths
    multipathd('on')
    volume = bed.create_volume()
    other = bed.export_volume(volume, bed.create_volume())
    first = attached(worker, volume, 'first')
    before = bed.snapshot()
    holders = bed.root / 'sys/class/block' / first.path[5:] / 'holders'
    request_id = str(uuid.uuid4())

    def when_mapped() -> None:
        assert actors.until(lambda: list(holders.iterdir()))
        if cancelled:
            worker.api.cancel({}, worker.name, request_id)

    # When it is attached under that one, and multipathd makes a map of both
    InterruptedRun.hooks['second', 'before FindWwn'] = when_mapped
    result = worker.attach(other, 'second', request_id=request_id)
    # Then that is the device that is there, and in no map
    if cancelled:
        assert result.error.code == 'cancelled', result.as_dict()
        assert result.leftovers == []
    else:
        assert result.status == 'attached', result.as_dict()
        assert result.device.path == first.path
        assert list(holders.iterdir()) == []
        detached(worker, 'second')
    assert actors.until(lambda: bed.snapshot() == before)
    assert holds(bed, first, volume)
    detached(worker, 'first')


def test_who_has_the_map_of_another_keeps_it(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment without a map of its own, which got that of another
    volume = bed.create_volume(portals=2)
    first = attached(worker, volume, 'first', multipath=True)
    second = attached(worker, through(volume, 0), 'second')
    assert second.path == first.path
    # When the other one leaves, and it is attached once more
    detached(worker, 'first')
    # Then it has the device that it had
    assert attached(worker, through(volume, 0), 'second').path == first.path
    assert holds(bed, second, volume)
    detached(worker, 'second')


def test_a_failed_repeat_keeps_a_device_that_is_in_use(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment whose detach ended half way: its time was over
    volume = bed.create_volume()
    device = attached(worker, volume, 'attachment')
    too_late = threading.Event()
    InterruptedRun.hooks['attachment', 'after RecordDetaching'] = lambda: (
        too_late.wait(2.5)
    )
    result = worker.detach('attachment', deadline_seconds=2)
    assert result.error.code == 'deadline_exceeded', result.as_dict()
    # When its device is used, and it is attached again, and that fails
    request_id = str(uuid.uuid4())
    InterruptedRun.hooks['attachment', 'before VerifyDevice'] = lambda: (
        worker.api.cancel({}, worker.name, request_id)
    )
    with bed.opened(device.path):
        result = worker.attach(volume, 'attachment', request_id=request_id)
        assert result.error.code == 'cancelled', result.as_dict()
        # Then the device is still there
        assert holds(bed, device, volume)
    detached(worker, 'attachment')


def test_an_undo_waits_for_whoever_only_looks_at_a_new_device(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attach whose device somebody has open for a moment
    volume = bed.create_volume()
    before = bed.snapshot()
    request_id = str(uuid.uuid4())
    looked = threading.Event()

    def look() -> None:
        new = sorted(disks(bed) - known)
        with bed.opened(f'/dev/{new[0]}'):
            looked.set()
            threading.Event().wait(1.0)

    def meanwhile() -> None:
        threading.Thread(target=look, daemon=True).start()
        assert looked.wait(PATIENCE)
        worker.api.cancel({}, worker.name, request_id)

    # When it is cancelled then
    known = disks(bed)
    InterruptedRun.hooks['attachment', 'before VerifyDevice'] = meanwhile
    result = worker.attach(volume, 'attachment', request_id=request_id)
    # Then all is put back
    assert result.error.code == 'cancelled', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before


def test_clean_up_leaves_what_another_attachment_has_taken(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attach that was undone, and left a device that was in use
    volume = bed.create_volume()
    with left_in_use(bed, worker, volume, 'first') as result:
        assert 'in use by' in ' '.join(result.leftovers)
        # When the volume is attached once more, and then nobody uses it
        second = attached(worker, volume, 'second')
    # Then the clean-up of the first has nothing to do with that device
    assert actors.until(lambda: worker.attachments() == ['second attached'])
    assert holds(bed, second, volume)
    detached(worker, 'second')


def test_the_last_path_of_a_map_stays_when_an_attach_is_undone(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attach that adds a path to the map of another attachment
    volume = bed.create_volume()
    other = bed.export_volume(volume, bed.create_volume())
    first = attached(worker, volume, 'first', multipath=True)
    request_id = str(uuid.uuid4())
    name = first.path.removeprefix('/dev/')

    def working() -> int:
        states = bed.verbs.multipath.map_paths(name)
        return [state for _, state in states].count('active')

    def meanwhile() -> None:
        assert actors.until(lambda: working() == 2)
        bed.kill_path(volume, volume.portals[0])
        assert actors.until(lambda: working() == 1)
        worker.api.cancel({}, worker.name, request_id)

    # When the path that was there dies, and the attach is cancelled
    InterruptedRun.hooks['second', 'before VerifyDevice'] = meanwhile
    result = worker.attach(
        other, 'second', multipath=True, request_id=request_id
    )
    # Then the path that works stays
    assert result.error.code == 'cancelled', result.as_dict()
    assert f'the last path of {name}' in ' '.join(result.leftovers)
    assert holds(bed, first, volume)
    # And all goes with the other attachment
    bed.restore_path(volume, volume.portals[0])
    assert actors.until(lambda: working() == 2)
    detached(worker, 'first')
    assert actors.until(lambda: worker.attachments() == [])


@pytest.mark.parametrize('step', ['VerifyDevice', 'OpenEncryption'])
def test_a_name_that_goes_to_another_device_before_the_answer(
    bed: beds.Bed, worker: harness.Harness, step: str
) -> None:
    # Given an attach that knows its device
    volume, other = bed.create_volume(), bed.create_volume()
    values: dict[str, object] = {}
    if step == 'OpenEncryption':
        values['encryption'] = {'provider': 'plain', 'key': 'key'}
    somebody: list[actors.Somebody] = []

    def meanwhile() -> None:
        bed.drop_session(volume, volume.portals[0])
        somebody.append(actors.Somebody(bed, other))

    # When somebody ends its session, and the name goes to another volume
    InterruptedRun.hooks['attachment', f'before {step}'] = meanwhile
    result = worker.attach(volume, 'attachment', **values)
    # Then that one is not handed out
    assert result.status == 'failed', result.as_dict()
    assert result.error.code in ('device_not_found', 'identity_mismatch')
    assert result.leftovers == []
    assert holds_other(bed, somebody[0], other)
    somebody[0].close()


def holds_other(
    bed: beds.Bed, somebody: actors.Somebody, volume: beds.Volume
) -> bool:
    return bed.read(somebody.node()) == volume.pattern
