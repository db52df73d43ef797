# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What every connector does, whatever its protocol."""

from collections.abc import Callable
import contextlib

import pytest
from stevedore import extension

from attachworker import connectors
from tests import harness
from tests.contract import bed as beds

#: How a test comes by a volume of each protocol.
MAKERS: dict[str, Callable[[beds.Bed], beds.Volume]] = {
    'fibre_channel': lambda bed: bed.create_fc_volume(),
    'iscsi': lambda bed: bed.create_volume(resizable=True),
    'local': lambda bed: bed.create_local_volume(),
    'nfs': lambda bed: bed.create_mount_volume(),
    'nvmeof': lambda bed: bed.create_nvme_volume(),
    'rbd': lambda bed: bed.create_rbd_volume(),
}

#: Those whose volumes are files, and no block devices.
FILES = frozenset({'nfs'})

KEY = 'a key'

Make = Callable[[], beds.Volume]


@pytest.fixture(
    params=sorted(
        {
            *extension.ExtensionManager(
                connectors.NAMESPACE, invoke_on_load=False
            ).names()
        }
        - beds.ELSEWHERE
    )
)
def make(request: pytest.FixtureRequest, bed: beds.Bed) -> Make:
    """Makes a volume of the protocol."""
    return lambda: MAKERS[request.param](bed)


def test_the_right_data_and_nothing_left(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    # Given two volumes, of which one is attached
    volume, other = make(), make()
    assert worker.attach(other).status == 'attached'
    before = bed.snapshot()
    # When the second one is
    result = worker.attach(volume)
    # Then it is that volume, and can be written to
    assert result.status == 'attached', result.as_dict()
    device = result.device
    assert bed.read(device.path) == volume.pattern
    assert device.size == volume.size
    assert not device.degraded
    assert device.to_brick()['path'] == device.path
    bed.write(device.path, b'written' * 100, offset=8192)
    assert bed.snapshot() != before
    report = worker.api.audit({}, worker.name)
    assert {one.state for one in report.attachments} == {'ok'}
    assert report.findings == []
    # And when it is detached, nothing of it is left
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
    # And what was written is there the next time
    again = worker.attach(volume)
    assert bed.read(again.device.path, 7, offset=8192) == b'written'
    for one in (volume, other):
        result = worker.detach(one.name)
        assert result.status == 'detached', result.as_dict()


def test_the_device_of_two_attachments(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    before = bed.snapshot()
    first = worker.attach(volume, 'first')
    second = worker.attach(volume, 'second')
    assert second.device.path == first.device.path, second.as_dict()
    assert worker.attach(volume, 'first').device.path == first.device.path
    result = worker.detach('first')
    assert 'another attachment' in result.warnings[0]
    assert bed.read(second.device.path) == volume.pattern
    assert worker.detach('second').status == 'detached'
    assert bed.snapshot() == before
    # A detach of what is not there succeeds
    assert worker.detach('second').status == 'detached'


def test_another_volume_than_the_wanted_one(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    before = bed.snapshot()
    result = worker.attach(volume, expected_wwn='6' + '0' * 31)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert result.leftovers == []
    assert bed.snapshot() == before
    assert worker.attachments() == []


def test_a_device_in_use_stays(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    device = worker.attach(volume).device
    before = bed.snapshot()
    with bed.opened(device.path):
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        assert bed.snapshot() == before
    assert worker.detach(volume.name).status == 'detached'


def test_it_grows(bed: beds.Bed, worker: harness.Harness, make: Make) -> None:
    volume = make()
    device = worker.attach(volume).device
    size = volume.size + (1 << 20)
    bed.resize_volume(volume, size)
    result = worker.extend(volume.name, size)
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (volume.size, size)
    end = bed.read(device.path, 512, offset=size - 512)
    assert end == bytes(512)
    result = worker.extend(volume.name, size + (1 << 20))
    assert result.error.code == 'extend_failed'
    assert worker.detach(volume.name).status == 'detached'


def test_encrypted(bed: beds.Bed, worker: harness.Harness, make: Make) -> None:
    # Given a volume that is encrypted
    volume = make()
    if volume.protocol in FILES:
        assert_refused_with_a_key(bed, worker, volume)
        return
    bed.encrypt(volume, 'luks2', KEY)
    before = bed.snapshot()
    wanted = {'encryption': {'provider': 'luks2', 'key': KEY}}
    # When it is attached with its key
    result = worker.attach(volume, **wanted)
    # Then what is written is there the next time, and nothing is left
    assert result.status == 'attached', result.as_dict()
    assert result.device.path.startswith('/dev/mapper/')
    bed.write(result.device.path, b'seen with the key')
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
    again = worker.attach(volume, **wanted)
    assert bed.read(again.device.path, 17) == b'seen with the key'
    assert worker.detach(volume.name).status == 'detached'
    # And without the key it is what it is: bytes that nobody can read
    raw = worker.attach(volume).device.path
    assert b'seen with the key' not in bed.read(raw, 32, offset=16 << 20)
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def assert_refused_with_a_key(
    bed: beds.Bed, worker: harness.Harness, volume: beds.Volume
) -> None:
    """A file is opened with its key by whoever uses it."""
    before = bed.snapshot()
    wanted = {'encryption': {'provider': 'luks2', 'key': KEY}}
    result = worker.attach(volume, **wanted)
    assert result.error.code == 'unsupported_protocol', result.as_dict()
    assert 'attach it without' in result.error.message
    assert bed.snapshot() == before
    assert worker.attachments() == []


def test_a_volume_that_is_not_there(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    bed.remove_volume(volume)
    before = bed.snapshot()
    result = worker.attach(volume)
    assert result.status == 'failed'
    assert result.error.code in ('device_not_found', 'target_unreachable')
    assert result.error.step.startswith('ConnectTarget:')
    assert result.leftovers == []
    assert bed.snapshot() == before


def test_one_path_is_not_two(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    before = bed.snapshot()
    result = worker.attach(volume, multipath=True, min_paths=2)
    assert result.error.code == 'not_enough_paths', result.as_dict()
    assert bed.snapshot() == before


def test_multipath_of_one_path(
    bed: beds.Bed, worker: harness.Harness, make: Make
) -> None:
    volume = make()
    with contextlib.ExitStack() as stack:
        result = worker.attach(volume, multipath=True)
        stack.callback(worker.detach, volume.name)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
