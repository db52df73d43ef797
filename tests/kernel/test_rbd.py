# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What only a real cluster shows: its keys, and that it does not answer."""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract.test_audit import until
from tests.kernel import bed as kernel_bed
from tests.kernel import ceph

_KEYRING = pathlib.Path('/etc/ceph/ceph.client.cinder.keyring')


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """The cluster does not answer for the length of a with block."""
    ceph.cluster().freeze(True)
    try:
        yield
    finally:
        ceph.cluster().freeze(False)


def info(volume: beds.Volume, **data: Any) -> dict[str, Any]:
    """Its connection_info with other data; None: without that."""
    found = volume.connection_info()
    changed = found['data'] | data
    found['data'] = {
        name: value for name, value in changed.items() if value is not None
    }
    return found


def test_a_namespace_and_a_snapshot(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an image, a snapshot of it, and its namesake in a namespace
    volume = bed.create_rbd_volume()
    snapshot = f'{volume.target}@daily'
    namesake = f'volumes/tenant/{volume.name}'
    cluster = ceph.cluster()
    cluster.create_snapshot(snapshot)
    cluster.create_namespace('volumes', 'tenant')
    cluster.create(namesake, b'namesake' * 512, volume.size)
    before = bed.snapshot()
    # When all three are attached
    paths = {}
    for name in (volume.target, snapshot, namesake):
        result = worker.attach(
            volume,
            name.replace('/', ':'),
            connection_info=info(volume, name=name),
        )
        assert result.status == 'attached', result.as_dict()
        paths[name] = result.device.path
    # Then each is what it is
    bed.write(paths[volume.target], b'later' * 1024)
    assert bed.read(paths[volume.target]) == (b'later' * 1024)[:4096]
    assert bed.read(paths[snapshot]) == volume.pattern
    assert bed.read(paths[namesake]) == b'namesake' * 512
    device = paths[snapshot].removeprefix('/dev/')
    read_only = pathlib.Path(f'/sys/class/block/{device}/ro').read_text()
    assert read_only == '1\n'
    for name in paths:
        result = worker.detach(name.replace('/', ':'))
        assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    'hosts',
    [[f'v2:{ceph.SECOND_MONITOR}/0'], ['127.0.0.1']],
    ids=['spelled', 'port'],
)
def test_monitors_of_the_second_version_alone(
    bed: kernel_bed.KernelBed, worker: harness.Harness, hosts: list[str]
) -> None:
    # Given monitors that are known by the port of msgr2 only
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    # When an image is attached, then the kernel speaks that to them
    result = worker.attach(
        volume, connection_info=info(volume, hosts=hosts, ports=['3300'])
    )
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    (mapped,) = pathlib.Path('/sys/bus/rbd/devices').iterdir()
    assert 'ms_mode=prefer-crc' in (mapped / 'config_info').read_text()
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_a_monitor_by_either_of_its_ports_is_one(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an image that is attached through one version of the protocol
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    first = worker.attach(volume, 'first')
    assert first.status == 'attached', first.as_dict()
    # When it is attached through the other one
    other = info(volume, hosts=['127.0.0.1'], ports=['3300'])
    second = worker.attach(volume, 'second', connection_info=other)
    # Then both have one mapping, which stays until both are gone
    assert second.status == 'attached', second.as_dict()
    assert second.device.path == first.device.path
    assert len(list(pathlib.Path('/sys/bus/rbd/devices').iterdir())) == 1
    assert worker.detach('first').status == 'detached'
    assert bed.read(second.device.path) == volume.pattern
    assert worker.detach('second').status == 'detached'
    assert bed.snapshot() == before


def test_what_somebody_else_maps_beside_ours_stays(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an attached image, which somebody else maps, too
    volume = bed.create_rbd_volume()
    before = bed.snapshot()
    device = worker.attach(volume).device
    mapped = subprocess.run(
        ['rbd', 'map', '--conf', ceph.cluster().conf, volume.target],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
    )
    other = mapped.stdout.strip()
    assert other != device.path
    # When it is attached again, then it is the one that it was
    assert worker.attach(volume).device.path == device.path
    # And when it is detached, only ours goes
    result = worker.detach(volume.name)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == result.warnings == []
    (left,) = pathlib.Path('/sys/bus/rbd/devices').iterdir()
    assert f'/dev/rbd{left.name}' == other
    assert bed.read(other) == volume.pattern
    subprocess.run(['rbd', 'unmap', other], check=True)
    assert bed.snapshot() == before


def test_the_key_is_nowhere_afterwards(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    assert worker.attach(volume).status == 'attached'
    assert volume.chap is not None
    for path in pathlib.Path('/sys/bus/rbd/devices').glob('*/config_info'):
        assert volume.chap[1] not in path.read_text()
        assert 'secret=' not in path.read_text()
    keys = pathlib.Path('/proc/keys').read_text()
    assert 'attachworker-' not in keys
    assert worker.detach(volume.name).status == 'detached'


def test_a_key_of_the_host(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_rbd_volume()
    without = info(volume, keyring=None)
    result = worker.attach(volume, connection_info=without)
    assert result.error.code == 'auth_failed', result.as_dict()
    _KEYRING.parent.mkdir(exist_ok=True)
    _KEYRING.write_text(volume.connection_info()['data']['keyring'])
    try:
        result = worker.attach(volume, connection_info=without)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        assert worker.detach(volume.name).status == 'detached'
        # But a caller cannot be whom it likes
        other = pathlib.Path('/etc/ceph/ceph.client.admin.keyring')
        other.write_text('[client.admin]\n\tkey = AQ==\n')
        posing = info(volume, keyring=None, auth_username='admin')
        result = worker.attach(volume, connection_info=posing)
        other.unlink()
        assert result.error.code == 'auth_failed', result.as_dict()
        assert 'keyring_users' in result.error.message
    finally:
        _KEYRING.unlink()


def test_a_cluster_that_does_not_answer(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given an image that is attached, and one that is not
    volume, other = bed.create_rbd_volume(), bed.create_rbd_volume()
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    # When the cluster freezes, then an attach ends in time
    with frozen():
        result = worker.attach(other, deadline_seconds=8)
        assert result.status == 'failed', result.as_dict()
        assert result.error.code in ('target_unreachable', 'deadline_exceeded')
        # And a detach does, and tells what is left
        result = worker.detach(volume.name, force=True, deadline_seconds=8)
        assert result.status == 'failed', result.as_dict()
        assert f'{volume.name} failed' in worker.attachments()
    # And when it answers again, all can be had, and nothing is left
    until(lambda: worker.detach(volume.name).status == 'detached')
    until(lambda: worker.attachments() == [])
    until(lambda: bed.snapshot() == before)
    result = worker.attach(other)
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == other.pattern
    assert worker.detach(other.name).status == 'detached'
    assert bed.snapshot() == before
