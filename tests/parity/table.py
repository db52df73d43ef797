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

"""What is compared: connection_info and host state, row by row.

A row says nothing of the result: os-brick's is the reference. Where ours is
another on purpose, the row lists the field, both values, and why.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

from tests.contract import bed as beds
from tests.kernel import bed as kernel
from tests.parity import state

Data = dict[str, Any]
State = Callable[
    [kernel.KernelBed, beds.Volume], contextlib.AbstractContextManager[None]
]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A field in which the results are known to differ, and why."""

    field: str
    os_brick: Any
    attachworker: Any
    reason: str


def unchanged(data: Data, volume: beds.Volume) -> None:
    """As Cinder's LIO driver sends it."""


@contextlib.contextmanager
def fresh(bed: kernel.KernelBed, volume: beds.Volume) -> Iterator[None]:
    """Nothing of the target is on the host."""
    yield


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    :ivar storage: arguments of :meth:`beds.Bed.create_volume`
    :ivar change: makes the data of the connection_info what the row is about
    :ivar state: what is so on the host while the volume is attached
    :ivar gone: takes the device away behind the back of who attached it
    """

    name: str
    storage: dict[str, Any] = dataclasses.field(default_factory=dict)
    multipath: bool = False
    change: Callable[[Data, beds.Volume], None] = unchanged
    state: State = fresh
    gone: Callable[[beds.Volume], None] | None = None
    differences: tuple[Difference, ...] = ()


# -- data


def lun_as_text(data: Data, volume: beds.Volume) -> None:
    data['target_lun'] = str(volume.lun)


def addressing(mode: str, lun: int) -> Callable[[Data, beds.Volume], None]:
    def change(data: Data, volume: beds.Volume) -> None:
        data |= {'addressing_mode': mode, 'target_lun': lun}

    return change


# -- the table

_CHAP = ('user', 'password-of-parity')
ROWS = (
    Row('single path'),
    Row('single path, session exists', state=state.session_exists),
    Row('CHAP', {'chap': _CHAP}),
    Row('two portals, single path', {'portals': 2}),
    Row('LUN 300, SAM', {'lun': 300}, change=addressing('SAM', 300)),
    Row('LUN 300, SAM2', {'lun': 16684}, change=addressing('SAM2', 300)),
    Row('LUN 5, SAM3-flat', {'lun': 16389}, change=addressing('SAM3-flat', 5)),
    Row(
        'LUN as text',
        change=lun_as_text,
        differences=(
            Difference(
                'left',
                ['sessions', 'node_records', 'scsi_devices', 'block_devices'],
                [],
                'os-brick compares the text with a number when it '
                'disconnects, finds nothing, and reports success. A detach '
                'that succeeds has to have removed the device.',
            ),
        ),
    ),
    Row('device and session are gone', gone=state.take_away),
)
