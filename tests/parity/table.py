# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
from tests.kernel import lio
from tests.parity import state

Data = dict[str, Any]
State = state.State


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

    :ivar storage: arguments of :meth:`beds.Bed.create_volume`, or of that of
        the protocol
    :ivar change: makes the data of the connection_info what the row is about
    :ivar state: what is so on the host while the volume is attached
    :ivar repeat: attach what is attached, and detach what is detached
    :ivar grown: bytes that the volume has on the storage from some time on
    :ivar gone: takes the device away behind the back of who attached it
    :ivar slow: os-brick's result is in recorded.json, because it takes long
    """

    name: str
    protocol: str = 'iscsi'
    storage: dict[str, Any] = dataclasses.field(default_factory=dict)
    multipath: bool = False
    change: Callable[[Data, beds.Volume], None] = unchanged
    state: State = fresh
    repeat: bool = False
    grown: int | None = None
    gone: Callable[[beds.Volume], None] | None = None
    slow: bool = False
    differences: tuple[Difference, ...] = ()


# -- data


def singular(data: Data, volume: beds.Volume) -> None:
    for key in ('target_portals', 'target_iqns', 'target_luns'):
        data.pop(key, None)


def lun_as_text(data: Data, volume: beds.Volume) -> None:
    data['target_lun'] = str(volume.lun)


def addressing(mode: str, lun: int) -> Callable[[Data, beds.Volume], None]:
    def change(data: Data, volume: beds.Volume) -> None:
        data |= {'addressing_mode': mode, 'target_lun': lun}

    return change


def other_lun(data: Data, volume: beds.Volume) -> None:
    data['target_lun'] = volume.lun + 7


def other_password(data: Data, volume: beds.Volume) -> None:
    data['auth_password'] = 'not-the-password'


def other_image(data: Data, volume: beds.Volume) -> None:
    data['name'] += '-not-there'


def other_key(data: Data, volume: beds.Volume) -> None:
    assert volume.chap is not None
    data['keyring'] = data['keyring'].replace(volume.chap[1], _OTHER_KEY)


def ipv6(data: Data, volume: beds.Volume) -> None:
    data['target_portal'] = f'[::1]:{lio.PORT}'


# -- the table

_CHAP = ('user', 'password-of-parity')
_OTHER_KEY = 'AQBSdFhcGdRZLRAAexEfvAfLuGI3LMtJ3n7ZEA=='
_LARGE = 48 * 1024 * 1024  # bytes
_WWIDS = (
    'os-brick leaves the line in /etc/multipath/wwids that a map gets when it '
    'is made: multipathd would put a later single path of that volume under a '
    'map.'
)
_LEFT_LINE = Difference('left', ['wwids'], [], _WWIDS)


def no_login(name: str) -> tuple[Difference, ...]:
    """Ours says more than that there is no device."""
    return (
        Difference(
            'error',
            'VolumeDeviceNotFound',
            name,
            'That nobody could log in is another thing than a LUN that is '
            'not there. os-brick has the class, but raises it only where a '
            'discovery fails. Whoever catches VolumeDeviceNotFound gets ours '
            'as well: it is a subclass.',
        ),
    )


def failed_command(name: str) -> tuple[Difference, ...]:
    """Ours says what has happened."""
    return (
        Difference(
            'error',
            'ProcessExecutionError',
            name,
            'os-brick lets out that a command has failed, which is none of '
            'its own exceptions. Whoever catches VolumeDeviceNotFound gets '
            'ours, as for the other protocols.',
        ),
    )


ROWS = (
    Row(
        'single path, repeated and extended',
        storage={'resizable': True},
        repeat=True,
        grown=_LARGE,
    ),
    Row('single path, session exists', state=state.session_exists),
    Row('CHAP', storage={'chap': _CHAP}),
    Row('two portals, single path', storage={'portals': 2}),
    Row('LUN 300, SAM', storage={'lun': 300}, change=addressing('SAM', 300)),
    Row(
        'LUN 300, SAM2', storage={'lun': 16684}, change=addressing('SAM2', 300)
    ),
    Row(
        'LUN 5, SAM3-flat',
        storage={'lun': 16389},
        change=addressing('SAM3-flat', 5),
    ),
    Row('IPv6 portal', change=ipv6, state=state.listens_on_ipv6),
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
    Row(
        'map of two paths, repeated and extended',
        storage={'portals': 2, 'resizable': True},
        multipath=True,
        repeat=True,
        grown=_LARGE,
        differences=(_LEFT_LINE,),
    ),
    Row(
        'map, one portal is dead',
        storage={'portals': 2},
        multipath=True,
        state=state.portals_dead(1),
        differences=(_LEFT_LINE,),
    ),
    Row(
        'map, portals by discovery',
        storage={'portals': 2},
        multipath=True,
        change=singular,
        state=state.other_target,
        differences=(
            Difference(
                'left',
                ['node_records', 'discovery_records', 'wwids'],
                [],
                'os-brick leaves the record of the discovery, and one of each '
                'other target that it found; whoever logs in to all records '
                'of a host gets the volumes of others. ' + _WWIDS,
            ),
        ),
    ),
    Row('LUN not mapped', change=other_lun, slow=True),
    Row(
        'wrong CHAP password',
        storage={'chap': _CHAP},
        change=other_password,
        slow=True,
        differences=no_login('TargetPortalNotFound'),
    ),
    Row(
        'the only portal is dead',
        state=state.portals_dead(0),
        slow=True,
        differences=no_login('TargetPortalNotFound'),
    ),
    Row(
        'map, all portals are dead',
        storage={'portals': 2},
        multipath=True,
        state=state.portals_dead(0, 1),
        slow=True,
        differences=no_login('TargetPortalsNotFound'),
    ),
    Row(
        'rbd, repeated and extended',
        'rbd',
        repeat=True,
        grown=_LARGE,
        differences=(
            Difference(
                'attach_again_same',
                False,
                True,
                'os-brick writes the key into a new file for each attach, '
                'and names it in what it returns. Ours writes none.',
            ),
            Difference(
                'detach_again_error',
                'ProcessExecutionError',
                '',
                'That file has gone with the first detach, and the command '
                'of the second one wants it. Nothing is to be done.',
            ),
        ),
    ),
    Row(
        'rbd, mapped by somebody else',
        'rbd',
        state=state.rbd_mapped,
        differences=(
            Difference(
                'left',
                ['rbd_images'],
                [],
                'os-brick takes away the mapping that somebody else had made '
                'before. Ours leaves it to whoever made it.',
            ),
        ),
    ),
    Row('rbd, the mapping is gone', 'rbd', gone=state.take_away),
    Row(
        'rbd, an image of the same name is mapped',
        'rbd',
        state=state.namesake_mapped,
        differences=(
            Difference(
                'left',
                ['rbd_images'],
                [],
                'os-brick looks for what it has to unmap by the name of the '
                'image alone: it takes away the image of the other pool, '
                'which somebody else uses, leaves its own, and reports '
                'success.',
            ),
        ),
    ),
    Row(
        'rbd, no such image',
        'rbd',
        change=other_image,
        differences=failed_command('VolumeDeviceNotFound'),
    ),
    Row(
        'rbd, wrong key',
        'rbd',
        change=other_key,
        differences=failed_command('TargetPortalNotFound'),
    ),
    Row('nvmeof, repeated and extended', 'nvmeof', repeat=True, grown=_LARGE),
    Row(
        'nvmeof, two portals',
        'nvmeof',
        storage={'portals': 2},
        multipath=True,
    ),
    Row('nvmeof, the controllers are gone', 'nvmeof', gone=state.take_away),
    Row(
        'nvmeof, the only portal is dead',
        'nvmeof',
        state=state.portals_dead(0),
        differences=no_login('TargetPortalNotFound'),
    ),
)
