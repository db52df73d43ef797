# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who takes part in random sequences, and what is known of them."""

from collections.abc import Callable
import dataclasses
import pathlib
import time
from typing import Any

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors.iscsi.initiator import Initiator
from tests.contract import bed as beds

#: Seconds in which what is let go after an answer must be gone.
PATIENCE = 15.0


class Somebody:
    """Another program on the host, that has attached a volume.

    It uses the same verbs as the worker, which knows nothing of it.
    """

    def __init__(self, bed: beds.Bed, volume: beds.Volume) -> None:
        self._bed = bed
        self._volume = volume
        address, _, port = volume.portals[0].rpartition(':')
        record = {
            'node.name': volume.target,
            'node.tpgt': '-1',
            'node.startup': 'manual',
            'iface.iscsi_ifacename': 'default',
            'iface.transport_name': 'tcp',
            'node.conn[0].address': address,
            'node.conn[0].port': port,
            'node.session.scan': 'manual',
        }
        code, text = bed.verbs.iscsi.login(
            volume.target, address, int(port), record, 30.0
        )
        assert code == 0, text
        host = bed.host()
        try:
            [session] = Initiator(host).sessions(
                volume.target, address, int(port)
            )
            self._sid = session.sid
            bed.verbs.scsi.scan(session.host, 0, session.target_id, volume.lun)

            deadline = deadlines.Deadline.after(PATIENCE)
            device = host.scsi.wait_for_disk(
                session.directory, volume.lun, deadline
            )
            assert device is not None
            self._path = f'/dev/{device.disk}'
            # Until then it may be there and not let itself be opened.
            host.scsi.wwn(device, deadline)
        finally:
            host.close()

    def node(self) -> pathlib.Path:
        return self._bed.root / self._path.lstrip('/')

    def check(self) -> None:
        """It still has what it attached."""
        assert self._bed.read(self._path) == self._volume.pattern

    def close(self) -> None:
        code, text = self._bed.verbs.iscsi.logout(self._sid, 30.0)
        assert code == 0, text


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What a condition returns once that is true, or in the end."""
    end = time.monotonic() + patience
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@dataclasses.dataclass
class Attached:
    """What the worker has answered."""

    multipath: bool
    device: objects.DeviceInfo
    content: beds.Volume
    #: WWNs of all that its LUN has led to since.
    seen: set[str]
    #: A detach failed after its first change.
    broken: bool = False
    #: Portals that somebody has logged out of since: the names of the disks
    #: there may be others' by now.
    lost: set[str] = dataclasses.field(default_factory=set)

    @property
    def portals(self) -> set[str]:
        return {
            path.portal
            for path in self.device.paths
            if path.state == 'connected'
        }


@dataclasses.dataclass
class Slot:
    """A LUN of a target.

    :ivar volume: says where it is
    :ivar content: says what is there now
    """

    name: str
    volume: beds.Volume
    content: beds.Volume
    attached: Attached | None = None

    @property
    def stale(self) -> bool:
        """Something else is there than was attached."""
        return (
            self.attached is not None
            and self.attached.content.wwn != self.content.wwn
        )

    def places(self) -> list[list[str]]:
        """Target, portal and LUN of the disks that must be there."""
        if self.attached is None or self.attached.broken or self.stale:
            return []
        return [
            [self.volume.target, portal, str(self.volume.lun)]
            for portal in self.attached.portals - self.attached.lost
        ]

    def remap(self, bed: beds.Bed) -> None:
        """Let the LUN lead to another volume from now on."""
        other = bed.create_volume(on=self.volume, mapped=False, resizable=True)
        bed.remap(self.volume, other)
        self.content = other

    def resize(self, bed: beds.Bed, size: int) -> None:
        bed.resize_volume(self.content, size)
        self.content = dataclasses.replace(self.content, size=size)

    def owns(self, device: list[str]) -> bool:
        """Whether a device in a snapshot is at this LUN."""
        return (device[0], device[-2]) == (
            self.volume.target,
            str(self.volume.lun),
        )


class Storage:
    """Three LUNs on two targets, and one that somebody else uses.

    Made once; a sequence leaves it as it may, but all portals up.
    """

    def __init__(self, bed: beds.Bed) -> None:
        first = bed.create_volume(portals=2, resizable=True)
        second = bed.create_volume(on=first, resizable=True)
        # The third shares its target, and its session, with somebody else.
        theirs = bed.create_volume()
        third = bed.create_volume(on=theirs, resizable=True)
        self.slots = [
            Slot(name, volume, volume)
            for name, volume in zip('ABC', (first, second, third), strict=True)
        ]
        self.portals = first.portals
        #: What went wrong; then it is of no use any more.
        self.failures: list[str] = []
        self.somebody = Somebody(bed, theirs)

    def close(self) -> None:
        self.somebody.close()
