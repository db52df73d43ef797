# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is on this host, in words that two runs have in common."""

from collections.abc import Iterator
import pathlib
from typing import Any

from tests.contract import bed as beds
from tests.kernel import daemons

_SYS = pathlib.Path('/sys')
_ROOT = pathlib.Path('/')
_DIRECTORIES = (
    'etc/iscsi/nodes',
    'etc/iscsi/send_targets',
    'var/lib/iscsi/nodes',
    'var/lib/iscsi/send_targets',
    'run/lock/iscsi',
)
_WWIDS = pathlib.Path('/etc/multipath/wwids')
#: Programs that the worker starts and that end before it answers.
_CHILDREN = frozenset(
    ('iscsiadm', 'multipath', 'dmsetup', 'cryptsetup', 'nvme')
)


def take() -> dict[str, Any]:
    """A picture of the machine, without growing numbers."""
    return {
        'sessions': sorted(
            _session(path) for path in _entries('iscsi_session')
        ),
        'node_records': _files('etc/iscsi/nodes'),
        'scsi_devices': sorted(
            found
            for path in _entries('scsi_device')
            if (found := _device(path / 'device'))
        ),
        'block_devices': sorted(
            found
            for path in _entries('block')
            if (path / 'device/wwid').exists()
            and (found := _device(path / 'device'))
        ),
        # the storage has files of its own
        'loop_files': sorted(
            file
            for path in _entries('block')
            if (file := _text(path / 'loop/backing_file')).startswith(
                beds.LOCAL_ROOT
            )
        ),
        'nvme_controllers': sorted(
            [_text(path / name) for name in ('subsysnqn', 'address', 'state')]
            for path in _entries('nvme')
        ),
        'nvme_devices': sorted(
            _text(path / 'uuid')
            for path in _entries('block')
            if path.name.startswith('nvme')
        ),
        'rbd_images': sorted(
            [_text(path / name) for name in ('pool', 'name', 'image_id')]
            for path in (_SYS / 'bus/rbd/devices').glob('*')
        ),
        'mounts': beds.mounts_of(_ROOT),
        'maps': sorted(
            _text(path / 'dm/uuid')
            for path in _entries('block')
            if path.name.startswith('dm-')
        ),
        'links': sorted(_links()),
        'files': [name for place in _DIRECTORIES for name in _files(place)],
        'wwids': sorted(
            line
            for line in _text(_WWIDS).splitlines()
            if line and not line.startswith('#')
        ),
        # a disk that is made again may have another name than before
        'multipathd_paths': sorted(
            _device(_SYS / 'class/block' / disk / 'device') or [disk]
            for disk in daemons.multipathd_paths()
        ),
        'children': sorted(_children()),
    }


def sessions() -> list[tuple[str, str, str]]:
    """Number, target and portal of each iSCSI session."""
    found = []
    for path in _entries('iscsi_session'):
        target, portal, _state = _session(path)
        found.append((path.name.removeprefix('session'), target, portal))
    return found


def _entries(kind: str) -> list[pathlib.Path]:
    directory = _SYS / 'class' / kind
    return list(directory.iterdir()) if directory.exists() else []


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ''


def _session(path: pathlib.Path) -> list[str]:
    number = path.name.removeprefix('session')
    connection = _SYS / f'class/iscsi_connection/connection{number}:0'
    address = _text(connection / 'persistent_address')
    if ':' in address:
        address = f'[{address}]'
    portal = f'{address}:{_text(connection / "persistent_port")}'
    return [_text(path / 'targetname'), portal, _text(path / 'state')]


def _device(path: pathlib.Path) -> list[str]:
    """A logical unit: its session, LUN and identity; empty if it is gone."""
    try:
        directory = path.resolve(strict=True)
    except OSError:
        return []
    owner: list[str] = []
    for parent in directory.parents:
        if parent.name.startswith('session'):
            owner = _session(_SYS / 'class/iscsi_session' / parent.name)
        elif parent.name.startswith('rport-'):
            port = _SYS / 'class/fc_remote_ports' / parent.name
            owner = [_text(port / 'port_name')]
    lun = directory.name.rpartition(':')[2]
    return [*owner, lun, _text(directory / 'wwid')]


def _links() -> Iterator[str]:
    """udev's names of disks and maps; each disk gets a new by-diskseq."""
    for path in pathlib.Path('/dev/disk').glob('by-*/*'):
        if path.parent.name == 'by-diskseq':
            continue
        try:
            leads_to = path.readlink().name
        except OSError:
            continue  # it is gone
        if leads_to.startswith(('sd', 'dm-')):
            yield str(path)


def _children() -> Iterator[str]:
    for path in pathlib.Path('/proc').glob('[0-9]*/comm'):
        command = _text(path)
        if command in _CHILDREN:
            yield command


def _files(place: str) -> list[str]:
    return sorted(
        str(path.relative_to(_ROOT))
        for path in (_ROOT / place).rglob('*')
        if not path.is_dir()
    )
