# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What both guests have in common: the storage, and the disk of the host."""

from collections.abc import Callable
import dataclasses
import os
import pathlib
import shutil
import subprocess
import time
import uuid

from tests import harness
from tests.contract import bed as beds
from tests.kernel import daemons
from tests.kernel.bed import KernelBed
from tests.power import DISK

#: On the host: shared by the guests, one after the other.
SHARED = pathlib.Path(os.environ.get('LAB_RESULTS', ''))
#: Written, and never synchronized, right before that.
UNSYNCED = 'unsynced'

STATE = pathlib.Path('/var/lib/attachworker')
#: Who is told the results of casts; nobody listens before the power cut.
CALLER = 'caller'
REPLY_TO = {'exchange': CALLER, 'topic': CALLER, 'server': 'me'}

#: Seconds, see :func:`until`.
_PATIENCE = 60.0

_WWIDS = pathlib.Path('/etc/multipath/wwids')
_SIZE = 32 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Story:
    """What becomes of one volume before the power is cut.

    :ivar kind: the request that is in flight then; '' for none
    :ivar step: the task that this has come to
    :ivar moment: before it, or after it
    """

    kind: str = ''
    step: str = ''
    moment: str = 'after'
    portals: int = 1
    multipath: bool = False
    secret: bool = False
    seconds: int = 300


STORIES = {
    'recorded': Story(),
    'recorded-map': Story(portals=2, multipath=True),
    'recorded-secret': Story(secret=True),
    'attaching': Story('attach', 'ConnectTarget'),
    'attaching-map': Story(
        'attach', 'MapMultipath', portals=2, multipath=True
    ),
    'attaching-secret': Story('attach', 'VerifyDevice', secret=True),
    'attaching-late': Story('attach', 'GetConnector', 'before', seconds=1),
    'detaching': Story('detach', 'DisconnectTarget', 'before'),
    'detaching-map': Story('detach', 'RemoveMap', portals=2, multipath=True),
    'extending': Story('extend', 'RescanPaths'),
    # A cast that has ended, and its caller does not answer.
    'unsent': Story(),
    # A call that has ended, and its caller was told.
    'told': Story(),
}


def until(look: Callable[[], bool]) -> None:
    """Wait for what a guest is at.

    Only seconds in which it has nothing to do count: it may get little of the
    machine's processors, and then it has all the time.
    """
    limit = _idle() + _PATIENCE
    while not look():
        assert _idle() < limit, 'it has not happened'
        time.sleep(0.02)


def _idle() -> float:
    """Seconds since boot in which the guest's processor had nothing to do."""
    return float(pathlib.Path('/proc/uptime').read_text().split()[1])


def mount_disk() -> None:
    """Mount what this host has of its earlier life."""
    STATE.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ['mount', '-o', 'loop', str(SHARED / DISK), str(STATE)], check=True
    )
    if (STATE / 'wwids').exists():
        # The lab has no disk for /etc; a real host has.
        daemons.kill('multipathd')
        shutil.copy(STATE / 'wwids', _WWIDS)
        daemons.start('multipathd')
        daemons.wait_for_multipathd()


def keep_wwids() -> None:
    """What multipathd and the worker have written down outlives the boot."""
    with open(STATE / 'wwids', 'wb') as kept:
        kept.write(_WWIDS.read_bytes())
        os.fsync(kept.fileno())


def create_volumes(bed: KernelBed) -> dict[str, beds.Volume]:
    """The storage, which knows nothing of power cuts: always the same."""
    return {
        name: bed.create_volume(
            size=_SIZE,
            portals=story.portals,
            chap=('user', 'password-of-it') if story.secret else None,
            resizable=story.kind == 'extend',
            serial=uuid.uuid5(uuid.NAMESPACE_URL, name),
        )
        for name, story in STORIES.items()
    }


def worker(bed: KernelBed, **options: object) -> harness.Harness:
    return harness.Harness(
        bed,
        state_path=STATE,
        runtime_path='/run/attachworker',
        max_running_per_backend=16,
        **options,
    )
