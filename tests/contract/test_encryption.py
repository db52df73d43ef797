# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes that are opened with a key: LUKS, and plain dm-crypt."""

from collections.abc import Callable
import uuid

import pytest

from attachworker import objects
from attachworker.host import encryption
from tests import harness
from tests.contract import actors
from tests.contract import bed as beds
from tests.crash import faults

KEY = 'CANARY-of-a-volume'
SMALL = 32 << 20
LARGE = 48 << 20
#: Of the data on the device below; bytes.
OFFSETS = {'luks': 2 << 20, 'luks2': 16 << 20, 'plain': 0}
DATA = b'seen only with the key'.ljust(4096, b'.')


def ask(provider: str, key: str = KEY, **values: object) -> dict[str, object]:
    return {'provider': provider, 'key': key, **values}


def extend(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.OperationResult:
    request = objects.ExtendRequest(
        request_id=str(uuid.uuid4()), attachment_id=volume.name, **values
    )
    return worker.api.extend_volume({}, worker.name, request)


def detached(worker: harness.Harness, volume: beds.Volume) -> None:
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert (result.leftovers, result.warnings) == ([], [])


def audited(worker: harness.Harness) -> tuple[list[str], list[str]]:
    report = worker.api.audit({}, worker.name)
    return (
        [one.state for one in report.attachments],
        [one.kind for one in report.findings],
    )


def disk_of(device: objects.DeviceInfo) -> str:
    """Where the same volume is seen as it is."""
    return f'/dev/{device.paths[0].device}'


Make = Callable[[beds.Bed], beds.Volume]


def single(bed: beds.Bed) -> beds.Volume:
    return bed.create_volume()


def double(bed: beds.Bed) -> beds.Volume:
    return bed.create_volume(portals=2)


@pytest.mark.parametrize(
    ('provider', 'make', 'multipath'),
    [
        ('luks', single, False),
        ('luks2', single, False),
        ('plain', single, False),
        ('luks2', double, True),
        ('luks2', lambda bed: bed.create_local_volume(), False),
    ],
    ids=['luks', 'luks2', 'plain', 'luks2-map', 'luks2-local'],
)
def test_a_volume_is_opened_and_closed(
    bed: beds.Bed,
    worker: harness.Harness,
    provider: str,
    make: Make,
    multipath: bool,
) -> None:
    # Given a volume with a header, or one that needs none
    volume = make(bed)
    if provider != 'plain':
        bed.encrypt(volume, provider, KEY)
    before = bed.snapshot()
    wanted = {'encryption': ask(provider), 'multipath': multipath}
    # When it is attached with its key
    result = worker.attach(volume, **wanted)
    # Then the caller gets what is decrypted
    assert result.status == 'attached', result.as_dict()
    device = result.device
    name = encryption.name_of(volume.name)
    assert device.path == f'/dev/mapper/{name}'
    assert device.size == volume.size - OFFSETS[provider]
    assert (device.multipath_id is not None) == multipath
    bed.write(device.path, DATA)
    # And it is ours, and nothing is amiss
    # (with all its paths, of which some may be late)
    assert actors.until(lambda: audited(worker) == (['ok'], []))
    # And the same again is the same device
    assert worker.attach(volume, **wanted).device.path == device.path
    # And when it is detached, nothing is left
    detached(worker, volume)
    assert bed.snapshot() == before
    # And what was written is there with the key, and only with it
    again = worker.attach(volume, **wanted).device
    assert bed.read(again.path) == DATA
    raw = bed.read(disk_of(again), offset=OFFSETS[provider])
    assert DATA[:22] not in raw
    detached(worker, volume)
    assert bed.snapshot() == before


def test_a_key_that_does_not_open_it(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given one volume that has a header, and one that has none
    volume = bed.create_volume()
    other = bed.create_volume(on=volume)
    bed.encrypt(volume, 'luks2', KEY)
    before = bed.snapshot()
    for one, wanted, reason in (
        (volume, ask('luks2', 'another'), 'the key does not open it'),
        (volume, ask('luks'), 'no header of format luks,'),
        (other, ask('luks2'), 'no header of format luks2,'),
    ):
        # When the key, or the format, is not that of the volume
        result = worker.attach(one, encryption=wanted)
        # Then the caller is told which, and nothing is changed
        assert result.error.code == 'encryption_failed', result.as_dict()
        assert result.error.step == 'OpenEncryption'
        assert reason in result.error.message
        assert 'CANARY' not in str(result.as_dict())
        assert result.leftovers == []
        assert bed.snapshot() == before
    assert worker.attachments() == []
    assert bed.read(worker.attach(other).device.path) == other.pattern
    detached(worker, other)


def test_only_what_is_empty_is_formatted(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume with data, that may be formatted
    volume = bed.create_volume()
    before = bed.snapshot()
    wanted = ask('luks', may_format=True)
    # When it is attached, then it is refused, and the data stays
    result = worker.attach(volume, encryption=wanted)
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'it is not empty' in result.error.message
    assert bed.snapshot() == before
    assert bed.read(worker.attach(volume).device.path) == volume.pattern
    detached(worker, volume)
    # When there is data anywhere in what would be overwritten, then so it is
    bed.clear(volume)
    for offset in (0, (16 << 20) - 4096):
        path = worker.attach(volume).device.path
        bed.write(path, DATA, offset=offset)
        detached(worker, volume)
        result = worker.attach(
            volume, encryption=ask('luks2', may_format=True)
        )
        assert result.error.code == 'encryption_failed', result.as_dict()
        assert 'it is not empty' in result.error.message
        path = worker.attach(volume).device.path
        assert bed.read(path, offset=offset) == DATA
        bed.write(path, bytes(4096), offset=offset)
        detached(worker, volume)
    # When it is empty, then it is formatted, once
    bed.clear(volume)
    device = worker.attach(volume, encryption=wanted).device
    bed.write(device.path, DATA)
    detached(worker, volume)
    device = worker.attach(volume, encryption=wanted).device
    assert bed.read(device.path) == DATA
    detached(worker, volume)
    assert bed.snapshot() == before


def test_a_mapping_in_use_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    path = worker.attach(volume, encryption=ask('plain')).device.path
    before = bed.snapshot()
    with bed.opened(path):
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        assert bed.snapshot() == before
    # As it is, it is another device, and cannot be had meanwhile
    result = worker.attach(volume)
    assert result.error.code == 'attachment_conflict', result.as_dict()
    result = worker.attach(volume, 'another', encryption=ask('plain'))
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert bed.snapshot() == before
    detached(worker, volume)


def test_a_mapping_is_not_said_to_be_gone_because_the_volume_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a mapping that somebody has open, on a volume of two attachments
    volume = bed.create_volume()
    assert worker.attach(volume, 'as-it-is').status == 'attached'
    path = worker.attach(volume, encryption=ask('plain')).device.path
    with bed.opened(path):
        # When the one with the mapping is detached by force
        result = worker.detach(volume.name, force=True)
        # Then it is not said to be detached
        assert result.error.code == 'host_tool_failed', result.as_dict()
        assert any('mapping' in one for one in result.leftovers)
    # And it goes once it can
    assert worker.detach(volume.name).status == 'detached'
    assert worker.detach('as-it-is').status == 'detached'


def test_a_pair_with_integrity_is_one_mapping(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume with dm-integrity below dm-crypt
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY, integrity=True)
    before = bed.snapshot()
    wanted = {'encryption': ask('luks2')}
    result = worker.attach(volume, **wanted)
    assert result.status == 'attached', result.as_dict()
    device = result.device
    bed.write(device.path, DATA)
    # When it is attached again, then the mapping that is in use stays
    with bed.opened(device.path):
        result = worker.attach(volume, **wanted)
        assert result.status == 'attached', result.as_dict()
        assert result.device.path == device.path
        assert bed.read(device.path) == DATA
        # And whoever has it open is its user, and the pair itself is none
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        assert '_dif' not in result.error.message
    assert audited(worker) == (['ok'], [])
    # And it does not grow, which the caller is told
    result = extend(worker, volume, encryption=ask('luks2'))
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'integrity' in result.error.message
    # And both halves go
    detached(worker, volume)
    assert bed.snapshot() == before
    assert bed.read(worker.attach(volume, **wanted).device.path) == DATA
    detached(worker, volume)


def test_half_a_pair_goes(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given the lower half of a pair alone, as a crash leaves it
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY, integrity=True)
    before = bed.snapshot()
    wanted = {'encryption': ask('luks2')}
    for go_on in ('attach', 'detach'):
        assert worker.attach(volume, **wanted).status == 'attached'
        bed.halve(encryption.name_of(volume.name))
        # When the volume is attached again, or detached
        if go_on == 'attach':
            result = worker.attach(volume, **wanted)
            assert result.status == 'attached', result.as_dict()
            assert worker.attachments() == [f'{volume.name} attached']
        # Then nothing of it is left
        detached(worker, volume)
        assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('allowed', 'status'), [(128, 'failed'), (320, 'attached')]
)
def test_memory_that_a_header_asks_for(
    bed: beds.Bed, allowed: int, status: str
) -> None:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY, memory=256 << 20)
    before = bed.snapshot()
    with harness.Harness(bed, encryption_memory=allowed) as worker:
        result = worker.attach(volume, encryption=ask('luks2'))
        assert result.status == status, result.as_dict()
        if status == 'failed':
            assert result.error.code == 'encryption_failed'
            reason = 'option encryption_memory allows 128 MiB'
            assert reason in result.error.message
            assert result.leftovers == []
        else:
            detached(worker, volume)
        assert bed.snapshot() == before


def test_a_mapping_that_somebody_has_closed(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    worker.attach(volume, encryption=ask('plain'))
    bed.verbs.encryption.close(encryption.name_of(volume.name))
    (found,) = worker.api.audit({}, worker.name).attachments
    assert (found.state, found.detail[:11]) == ('missing', 'there is no')
    result = extend(worker, volume)
    assert result.error.code == 'encryption_failed', result.as_dict()
    # It is opened again by another attach
    result = worker.attach(volume, encryption=ask('plain'))
    assert result.status == 'attached', result.as_dict()
    (found,) = worker.api.audit({}, worker.name).attachments
    assert found.state == 'ok'
    bed.verbs.encryption.close(encryption.name_of(volume.name))
    detached(worker, volume)
    assert bed.snapshot() == before


def test_a_mapping_of_our_name_on_another_device(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given one, of whomever, that would give the caller another volume
    other = bed.create_volume()
    volume = bed.create_volume(on=other)
    below = worker.attach(other).device.path.removeprefix('/dev/')
    before = bed.snapshot()
    name = encryption.name_of(volume.name)
    bed.verbs.encryption.open(
        below, bed.instance(below), name, 'plain', KEY, False, 0, 60.0
    )
    findings = worker.api.audit({}, worker.name).findings
    assert [one.kind for one in findings] == ['orphan']
    # When it is in use, then the attach is refused
    with bed.opened(f'/dev/mapper/{name}'):
        result = worker.attach(volume, encryption=ask('plain'))
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert name in result.error.message
    # When it is not, then it goes
    result = worker.attach(volume, encryption=ask('plain'))
    assert result.status == 'attached', result.as_dict()
    assert bed.read(f'/dev/{below}') == other.pattern
    directory = (bed.root / 'dev/mapper' / name).resolve().name
    (slave,) = (bed.root / f'sys/class/block/{directory}/slaves').iterdir()
    assert slave.name == result.device.paths[0].device
    detached(worker, volume)
    assert bed.snapshot() == before
    detached(worker, other)


@pytest.mark.parametrize(
    ('provider', 'multipath'), [('luks2', True), ('luks', False)]
)
def test_it_grows(
    bed: beds.Bed, worker: harness.Harness, provider: str, multipath: bool
) -> None:
    # Given an open volume that has grown on the storage
    volume = bed.create_volume(
        portals=1 + multipath, size=SMALL, resizable=True
    )
    bed.encrypt(volume, provider, KEY)
    device = worker.attach(
        volume, encryption=ask(provider), multipath=multipath
    ).device
    if multipath:
        attached = [f'{volume.name} attached']
        assert actors.until(lambda: worker.attachments() == attached)
    bed.resize_volume(volume, LARGE)
    # When the host is told, then all that needs it takes the key
    if provider == 'luks2':
        result = extend(worker, volume, expected_size=LARGE)
        assert result.error.code == 'encryption_failed', result.as_dict()
        assert 'send it, too' in result.error.message
        values = {'encryption': ask(provider)}
    else:
        values = {}
    result = extend(worker, volume, expected_size=LARGE, **values)
    # Then the sizes are those that the caller can use
    assert result.status == 'extended', result.as_dict()
    size = LARGE - OFFSETS[provider]
    assert (result.old_size, result.device.size) == (device.size, size)
    assert result.device.path == device.path
    bed.write(device.path, DATA, offset=size - 4096)
    assert bed.read(device.path, offset=size - 4096) == DATA
    # And once more changes nothing, and takes no key
    result = extend(worker, volume)
    assert (result.old_size, result.device.size) == (size, size)
    detached(worker, volume)


@pytest.mark.parametrize(
    'step', ['ConnectTarget', 'MapMultipath', 'OpenEncryption']
)
def test_a_step_that_fails_leaves_nothing(bed: beds.Bed, step: str) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    run_class = faults.failing(faults.Mode.RAISES_AFTER)
    with harness.Harness(bed, run_class=run_class) as worker:
        run_class.arm(step)
        result = worker.attach(volume, multipath=True, encryption=ask('plain'))
        assert run_class.step is None, 'the fault did not strike'
        assert result.error.step.partition(':')[0] == step
        assert result.leftovers == [], result.as_dict()
        assert worker.attachments() == []
        assert bed.snapshot() == before


NEW_KEY = 'CANARY-of-the-same-volume-later'


def opens(bed: beds.Bed, below: str, provider: str) -> list[str]:
    """Which of the two keys open what is below a mapping."""
    return [
        key
        for key in (KEY, NEW_KEY)
        if bed.verbs.encryption.has_key(
            below, bed.instance(below), provider, key, 2 << 30, 60.0
        )
    ]


def below(bed: beds.Bed, volume: beds.Volume) -> str:
    """The kernel name of what a mapping is on top of."""
    name = encryption.name_of(volume.name)
    device = (bed.root / 'dev/mapper' / name).resolve().name
    (found,) = (bed.root / f'sys/class/block/{device}/slaves').iterdir()
    return found.name


@pytest.mark.parametrize(
    ('provider', 'make', 'multipath'),
    [
        ('luks', single, False),
        ('luks2', single, False),
        ('luks2', double, True),
        ('luks2', lambda bed: bed.create_local_volume(), False),
    ],
    ids=['luks', 'luks2', 'luks2-map', 'luks2-local'],
)
def test_a_key_is_rotated_while_the_volume_is_used(
    bed: beds.Bed,
    worker: harness.Harness,
    provider: str,
    make: Make,
    multipath: bool,
) -> None:
    # Given a volume that is open, with somebody who has it open
    volume = make(bed)
    bed.encrypt(volume, provider, KEY)
    before = bed.snapshot()
    wanted = {'encryption': ask(provider), 'multipath': multipath}
    path = worker.attach(volume, **wanted).device.path
    bed.write(path, DATA)
    attached = [f'{volume.name} attached']
    assert actors.until(lambda: worker.attachments() == attached)
    meanwhile = bed.snapshot()
    device = below(bed, volume)
    assert opens(bed, device, provider) == [KEY]
    once = {'request_id': str(uuid.uuid4())}
    with bed.opened(path):
        # When its key is rotated
        result = worker.rotate(volume.name, KEY, NEW_KEY, **once)
        # Then the new one alone opens it, and nobody sees a difference
        assert result.status == 'rotated', result.as_dict()
        assert (result.device.path, result.operation) == (path, 'rotate')
        assert (result.leftovers, result.warnings) == ([], [])
        assert 'CANARY' not in str(result.as_dict())
        assert opens(bed, device, provider) == [NEW_KEY]
        assert bed.read(path) == DATA
    assert bed.snapshot() == meanwhile
    # And the same request gets the same result, and a new one with the same
    # keys finds it done
    again = worker.rotate(volume.name, KEY, NEW_KEY, **once)
    assert again.as_dict() == result.as_dict()
    assert worker.rotate(volume.name, KEY, NEW_KEY).status == 'rotated'
    # And from the next attach on that key is the one
    detached(worker, volume)
    refused = worker.attach(volume, **wanted)
    assert refused.error.code == 'encryption_failed', refused.as_dict()
    wanted['encryption'] = ask(provider, NEW_KEY)
    result = worker.attach(volume, **wanted)
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == DATA
    detached(worker, volume)
    assert bed.snapshot() == before


def test_a_rotation_with_a_wrong_old_key_changes_nothing(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    worker.attach(volume, encryption=ask('luks2'))
    before = bed.snapshot()
    result = worker.rotate(volume.name, 'another', NEW_KEY)
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert result.error.step == 'CheckKeys'
    assert 'neither the old nor the new key' in result.error.message
    assert result.leftovers == []
    assert opens(bed, below(bed, volume), 'luks2') == [KEY]
    assert bed.snapshot() == before
    detached(worker, volume)


def test_a_rotation_of_what_has_no_key_of_its_own(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given nothing that is attached, a volume as it is, and plain dm-crypt
    volume = bed.create_volume()
    result = worker.rotate(volume.name, KEY, NEW_KEY)
    assert result.error.code == 'attachment_not_found', result.as_dict()
    assert worker.attach(volume).status == 'attached'
    result = worker.rotate(volume.name, KEY, NEW_KEY)
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'attach it with its key first' in result.error.message
    detached(worker, volume)
    assert worker.attach(volume, encryption=ask('plain')).device
    result = worker.rotate(volume.name, KEY, NEW_KEY)
    # Then the caller is told what to do
    assert result.error.code == 'encryption_failed', result.as_dict()
    assert 'copy the data to a volume' in result.error.message
    detached(worker, volume)


@pytest.mark.parametrize('step', ['AddKey', 'RemoveKey', 'VerifyKeys'])
def test_a_rotation_that_fails_leaves_one_key(
    bed: beds.Bed, step: str
) -> None:
    # Given a volume that is open, and a step that fails when it has ended
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', KEY)
    run_class = faults.failing(faults.Mode.RAISES_AFTER)
    with harness.Harness(bed, run_class=run_class) as worker:
        assert worker.attach(volume, encryption=ask('luks2')).device
        run_class.arm(step)
        result = worker.rotate(volume.name, KEY, NEW_KEY)
        assert run_class.step is None, 'the fault did not strike'
        # Then the result says which key opens it, and there is no other
        assert result.leftovers == [], result.as_dict()
        found = opens(bed, below(bed, volume), 'luks2')
        if step == 'AddKey':
            assert (result.status, found) == ('failed', [KEY])
            assert result.error.step == step
        else:
            assert (result.status, found) == ('rotated', [NEW_KEY])
        # And the next attempt goes on from there
        assert worker.rotate(volume.name, KEY, NEW_KEY).status == 'rotated'
        detached(worker, volume)
