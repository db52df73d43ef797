# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Every step of every flow goes wrong in every way.

Whatever it is: one result, with the code and the step of the cause; and the
host is as it was before the request, or the request can be made again.
"""

from collections.abc import Callable
from collections.abc import Iterator
import time
import types
from typing import Any
import uuid

import pytest
from taskflow.flow import Flow

from attachworker import flows
from attachworker import objects
from attachworker.host import encryption
from tests import harness
from tests.contract import bed as beds
from tests.crash import faults
from tests.simulator.bed import SimulatedBed


def steps(
    build: Callable[..., Flow], encryption: str | None = None
) -> list[str]:
    """The task classes of a flow, taken from the flow itself."""
    target = objects.Target('192.0.2.1:3260', 'iqn.2026-01.example:one', 0)
    run = types.SimpleNamespace(targets=[target], encryption=encryption)
    graph = build(run)
    return [type(task).__name__ for task in _tasks(graph)]


def _tasks(of: Flow) -> Iterator[object]:
    """Those of flows within the flow too."""
    for child, _ in of.iter_nodes():
        if isinstance(child, Flow):
            yield from _tasks(child)
        else:
            yield child


_CODES = {
    faults.Mode.RAISES_BEFORE: 'internal',
    faults.Mode.RAISES_AFTER: 'internal',
    faults.Mode.HANGS: 'deadline_exceeded',
    faults.Mode.EXPIRES: 'deadline_exceeded',
}


@pytest.fixture(scope='module')
def bed() -> Iterator[beds.Bed]:
    bed = SimulatedBed()
    bed.set_multipathd()
    yield bed
    bed.close()


@pytest.fixture(
    scope='module', params=list(faults.Mode), ids=lambda mode: mode.name
)
def mode(request: pytest.FixtureRequest) -> faults.Mode:
    return request.param


@pytest.fixture(scope='module')
def run_class(mode: faults.Mode) -> type[faults.FailingRun]:
    return faults.failing(mode)


@pytest.fixture(scope='module')
def worker(
    bed: beds.Bed, run_class: type[faults.FailingRun]
) -> Iterator[harness.Harness]:
    with harness.Harness(bed, run_class=run_class) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_attached(worker: harness.Harness) -> Iterator[None]:
    """What a test that failed has left must not fail the next one."""
    yield
    for attachment in worker.attachments():
        worker.detach(attachment.partition(' ')[0], force=True)


#: Kinds of volumes, and how many links to storage one has that is attached.
LINKS = {
    '1': 1,
    '2': 1,
    'map': 2,
    'local': 0,
    'nfs': 0,
    'nvmeof': 2,
    'rbd': 0,
    'fibre_channel': 0,
}
#: Those that dm-crypt cannot stand on.
FILES = 'nfs'
#: Kinds that are attached through all of their paths.
MULTIPATH = ('map', 'nvmeof', 'fibre_channel')


def two_volumes(bed: beds.Bed, kind: str) -> tuple[beds.Volume, beds.Volume]:
    """On one target, if they have any."""
    if kind == 'local':
        return bed.create_local_volume(), bed.create_local_volume()
    if kind == 'rbd':
        return bed.create_rbd_volume(), bed.create_rbd_volume()
    if kind == 'fibre_channel':
        first = bed.create_fc_volume(portals=2)
        return first, bed.create_fc_volume(on=first)
    if kind == 'nfs':
        first = bed.create_mount_volume()
        return first, bed.create_mount_volume(on=first)
    if kind == 'nvmeof':
        first = bed.create_nvme_volume(portals=2)
        return first, bed.create_nvme_volume(on=first)
    first = bed.create_volume(portals=1 if kind == '1' else 2)
    return first, bed.create_volume(on=first)


@pytest.mark.parametrize('kind', LINKS)
@pytest.mark.parametrize('step', steps(flows.attach))
def test_attach(
    bed: beds.Bed,
    worker: harness.Harness,
    run_class: type[faults.FailingRun],
    mode: faults.Mode,
    step: str,
    kind: str,
) -> None:
    # Given a neighbour on the same target that must not be harmed
    neighbour, volume = two_volumes(bed, kind)
    multipath = kind in MULTIPATH
    path = worker.attach(neighbour, multipath=multipath).device.path
    settled(bed, LINKS[kind])
    before = bed.snapshot()
    # When a step of the attach goes wrong
    run_class.arm(step)
    result = worker.attach(volume, multipath=multipath)
    # Then there is one result, and it says what and where
    assert run_class.step is None, 'the fault did not strike'
    assert result.status == 'failed', result.as_dict()
    assert result.error.code == _CODES[mode]
    assert result.error.step.partition(':')[0] == step
    assert result.leftovers == []
    stored = worker.api.get_result({}, worker.name, result.request_id)
    assert stored.as_dict() == result.as_dict()
    # And the host is as it was
    assert bed.snapshot() == before
    assert worker.attachments() == [f'{neighbour.name} attached']
    assert bed.read(path) == neighbour.pattern
    assert worker.detach(neighbour.name).status == 'detached'
    assert links(bed.snapshot()) == 0


@pytest.mark.parametrize('kind', [one for one in LINKS if one != FILES])
def test_attach_and_open(
    bed: beds.Bed,
    worker: harness.Harness,
    run_class: type[faults.FailingRun],
    mode: faults.Mode,
    kind: str,
) -> None:
    # Given a volume that is to be opened, and a step that goes wrong
    (step,) = set(steps(flows.attach, 'plain')) - set(steps(flows.attach))
    volume, _ = two_volumes(bed, kind)
    before = bed.snapshot()
    run_class.arm(step)
    wanted = {'provider': 'plain', 'key': 'key'}
    # When it is attached, then nothing is left of it
    result = worker.attach(
        volume, encryption=wanted, multipath=kind in MULTIPATH
    )
    assert run_class.step is None, 'the fault did not strike'
    assert result.error.code == _CODES[mode], result.as_dict()
    assert (result.error.step, result.leftovers) == (step, [])
    assert bed.snapshot() == before
    assert worker.attachments() == []


@pytest.mark.parametrize('multipath', [False, True], ids=['2', 'map'])
@pytest.mark.parametrize('step', steps(flows.detach))
def test_detach(
    bed: beds.Bed,
    worker: harness.Harness,
    run_class: type[faults.FailingRun],
    mode: faults.Mode,
    step: str,
    multipath: bool,
) -> None:
    # Given an attached volume
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    attached = worker.attach(volume, multipath=multipath)
    assert attached.status == 'attached', attached.as_dict()
    settled(bed, 2 if multipath else 1)
    # When a step of the detach goes wrong
    run_class.arm(step)
    result = worker.detach(volume.name)
    # Then there is one result, and it says what and where
    assert run_class.step is None, 'the fault did not strike'
    assert result.status == 'failed', result.as_dict()
    assert result.error.code == _CODES[mode]
    assert result.error.step.partition(':')[0] == step
    assert len(worker.attachments()) == 1
    # And the next attempt goes on from there
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert worker.attachments() == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('step', steps(flows.extend))
def test_extend(
    bed: beds.Bed,
    worker: harness.Harness,
    run_class: type[faults.FailingRun],
    mode: faults.Mode,
    step: str,
) -> None:
    # Given a map of a volume that has grown on the storage
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    path = worker.attach(volume, multipath=True).device.path
    settled(bed, 2)
    size = 2 * volume.size
    bed.resize_volume(volume, size)
    # When a step of the extend goes wrong
    run_class.arm(step)
    result = extended(worker, volume)
    # Then there is one result, and it says what and where
    assert run_class.step is None, 'the fault did not strike'
    assert result.status == 'failed', result.as_dict()
    assert result.error.code == _CODES[mode]
    assert result.error.step == step
    assert result.leftovers == []
    stored = worker.api.get_result({}, worker.name, result.request_id)
    assert stored.as_dict() == result.as_dict()
    # And the volume is attached as before
    assert worker.attachments() == [f'{volume.name} attached']
    assert bed.read(path) == volume.pattern
    # And the next attempt goes on from there
    result = extended(worker, volume, expected_size=size)
    assert result.status == 'extended', result.as_dict()
    assert (result.device.path, result.device.size) == (path, size)
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('step', steps(flows.rotate))
def test_rotate(
    bed: beds.Bed,
    worker: harness.Harness,
    run_class: type[faults.FailingRun],
    mode: faults.Mode,
    step: str,
) -> None:
    # Given a volume that is open
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', 'old')
    before = bed.snapshot()
    wanted = {'provider': 'luks2', 'key': 'old'}
    assert worker.attach(volume, encryption=wanted).status == 'attached'
    # When a step of the rotation of its key goes wrong
    run_class.arm(step)
    result = worker.rotate(volume.name, 'old', 'new')
    # Then there is one result, and the volume opens by the key of that
    assert run_class.step is None, 'the fault did not strike'
    assert result.leftovers == [], result.as_dict()
    opening = [key for key in ('old', 'new') if opens(bed, volume, key)]
    if opening == ['new']:
        # nothing that goes wrong afterwards makes it undone
        assert step in ('RemoveKey', 'VerifyKeys')
        assert (result.status, result.error) == ('rotated', None)
    else:
        assert opening == ['old']
        assert (result.status, result.error.step) == ('failed', step)
        assert result.error.code == _CODES[mode]
    stored = worker.api.get_result({}, worker.name, result.request_id)
    assert stored.as_dict() == result.as_dict()
    # And the next attempt goes on from there
    assert worker.rotate(volume.name, 'old', 'new').status == 'rotated'
    assert not opens(bed, volume, 'old')
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def opens(bed: beds.Bed, volume: beds.Volume, key: str) -> bool:
    """Whether a key opens a volume that is attached."""
    name = encryption.name_of(volume.name)
    device = (bed.root / 'dev/mapper' / name).resolve().name
    (disk,) = (bed.root / f'sys/class/block/{device}/slaves').iterdir()
    return bed.verbs.encryption.has_key(
        disk.name, bed.instance(disk.name), 'luks2', key, 0, 60.0
    )


def extended(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.OperationResult:
    request = objects.ExtendRequest(
        request_id=str(uuid.uuid4()), attachment_id=volume.name, **values
    )
    return worker.api.extend_volume({}, worker.name, request)


def links(picture: dict[str, Any]) -> int:
    """How many connections to storage a host has."""
    return len(picture['sessions']) + len(picture['nvme_controllers'])


def settled(bed: beds.Bed, count: int) -> None:
    """Wait until the paths that were not needed are let go."""
    until = time.monotonic() + 20
    while True:
        picture = bed.snapshot()
        if links(picture) == count and not picture['children']:
            return
        assert time.monotonic() < until, picture
        time.sleep(0.02)
