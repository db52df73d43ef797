# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is on a simulated host, in words that two runs have in common."""

import pathlib
from typing import Any

from tests.contract import bed as beds
from tests.simulator import multipathd
from tests.simulator import portals

_DIRECTORIES = ('etc/iscsi/nodes', 'etc/iscsi/send_targets', 'run/lock/iscsi')


def of(
    root: pathlib.Path, children: list[str], known: list[str]
) -> dict[str, Any]:
    """A picture of the tree below ``root``, without growing numbers.

    :param known: the disks that multipathd knows
    """
    sys = root / 'sys'
    return {
        'sessions': sorted(
            _session(path) for path in (sys / 'class/iscsi_session').iterdir()
        ),
        'node_records': _files(root, 'etc/iscsi/nodes'),
        'scsi_devices': sorted(
            _device(path / 'device')
            for path in (sys / 'class/scsi_device').iterdir()
        ),
        'block_devices': sorted(
            _device(path / 'device')
            for path in (sys / 'class/block').iterdir()
            if not path.name.startswith(('dm-', 'loop', 'nvme', 'rbd'))
        ),
        'loop_files': sorted(
            _text(path / 'loop/backing_file')
            for path in (sys / 'class/block').glob('loop*')
        ),
        'nvme_controllers': sorted(
            [_text(path / name) for name in ('subsysnqn', 'address', 'state')]
            for path in (sys / 'class/nvme').iterdir()
        ),
        'nvme_devices': sorted(
            _text(path / 'uuid')
            for path in (sys / 'class/block').glob('nvme*')
        ),
        'rbd_images': sorted(
            [_text(path / name) for name in ('pool', 'name', 'image_id')]
            for path in (sys / 'bus/rbd/devices').iterdir()
        ),
        'mounts': beds.mounts_of(root),
        'maps': sorted(
            _text(path / 'dm/uuid')
            for path in (sys / 'class/block').iterdir()
            if path.name.startswith('dm-')
        ),
        'links': [],
        'files': [
            name for place in _DIRECTORIES for name in _files(root, place)
        ],
        'wwids': sorted(_text(root / multipathd.WWIDS).splitlines()),
        'multipathd_paths': sorted(
            _device(sys / 'class/block' / disk / 'device') for disk in known
        ),
        'children': children,
    }


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ''


def _session(path: pathlib.Path) -> list[str]:
    number = path.name.removeprefix('session')
    connection = path.parents[1] / f'iscsi_connection/connection{number}:0'
    address = _text(connection / 'persistent_address')
    port = _text(connection / 'persistent_port')
    portal = portals.key(address, int(port)) if port else ''
    return [_text(path / 'targetname'), portal, _text(path / 'state')]


def _device(path: pathlib.Path) -> list[str]:
    """A logical unit: its session, LUN and identity."""
    directory = path.resolve()
    sys = next(p for p in path.parents if p.name == 'class')
    owner: list[str] = []
    for parent in directory.parents:
        if parent.name.startswith('session'):
            owner = _session(sys / 'iscsi_session' / parent.name)
        elif parent.name.startswith('rport-'):
            owner = [
                _text(sys / 'fc_remote_ports' / parent.name / 'port_name')
            ]
    lun = directory.name.rpartition(':')[2]
    return [*owner, lun, _text(directory / 'wwid')]


def _files(root: pathlib.Path, place: str) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in (root / place).rglob('*')
        if not path.is_dir()
    )
