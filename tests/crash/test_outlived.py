# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A verb that takes effect after its worker was killed, and the next one runs.

The kernel finishes a system call that cannot be interrupted, however dead the
process is that has made it. Whatever comes of it then is known, and goes.
"""

from collections.abc import Callable
import functools
import pathlib

import pytest

from attachworker import objects
from tests import harness
from tests.contract import bed as beds
from tests.crash import machines
from tests.crash import victim
from tests.crash.scene import Ask
from tests.crash.scene import Await
from tests.crash.test_once import until
from tests.simulator.bed import SimulatedBed

PATIENCE = 30.0
KEY = 'key-of-a-volume'

Make = Callable[[SimulatedBed], tuple[beds.Volume, beds.Volume | None]]


def alone(make: Callable[[SimulatedBed], beds.Volume]) -> Make:
    return lambda bed: (make(bed), None)


def shared(bed: SimulatedBed) -> tuple[beds.Volume, beds.Volume]:
    """One whose session a neighbour uses, too."""
    neighbour = bed.create_volume()
    return bed.create_volume(on=neighbour), neighbour


def encrypted(bed: SimulatedBed) -> beds.Volume:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    return volume


#: A verb that brings something to the host, and for which volume.
MADE = [
    ('nvme.connect', alone(lambda bed: bed.create_nvme_volume())),
    ('scsi.scan', alone(lambda bed: bed.create_volume())),
    ('scsi.scan', shared),
    ('rbd.add', alone(lambda bed: bed.create_rbd_volume())),
    ('mounts.mount', alone(lambda bed: bed.create_mount_volume())),
    ('loop.attach', alone(lambda bed: bed.create_local_volume())),
    ('encryption.open', alone(encrypted)),
]
IDS = [f'{verb}-shared' if make is shared else verb for verb, make in MADE]

#: A verb that takes something away, and of which volume.
TAKEN = [
    ('nvme.delete', alone(lambda bed: bed.create_nvme_volume())),
    ('scsi.delete', alone(lambda bed: bed.create_volume())),
    ('block.flush', alone(lambda bed: bed.create_volume())),
    ('rbd.remove', alone(lambda bed: bed.create_rbd_volume())),
    ('mounts.unmount', alone(lambda bed: bed.create_mount_volume())),
    ('mounts.flush', alone(lambda bed: bed.create_mount_volume())),
    ('loop.detach', alone(lambda bed: bed.create_local_volume())),
    ('encryption.close', alone(encrypted)),
]


def encryption(verb: str) -> dict[str, object]:
    if not verb.startswith('encryption.'):
        return {}
    return {'encryption': {'provider': 'luks2', 'key': KEY}}


def killed_in(
    bed: SimulatedBed, state: pathlib.Path, verb: str, ask: Ask
) -> None:
    """A worker that is killed while a verb of it is in the kernel."""
    order = victim.Order(machines.Simulated(bed.root), state, ask)
    killed, passed = victim.run(order, f'{verb} during #1')
    assert killed, passed


def result_of(
    worker: harness.Harness, state: pathlib.Path
) -> objects.OperationResult:
    Await(state)()
    return worker.api.get_result({}, worker.name, 'one')


def check_that_nothing_is_left(
    bed: SimulatedBed,
    worker: harness.Harness,
    state: pathlib.Path,
    before: object,
    neighbour: beds.Volume | None,
) -> None:
    others = [f'{neighbour.name} attached'] if neighbour else []
    until(lambda: worker.attachments() == others, worker.attachments)
    # It is gone for good, and not only until the kernel is done.
    assert bed.control('running') == []
    until(lambda: bed.snapshot() == before, bed.snapshot)
    assert worker.api.audit({}, worker.name).findings == []
    for query in (
        'SELECT attachment_id FROM holdings WHERE attachment_id NOT IN'
        ' (SELECT attachment_id FROM attachments)',
        'SELECT link FROM links WHERE link NOT IN (SELECT link FROM holdings)',
    ):
        assert victim.journal(state, query) == []


@pytest.mark.parametrize(('verb', 'make'), MADE, ids=IDS)
@pytest.mark.parametrize('seconds', [3, 60], ids=['late', 'in-time'])
def test_what_is_made_after_the_recovery_goes(
    bed: SimulatedBed,
    tmp_path: pathlib.Path,
    verb: str,
    make: Make,
    seconds: int,
) -> None:
    # Given a worker that is killed while a verb is in the kernel
    volume, neighbour = make(bed)
    if neighbour is not None:
        with victim.make_worker(bed.host(), tmp_path) as worker:
            assert worker.attach(neighbour).status == 'attached'
    before = bed.snapshot()
    make_request = functools.partial(
        harness.attach_request,
        volume,
        request_id='one',
        deadline_seconds=seconds,
        **encryption(verb),
    )
    killed_in(bed, tmp_path, verb, Ask('attach', make_request))
    # When the next one has ended its request, without waiting for the kernel
    with victim.make_worker(bed.host(), tmp_path) as worker:
        result = result_of(worker, tmp_path)
        # Then it says that something is left, and of which verb
        assert result.status == 'failed', result.as_dict()
        assert verb in ', '.join(result.leftovers), result.as_dict()
        # And when the verb has its effect at last, that is taken back
        bed.control('finish')
        check_that_nothing_is_left(bed, worker, tmp_path, before, neighbour)
        # And the volume can be attached
        again = worker.attach(volume, **encryption(verb))
        assert again.status == 'attached', again.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('verb', 'make'), TAKEN, ids=[verb for verb, _ in TAKEN]
)
def test_what_is_taken_away_after_the_recovery_is_nothing_new(
    bed: SimulatedBed, tmp_path: pathlib.Path, verb: str, make: Make
) -> None:
    # Given a worker that is killed while a verb of a detach is in the kernel
    volume, neighbour = make(bed)
    before = bed.snapshot()
    with victim.make_worker(bed.host(), tmp_path) as worker:
        attached = worker.attach(volume, **encryption(verb))
        assert attached.status == 'attached'
    make_request = functools.partial(
        harness.detach_request, volume.name, request_id='one'
    )
    killed_in(bed, tmp_path, verb, Ask('detach', make_request))
    # When the next one has ended its request, and the volume is wanted again
    with victim.make_worker(bed.host(), tmp_path) as worker:
        result_of(worker, tmp_path)
        again = worker.attach(volume, deadline_seconds=3, **encryption(verb))
        # Then it is not given what the verb takes away at last
        bed.control('finish')
        if again.status == 'attached':
            path = again.device.path
            until(lambda: bed.read(path) == volume.pattern, lambda: path)
        # And a detach ends it
        detached = worker.detach(volume.name)
        assert detached.status == 'detached', detached.as_dict()
        check_that_nothing_is_left(bed, worker, tmp_path, before, neighbour)
