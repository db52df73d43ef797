# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
)

_DISCOVERIES = 'etc/iscsi/send_targets/'

_SETTLE = 20.0  # seconds

Data = dict[str, Any]


class Side(Protocol):
    """Raises nothing: an error is the name of its class."""

    name: str

    def connect(self, data: Data, multipath: bool) -> tuple[Any, str]: ...

    def extend(self, data: Data, multipath: bool) -> tuple[Any, str]: ...

    def disconnect(self, data: Data, device: Any, multipath: bool) -> str: ...


class OSBrick:
    name = 'os_brick'

    def __init__(self, peer: process.Peer) -> None:
        self._peer = peer

    def connect(self, data: Data, multipath: bool) -> tuple[Any, str]:
        # A look for the LUN takes it four seconds; three take it a minute.
        answer = self._peer.connect(data, multipath, attempts=0)
        return answer.result, answer.error or ''

    def extend(self, data: Data, multipath: bool) -> tuple[Any, str]:
        answer = self._peer.extend(data, multipath)
        return answer.result, answer.error or ''

    def disconnect(self, data: Data, device: Any, multipath: bool) -> str:
        return self._peer.disconnect(data, device, multipath).error or ''


class AttachWorker:
    name = 'attachworker'

    def __init__(self, worker: harness.Harness) -> None:
        self._worker = worker.name

    def _connector(self, multipath: bool) -> brick.RemoteConnector:
        return brick.RemoteConnector(
            transport_url=harness.BUS,
            host=self._worker,
            use_multipath=multipath,
        )

    def connect(self, data: Data, multipath: bool) -> tuple[Any, str]:
        try:
            return self._connector(multipath).connect_volume(data), ''
        except exception.BrickException as error:
            return None, type(error).__name__

    def extend(self, data: Data, multipath: bool) -> tuple[Any, str]:
        try:
            return self._connector(multipath).extend_volume(data), ''
        except exception.BrickException as error:
            return None, type(error).__name__

    def disconnect(self, data: Data, device: Any, multipath: bool) -> str:
        try:
            self._connector(multipath).disconnect_volume(data, device)
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
        device, error = side.connect(data, row.multipath)
        result: dict[str, Any] = {'error': error}
        if device is not None:
            result |= _seen(device, bed, volume)
            result |= _used(device, side, row, bed, volume, data)
        result['left'] = _more(bed.snapshot(), present)
    if result['left']:
        _tidy(volume)
    # For the next one. multipathd lets go after the kernel's events.
    end = time.monotonic() + _SETTLE
    while (more := _more(bed.snapshot(), before)) and time.monotonic() < end:
        time.sleep(0.1)
    assert more == [], result
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
        again, result['attach_again_error'] = side.connect(data, row.multipath)
        result['attach_again_same'] = again == device
    if row.grown is not None:
        bed.resize_volume(volume, row.grown)
        answer = side.extend(data, row.multipath)
        result['extend_answer'], result['extend_error'] = answer
        result['extend_size'] = _size(device)
    if row.gone:
        row.gone(volume)
    result['detach_error'] = side.disconnect(data, device, row.multipath)
    if row.repeat:
        error = side.disconnect(data, device, row.multipath)
        result['detach_again_error'] = error
    if row.grown is not None:
        bed.resize_volume(volume, volume.size)
    return result


def _size(device: Data) -> int:
    name = os.path.basename(device['path'])
    sectors = pathlib.Path(f'/sys/class/block/{name}/size').read_text()
    return int(sectors) * 512


def _seen(
    device: Data, bed: kernel.KernelBed, volume: beds.Volume
) -> dict[str, Any]:
    name = os.path.basename(device['path'])
    return {
        'type': device['type'],
        'scsi_wwn': device['scsi_wwn'],
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
    discovery = ['discoverydb', '-t', 'sendtargets', '-p', volume.portals[0]]
    for command in (
        # of all targets: a discovery records what it finds
        ['iscsiadm', '-m', 'node', '-o', 'delete'],
        ['iscsiadm', '-m', *discovery, '-o', 'delete'],
        ['multipath', '-w', f'3{volume.wwn}'],
    ):
        # that there is nothing of it is an error to some of them
        subprocess.run(command, capture_output=True, check=False)
