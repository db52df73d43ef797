# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is the same for all protocols that bring SCSI devices."""

import abc
import dataclasses
import pathlib
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import base
from attachworker.host import block
from attachworker.host import scsi

LOG = logging.getLogger(__name__)

#: Seconds in which a device that is there begins to answer.
_ANSWERING = 2.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the kernel keeps what one target shows through one link.

    :ivar directory: of the link in sysfs, above those of its SCSI targets
    :ivar host: the number of its SCSI host
    :ivar channel: its channel there
    :ivar target_id: its target number there
    """

    directory: pathlib.Path
    host: int
    channel: int
    target_id: int


class SCSIConnector(base.Connector, abc.ABC):
    """Base of the connectors that find a LUN by a scan of one SCSI target."""

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        self._host.call('scsi.rescan', deadline, path.address)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        device = scsi.ScsiDevice(path.address, path.disk)
        return self._host.scsi.wwn(device, deadline)

    def _path(self, target: base.Target, device: scsi.ScsiDevice) -> base.Path:
        wwn = self._host.scsi.cached_wwn(device.hctl)
        return base.Path(target, device.disk or '', device.hctl, wwn)

    def _linked(self, device: scsi.ScsiDevice) -> base.LinkedDevice:
        """What an audit is told of a device."""
        return base.LinkedDevice(
            device.lun,
            device.disk,
            device.hctl,
            self._host.scsi.state(device.hctl),
            self._host.scsi.cached_wwn(device.hctl),
        )

    def _bring_from(self, place: Place, claim: base.Claim) -> base.Path:
        """The device of a target, found or made by a scan of its LUN.

        :raises DeviceNotFound: the storage does not show it there
        """
        units = self._host.scsi
        target, deadline = claim.target, claim.deadline

        def look() -> scsi.ScsiDevice | None:
            return units.find(place.directory, target.lun)

        def scan() -> None:
            units.scan(
                place.host,
                place.channel,
                place.target_id,
                target.lun,
                deadline,
            )

        found = look()
        if found is not None and self._stale(found, claim):
            self._drop_stale(found, claim)
            found = None
        elif found is not None and units.cached_wwn(found.hctl) is None:
            # Whichever volume it was, its size is to be that of this one.
            self._host.call('scsi.rescan', deadline, found.hctl)
        if found is not None:
            self._check_not_own(found, deadline)
        else:
            claim.holdings.intend_device(target)
            self._scan_until(
                target,
                scan,
                look,
                lambda event: f'/{place.directory.name}/' in event['DEVPATH'],
                deadline,
            )
        device = units.wait_for_disk(
            place.directory,
            target.lun,
            self._for_device(deadline),
        )
        if device is None or device.disk is None:
            raise base.not_found(target)
        return base.Path(target, device.disk, device.hctl)

    def _check_not_own(
        self, device: scsi.ScsiDevice, deadline: deadlines.Deadline
    ) -> None:
        """Refuse what the host lives on itself, as one started from a LUN.

        :raises DeviceOfHost: nobody is to be given that
        """
        if device.disk is None:
            return
        own = self._host.users.own_file_systems([device.disk], deadline)
        if own:
            raise exception.DeviceOfHost(
                device=device.disk, what=', '.join(own[device.disk])
            )

    def _stale(self, device: scsi.ScsiDevice, claim: base.Claim) -> bool:
        """Whether the LUN was given to another volume behind its back.

        The kernel goes on showing the identifier of the first one, if it has
        read one. If not, the one that the device gives itself will do.

        :raises DeviceNotFound: it does not say
        """
        if device.disk is None:
            return False

        def ask() -> tuple[str | None] | None:
            try:
                return (self._host.scsi.wwn(device, claim.deadline),)
            except OSError as error:
                if error.errno not in block.NO_ANSWER:
                    raise
                return None

        # A new one may have to be let be opened yet.
        answer = self._host.uevents.wait_for(
            ask,
            lambda event: event['DEVPATH'].endswith(f'/{device.disk}'),
            claim.deadline.sooner(_ANSWERING),
        )
        if answer is None:
            raise base.not_found(claim.target)
        (wwn,) = answer
        return self._host.scsi.cached_wwn(device.hctl) not in (None, wwn)

    def _drop_stale(self, device: scsi.ScsiDevice, claim: base.Claim) -> None:
        assert device.disk is not None
        target, deadline = claim.target, claim.deadline
        users = self._host.users.of([device.disk], deadline)[device.disk]
        if claim.holdings.path_holders(target):
            users.append('another attachment')
        if claim.holdings.made_device(target):
            # An attach that is repeated must not harm the one that is there.
            users.append('this attachment')
        if users:
            raise exception.IdentityMismatch(
                device=device.disk,
                found='a leftover of another volume, used by '
                + ', '.join(users),
                expected='volume',
            )
        LOG.warning(
            'Removing %s (%s), left behind by another volume at this LUN',
            device.disk,
            device.hctl,
        )
        if not self._remove(self._path(target, device), claim):
            raise exception.HostToolFailed(
                what=f'Removing {device.disk}, a leftover of another volume',
                reason='the kernel has not let go of it in time; see dmesg',
            )

    def _remove(self, path: base.Path, claim: base.Claim) -> bool:
        # What waits for a target that has died, maybe for a day, ends with
        # the device; multipathd, told to let go of it first, would wait, too.
        waits = self._host.scsi.state(path.address) == scsi.BLOCKED
        if path.disk and not waits:
            self._host.multipath.release(path.disk, path.wwn, claim.deadline)
        within = self._for_device(claim.deadline)
        return self._host.scsi.remove(path.address, within)


def device_options() -> list[Any]:
    """The options of those who bring SCSI devices."""
    return [
        base.scan_attempts('LUN'),
        cfg.IntOpt(
            'device_timeout',
            mutable=True,
            default=30,
            min=1,
            max=600,
            help='Seconds that the kernel may take to make, or to remove, '
            'the block device of a LUN.',
        ),
    ]
