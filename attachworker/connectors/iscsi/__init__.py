# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""iSCSI: a session per target and portal, a SCSI device per LUN."""

import contextlib
import dataclasses
from typing import Any

from oslo_config import cfg
from oslo_config import types
from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.conf.types import AbsolutePath
from attachworker.connectors import base
from attachworker.connectors.iscsi import discovery
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi import node_record
from attachworker.connectors.iscsi import sessions
from attachworker.host import Host
from attachworker.host import block
from attachworker.host import locks
from attachworker.host import scsi as host_scsi

LOG = logging.getLogger(__name__)

#: Name of the lock file of os-brick's connectors, all protocols alike.
OS_BRICK_LOCK = 'os-brick-connect_volume'

_DIGESTS = ['None', 'CRC32C', 'CRC32C,None', 'None,CRC32C']
#: Seconds in which a device that is there begins to answer.
_ANSWERING = 2.0
_DIGEST_HELP = (
    ' The first that the target can do is used. Unset: as iscsid.conf says.'
)


class ISCSIConnector(base.Connector):
    """Serves ``driver_volume_type`` iscsi and iser."""

    def __init__(self, host: Host, settings: Any) -> None:
        super().__init__(host, settings)
        self._initiator = initiator.Initiator(host)
        self._sessions = sessions.Sessions(host, self._initiator, settings)
        # What os-brick in other processes holds while it attaches or detaches.
        self._os_brick = locks.FileLocks(
            OS_BRICK_LOCK, settings.os_brick_lock_paths
        )

    @classmethod
    def options(cls) -> list[Any]:
        return [
            cfg.IntOpt(
                'login_timeout',
                mutable=True,
                default=15,
                min=1,
                max=600,
                help='Seconds that a portal may take to answer, and again '
                'that a login may take.',
            ),
            base.scan_attempts('LUN'),
            cfg.IntOpt(
                'device_timeout',
                mutable=True,
                default=30,
                min=1,
                max=600,
                help='Seconds that the kernel may take to make, or to '
                'remove, the block device of a LUN.',
            ),
            cfg.ListOpt(
                'chap_algorithms',
                mutable=True,
                item_type=types.String(
                    choices=['MD5', 'SHA1', 'SHA256', 'SHA3-256']
                ),
                default=[],
                help='Digest algorithms that are offered for CHAP, of a '
                'session and of a discovery, the preferred one first. Empty: '
                'as iscsid.conf says.',
            ),
            cfg.StrOpt(
                'header_digest',
                mutable=True,
                choices=_DIGESTS,
                help='Checksum over the headers of iSCSI.' + _DIGEST_HELP,
            ),
            cfg.StrOpt(
                'data_digest',
                mutable=True,
                choices=_DIGESTS,
                help='Checksum over the data of iSCSI.' + _DIGEST_HELP,
            ),
            cfg.IntOpt(
                'replacement_timeout',
                mutable=True,
                default=5,
                min=0,
                max=86400,
                help='Seconds after which a session that has lost its '
                'connection fails what waits for it, where the attach asked '
                'for multipath: another path can do it then. The default is '
                'what multipathd sets by itself (its fast_io_fail_tmo). A '
                'volume with a single path waits as long as iscsid.conf says.',
            ),
            cfg.ListOpt(
                'os_brick_lock_paths',
                item_type=AbsolutePath(),
                default=[],
                help='Directories, each the lock_path of a service on this '
                'host that uses os-brick (option lock_path of its group '
                "os_brick or oslo_concurrency). The worker takes os-brick's "
                'lock file os-brick-connect_volume there from a login until '
                'the device is visible, and from the last look for users of a '
                'session until its logout, so that neither ends a session '
                'that the other is about to use. An attach that is stuck lets '
                'go of it after 10 s. The user of the worker has to be '
                'allowed to write to that file. Empty: no lock is taken.',
            ),
        ]

    def unavailable(self) -> str | None:
        if self._initiator.name() is None:
            return (
                'no initiator name in /etc/iscsi/initiatorname.iscsi; '
                'install open-iscsi or run iscsi-iname'
            )
        if self._host.tool('iscsiadm') is None:
            return 'iscsiadm is not installed; install open-iscsi'
        return self._os_brick.unavailable()

    def properties(self) -> dict[str, Any]:
        name = self._initiator.name()
        return {} if name is None else {'initiator': name}

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        assert isinstance(info, objects.ISCSIConnectionInfo)
        timeout = self._sessions.login_timeout(deadline)
        found = discovery.Discovery(
            self._host,
            self._initiator,
            info,
            self._interface(info, deadline),
            timeout,
            self._settings.chap_algorithms,
        )
        return found.targets(multipath, deadline)

    def _interface(
        self,
        info: objects.ISCSIConnectionInfo,
        deadline: deadlines.Deadline,
    ) -> initiator.Interface:
        """The iface that a request goes through."""
        timeout = self._sessions.login_timeout(deadline)
        name = node_record.interface(info)
        return self._initiator.interface(name, timeout, deadline)

    def disconnect(
        self, claim: base.Claim, may_remove: base.MayRemove
    ) -> list[str]:
        leftovers = []
        places = self._sessions.by_address(claim.target, claim.deadline)
        for place in places:
            at_place = dataclasses.replace(claim, target=place)
            leftovers += super().disconnect(at_place, may_remove)
        return leftovers

    def paths(self, target: base.Target) -> list[base.Path]:
        deadline = deadlines.Deadline.after(self._settings.login_timeout)
        found = []
        for place in self._sessions.by_address(target, deadline):
            found += super().paths(place)
        return found

    def path_of(self, disk: str) -> base.Path | None:
        found = self._initiator.session_of(disk)
        if found is None:
            return None
        session, portal = found
        device = self._host.scsi.of_disk(disk)
        target = base.Target(portal, session.target_name, device.lun)
        wwn = self._host.scsi.cached_wwn(device.hctl)
        return base.Path(target, disk, device.hctl, wwn)

    def links(self, claimed: list[str]) -> list[base.Link]:
        return [
            base.Link(
                f'session {session.sid}',
                session.target_name,
                frozenset(portals),
                tuple(
                    base.LinkedDevice(
                        device.lun,
                        device.disk,
                        device.hctl,
                        self._host.scsi.state(device.hctl),
                        self._host.scsi.cached_wwn(device.hctl),
                    )
                    for device in self._host.scsi.devices(session.directory)
                ),
                session.sid,
                session.state == initiator.LOGGED_IN,
                session.state,
            )
            for session, portals in self._initiator.everything()
        ]

    def rescan(self, path: base.Path, deadline: deadlines.Deadline) -> None:
        self._host.call('scsi.rescan', deadline, path.address)

    def _identifier(
        self, path: base.Path, deadline: deadlines.Deadline
    ) -> str | None:
        device = host_scsi.ScsiDevice(path.address, path.disk)
        return self._host.scsi.wwn(device, deadline)

    # -- sessions

    def _acted_on(self, target: base.Target) -> list[str]:
        sessions = self._sessions.of(target)
        return [
            target.link_key,
            *(f'session{session.sid}' for session in sessions),
            # A scan that is stuck keeps a SCSI host from removing devices.
            *(f'host{session.host}' for session in sessions),
        ]

    def _find_way(
        self, info: objects.ConnectionInfo, claim: base.Claim
    ) -> initiator.Interface:
        assert isinstance(info, objects.ISCSIConnectionInfo)
        interface = self._interface(info, claim.deadline)
        if not self._sessions.usable(interface, claim.target):
            timeout = self._sessions.login_timeout(claim.deadline)
            interface.probe(claim.target.portal, timeout)
        return interface

    def _others_kept_off(
        self, deadline: deadlines.Deadline
    ) -> contextlib.AbstractContextManager[None]:
        return self._os_brick.hold(deadline)

    def _link(
        self, info: objects.ConnectionInfo, claim: base.Claim, way: Any
    ) -> initiator.Session:
        assert isinstance(info, objects.ISCSIConnectionInfo)
        session = self._sessions.log_in(info, way, claim)
        # A target may send who logs in to another portal.
        for portal in self._initiator.portals(session):
            base.check_portal(self._host, portal, claim.deadline)
        return session

    def _leave_link(
        self,
        claim: base.Claim,
        may_remove: base.MayRemove,
        leftovers: list[str],
    ) -> list[str]:
        target = claim.target
        with (
            # Whoever has begun to use the session would lose it. What is not
            # ours to end needs no lock, and no waiting for one.
            self._os_brick.hold(claim.deadline, lasting=True)
            if self._sessions.ours(claim)
            else contextlib.nullcontext()
        ):
            awaited = self._sessions.is_login_pending(claim)
            left = leftovers + self._sessions.log_out(claim)
            if (
                left
                or claim.holdings.shares_link(target)
                or self._sessions.of(target)
            ):
                return left
            if awaited:
                return [f'the login to {target}, if it succeeds']
            self._sessions.forget(claim)
        return []

    # -- devices

    def _devices(self, target: base.Target) -> list[base.Path]:
        found = []
        for session in self._sessions.of(target):
            device = self._host.scsi.find(session.directory, target.lun)
            if device is not None:
                wwn = self._host.scsi.cached_wwn(device.hctl)
                found.append(
                    base.Path(target, device.disk or '', device.hctl, wwn)
                )
        return found

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        session: initiator.Session = link
        scsi = self._host.scsi
        target, deadline = claim.target, claim.deadline

        def look() -> host_scsi.ScsiDevice | None:
            return scsi.find(session.directory, target.lun)

        found = look()
        if found is not None and self._stale(found, claim):
            self._drop_stale(found, claim)
            found = None
        elif found is not None and scsi.cached_wwn(found.hctl) is None:
            # Whichever volume it was, its size is to be that of this one.
            self._host.call('scsi.rescan', deadline, found.hctl)
        if found is None:
            claim.holdings.intend_device(target)
            self._scan_until(
                target,
                lambda: scsi.scan(
                    session.host, session.target_id, target.lun, deadline
                ),
                look,
                lambda event: (
                    f'/{session.directory.name}/' in event['DEVPATH']
                ),
                deadline,
            )
        device = scsi.wait_for_disk(
            session.directory,
            target.lun,
            self._for_device(deadline),
        )
        if device is None or device.disk is None:
            raise base.not_found(target)
        return base.Path(target, device.disk, device.hctl)

    def _stale(self, device: host_scsi.ScsiDevice, claim: base.Claim) -> bool:
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

    def _drop_stale(
        self, device: host_scsi.ScsiDevice, claim: base.Claim
    ) -> None:
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
        wwn = self._host.scsi.cached_wwn(device.hctl)
        leftover = base.Path(target, device.disk, device.hctl, wwn)
        if not self._remove(leftover, claim):
            raise exception.HostToolFailed(
                what=f'Removing {device.disk}, a leftover of another volume',
                reason='the kernel has not let go of it in time; see dmesg',
            )

    def _remove(self, path: base.Path, claim: base.Claim) -> bool:
        # What waits for a target that has died, maybe for a day, ends with
        # the device; multipathd, told to let go of it first, would wait, too.
        waits = self._host.scsi.state(path.address) == host_scsi.BLOCKED
        if path.disk and not waits:
            self._host.multipath.release(path.disk, path.wwn, claim.deadline)
        within = self._for_device(claim.deadline)
        return self._host.scsi.remove(path.address, within)
