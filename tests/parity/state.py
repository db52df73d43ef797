# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""States of a host in which a volume is attached."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import subprocess

import rtslib_fb

from tests.contract import bed as beds
from tests.kernel import bed as kernel
from tests.kernel import ceph
from tests.kernel import lio
from tests.kernel import picture

_SYS = pathlib.Path('/sys')

State = Callable[
    [kernel.KernelBed, beds.Volume], contextlib.AbstractContextManager[None]
]


@contextlib.contextmanager
def session_exists(
    bed: kernel.KernelBed, volume: beds.Volume
) -> Iterator[None]:
    """Somebody else has made the session, for another LUN."""
    other = bed.create_volume(on=volume)
    node = ['iscsiadm', '-m', 'node', '-T', volume.target]
    node += ['-p', volume.portals[0]]
    _run(*node, '-o', 'new')
    _run(*node, '-o', 'update', '-n', 'node.session.scan', '-v', 'manual')
    _run(*node, '--login')
    try:
        host = _host(volume.target)
        (_SYS / f'class/scsi_host/{host}/scan').write_text(f'0 0 {other.lun}')
        yield
    finally:
        _run(*node, '--logout')
        # os-brick leaves it to whoever logs out
        _run(*node, '-o', 'delete')
        bed.remove_volume(other)


@contextlib.contextmanager
def listens_on_ipv6(
    bed: kernel.KernelBed, volume: beds.Volume
) -> Iterator[None]:
    target = rtslib_fb.Target(
        rtslib_fb.FabricModule('iscsi'), volume.target, mode='lookup'
    )
    portal = rtslib_fb.NetworkPortal(
        next(target.tpgs), '[::1]', lio.PORT, mode='create'
    )
    try:
        yield
    finally:
        portal.delete()


@contextlib.contextmanager
def other_target(bed: kernel.KernelBed, volume: beds.Volume) -> Iterator[None]:
    """The portals show somebody else's volume, too."""
    other = bed.create_volume(portals=len(volume.portals))
    try:
        yield
    finally:
        bed.remove_volume(other)


@contextlib.contextmanager
def namesake_mapped(
    bed: kernel.KernelBed, volume: beds.Volume
) -> Iterator[None]:
    """Somebody else uses an image of the same name, of another pool."""
    other = bed.create_rbd_volume(pool='backups', name=volume.name)
    with rbd_mapped(bed, other):
        yield
    bed.remove_volume(other)


@contextlib.contextmanager
def rbd_mapped(bed: kernel.KernelBed, volume: beds.Volume) -> Iterator[None]:
    """Somebody else has mapped the image."""
    _run('rbd', 'map', '--conf', str(ceph.cluster().conf), volume.target)
    try:
        yield
    finally:
        take_away(volume)


def portals_dead(*which: int) -> State:
    """Connections to these of the volume's portals are refused."""

    @contextlib.contextmanager
    def dead(bed: kernel.KernelBed, volume: beds.Volume) -> Iterator[None]:
        portals = [volume.portals[index] for index in which]
        for portal in portals:
            if volume.protocol == 'nvmeof':
                bed.kill_path(volume, portal)
            else:
                bed.stop_portal(portal)
        try:
            yield
        finally:
            for portal in portals:
                if volume.protocol == 'nvmeof':
                    bed.restore_path(volume, portal)
                else:
                    bed.start_portal(portal)

    return dead


def take_away(volume: beds.Volume) -> None:
    """Somebody else takes its device away, with the session if it has one."""
    if volume.protocol == 'rbd':
        pool, _, name = volume.target.partition('/')
        for path in (_SYS / 'bus/rbd/devices').iterdir():
            if [(path / one).read_text() for one in ('pool', 'name')] == [
                f'{pool}\n',
                f'{name}\n',
            ]:
                _run('rbd', 'unmap', f'/dev/rbd{path.name}')
        return
    if volume.protocol == 'nvmeof':
        _run('nvme', 'disconnect', '-n', volume.target)
        return
    for session, target, _portal in picture.sessions():
        if target == volume.target:
            kernel.log_out(session)


def _host(target: str) -> str:
    for session, name, _portal in picture.sessions():
        if name == target:
            directory = _SYS / f'class/iscsi_session/session{session}/device'
            return directory.resolve().parent.name
    raise LookupError(target)


def _run(*arguments: str) -> None:
    subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
