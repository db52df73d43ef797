# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What only a real server shows: that it is dead, and what a mount may do."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

from attachworker import privileged
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_audit import until
from tests.kernel import bed as kernel_bed
from tests.kernel import nfsd

#: The verbs in a process of their own.
_IN_PROCESS = f"""
from oslo_config import cfg
from attachworker import privileged
for context in privileged.CONTEXTS:
    context.set_client_mode(False)
cfg.CONF.set_override('mount_point_base', '{beds.MOUNT_BASE}', group='nfs')
"""


@pytest.fixture
def worker(bed: kernel_bed.KernelBed) -> Iterator[harness.Harness]:
    with harness.Harness(bed) as running:
        yield running


@contextlib.contextmanager
def dead_server() -> Iterator[None]:
    nfsd.stop()
    try:
        yield
    finally:
        nfsd.start()


def server_is_waited_for(worker: harness.Harness) -> bool:
    """Whether a verb waits for a server."""
    report = worker.api.audit({}, worker.name)
    return any('has not returned' in one.detail for one in report.findings)


def flags_of(volume: beds.Volume) -> set[str]:
    """Of the mount of its share."""
    for line in pathlib.Path('/proc/1/mountinfo').read_text().splitlines():
        fields = line.split()
        if fields[4] == f'{beds.MOUNT_BASE}/{volume.directory}':
            return set(fields[5].split(','))
    raise AssertionError('it is not mounted')


def test_a_share_has_no_rights_on_the_host(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    assert worker.attach(volume).status == 'attached'
    assert {'nosuid', 'nodev', 'noexec'} <= flags_of(volume)
    # And it is written down nowhere that the tool had mounted it elsewhere
    for table in '/run/mount/utab', '/etc/mtab':
        path = pathlib.Path(table)
        assert not path.exists() or 'attachworker-helper' not in (
            path.read_text()
        )
    assert worker.detach(volume.name).status == 'detached'


def test_a_helper_with_mounts_of_its_own_mounts_for_the_host(
    bed: kernel_bed.KernelBed,
) -> None:
    # Given a helper in a namespace of mounts, as PrivateMounts has it
    volume = bed.create_mount_volume()
    place = f'{beds.MOUNT_BASE}/{volume.directory}'
    arguments = ('nfs', volume.target, ['vers=4.2'], 30.0)
    code = _IN_PROCESS + f'print(privileged.mounts.mount{arguments})'
    # When it mounts a share
    command = ['unshare', '--mount', '--propagation', 'private']
    ended = subprocess.run(
        [*command, sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == "(0, '')"
    # Then it is where the host looks, and what the other one has made goes
    assert os.path.ismount(place)
    assert pathlib.Path(place, volume.name).stat().st_size == volume.size
    privileged.mounts.unmount('nfs', volume.directory, False)
    assert not os.path.exists(place)


def test_the_mount_of_somebody_else_is_not_unmounted(
    bed: kernel_bed.KernelBed,
) -> None:
    volume = bed.create_mount_volume()
    with bed.mount_elsewhere(volume):
        for lazy in False, True:
            with pytest.raises(PermissionError, match='not mounted by'):
                privileged.mounts.unmount('nfs', volume.directory, lazy)


def test_a_directory_that_is_a_link(
    bed: kernel_bed.KernelBed, worker: harness.Harness, tmp_path: pathlib.Path
) -> None:
    # Given a link in the place of a share's directory
    volume = bed.create_mount_volume()
    place = pathlib.Path(beds.MOUNT_BASE) / volume.directory
    place.symlink_to(tmp_path)
    try:
        # Then nothing is mounted where it leads to
        result = worker.attach(volume)
        assert result.error.code == 'host_tool_failed', result.as_dict()
        assert 'symbolic link' in result.error.message
        assert not os.path.ismount(tmp_path)
    finally:
        place.unlink()


def test_a_detach_while_the_server_is_dead(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a volume whose server dies
    volume = bed.create_mount_volume()
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    mounted = bed.snapshot()
    with dead_server():
        # When it is detached, then nothing is removed
        result = worker.detach(volume.name, deadline_seconds=20)
        assert result.status == 'failed', result.as_dict()
        assert result.error.code in ('flush_failed', 'deadline_exceeded')
        assert bed.snapshot()['mounts'] == mounted['mounts']
        # By force the mount goes, and the caller is told what may be lost
        result = worker.detach(volume.name, force=True, deadline_seconds=60)
        assert result.status == 'detached', result.as_dict()
        assert result.leftovers == []
        assert any('may be lost' in one for one in result.warnings)
        assert bed.snapshot()['mounts'] == before['mounts']
    # And once it is back, and what waited for it has ended, the volume can be
    # attached again
    until(lambda: not server_is_waited_for(worker))
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_a_loop_device_on_a_file_is_a_user(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_mount_volume()
    device = worker.attach(volume).device
    with bed.loop_device(device.path):
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use', result.as_dict()
        assert 'loop' in result.error.message
    assert worker.detach(volume.name).status == 'detached'
