# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Those that are compared, and the results in words they have in common."""

import os
import pathlib
import subprocess
import time
from typing import Any
from typing import Protocol

from attachworker import brick
from attachworker import exception
from tests import harness
from tests.contract import bed as beds
from tests.kernel import bed as kernel
from tests.parity import state
from tests.parity import table
from tests.peer import process

#: Of a snapshot: what a detach has to have taken away. The lock files and
#: the time udev needs for its links are nobody's result.
_LASTING = (
    'sessions',
    'node_records',
    'discovery_records',
    'scsi_devices',
    'block_devices',
    'maps',
    'wwids',
    'nvme_controllers',
    'nvme_devices',
    'rbd_images',
)

_DISCOVERIES = 'etc/iscsi/send_targets/'

_SETTLE = 20.0  # seconds

Data = dict[str, Any]


class Side(Protocol):
    """Raises nothing: an error is the name of its class."""

    name: str

    def connect(self, row: table.Row, data: Data) -> tuple[Any, str]: ...

    def extend(self, row: table.Row, data: Data) -> tuple[Any, str]: ...

    def disconnect(self, row: table.Row, data: Data, device: Any) -> str: ...


class OSBrick:
    name = 'os_brick'

    def __init__(self, peer: process.Peer) -> None:
        self._peer = peer

    def connect(self, row: table.Row, data: Data) -> tuple[Any, str]:
        answer = self._peer.connect(
            data,
            row.multipath,
            # A look for a LUN takes it four seconds; three take it a minute.
            attempts=0 if row.protocol == 'iscsi' else 3,
            protocol=row.protocol,
        )
        return answer.result, answer.error or ''

    def extend(self, row: table.Row, data: Data) -> tuple[Any, str]:
        answer = self._peer.extend(data, row.multipath, row.protocol)
        return answer.result, answer.error or ''

    def disconnect(self, row: table.Row, data: Data, device: Any) -> str:
        answer = self._peer.disconnect(
            data, device, row.multipath, row.protocol
        )
        return answer.error or ''


class AttachWorker:
    name = 'attachworker'

    def __init__(self, worker: harness.Harness) -> None:
        self._worker = worker.name

    def _connector(self, row: table.Row) -> brick.RemoteConnector:
        return brick.RemoteConnector(
            transport_url=harness.BUS,
            host=self._worker,
            protocol=row.protocol,
            use_multipath=row.multipath,
        )

    def connect(self, row: table.Row, data: Data) -> tuple[Any, str]:
        try:
            return self._connector(row).connect_volume(data), ''
        except exception.BrickException as error:
            return None, type(error).__name__

    def extend(self, row: table.Row, data: Data) -> tuple[Any, str]:
        try:
            return self._connector(row).extend_volume(data), ''
        except exception.BrickException as error:
            return None, type(error).__name__

    def disconnect(self, row: table.Row, data: Data, device: Any) -> str:
        try:
            self._connector(row).disconnect_volume(data, device)
        except exception.BrickException as error:
            return type(error).__name__
        return ''


def result_of(
    side: Side, row: table.Row, bed: kernel.KernelBed, volume: beds.Volume
) -> dict[str, Any]:
    """Attach and detach a volume as the row says, and tell how it went."""
    data = volume.connection_info(row.multipath)['data']
    row.change(data, volume)
    before = bed.snapshot()
    with row.state(bed, volume):
        present = bed.snapshot()
        device, error = side.connect(row, data)
        result: dict[str, Any] = {'error': error}
        if device is not None:
            result |= _seen(device, bed, volume)
            result |= _used(device, side, row, bed, volume, data)
        result['left'] = _more(bed.snapshot(), present)
    # For the next one. multipathd lets go after the kernel's events, and may
    # write its line again on the way, for a map of disks that are going.
    end = time.monotonic() + _SETTLE
    more: Any = True
    while more and time.monotonic() < end:
        if result['left']:
            _tidy(volume)
        time.sleep(0.1)
        more = _more(bed.snapshot(), before)
    assert not more, (more, result)
    return result


def _used(
    device: Data,
    side: Side,
    row: table.Row,
    bed: kernel.KernelBed,
    volume: beds.Volume,
    data: Data,
) -> dict[str, Any]:
    """All that the row wants after the attach, and the detach."""
    result: dict[str, Any] = {}
    if row.repeat:
        again, result['attach_again_error'] = side.connect(row, data)
        result['attach_again_same'] = again == device
    if row.grown is not None:
        bed.resize_volume(volume, row.grown)
        answer = side.extend(row, data)
        result['extend_answer'], result['extend_error'] = answer
        result['extend_size'] = _size(device)
    if row.gone:
        row.gone(volume)
    result['detach_error'] = side.disconnect(row, data, device)
    if row.repeat:
        error = side.disconnect(row, data, device)
        result['detach_again_error'] = error
    if row.grown is not None:
        bed.resize_volume(volume, volume.size)
    return result


def _size(device: Data) -> int:
    name = os.path.basename(os.path.realpath(device['path']))
    sectors = pathlib.Path(f'/sys/class/block/{name}/size').read_text()
    return int(sectors) * 512


def _seen(
    device: Data, bed: kernel.KernelBed, volume: beds.Volume
) -> dict[str, Any]:
    name = os.path.basename(os.path.realpath(device['path']))
    return {
        'type': device['type'],
        'scsi_wwn': device.get('scsi_wwn'),
        'multipath_id': device.get('multipath_id'),
        'kind': name.rstrip('0123456789').rstrip('-')[:2],
        'size': _size(device),
        'data': bed.read(device['path']) == volume.pattern,
    }


def _more(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """The kinds of things of which there are other ones than before."""
    return [name for name in _LASTING if _of(now, name) != _of(before, name)]


def _of(snapshot: dict[str, Any], name: str) -> list[Any]:
    if name == 'discovery_records':
        found = snapshot['files']
        return [path for path in found if path.startswith(_DISCOVERIES)]
    things: list[Any] = snapshot[name]
    return things


def _tidy(volume: beds.Volume) -> None:
    """What one leaves must not be there for the next."""
    state.take_away(volume)
    if volume.protocol != 'iscsi':
        return
    discovery = ['discoverydb', '-t', 'sendtargets', '-p', volume.portals[0]]
    for command in (
        # of all targets: a discovery records what it finds
        ['iscsiadm', '-m', 'node', '-o', 'delete'],
        ['iscsiadm', '-m', *discovery, '-o', 'delete'],
        ['multipath', '-w', f'3{volume.wwn}'],
    ):
        # that there is nothing of it is an error to some of them
        subprocess.run(command, capture_output=True, check=False)
