# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""iSCSI: a session per target and portal, a SCSI device per LUN."""

import contextlib
import dataclasses
from typing import Any

from oslo_config import cfg
from oslo_config import types

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.conf.types import AbsolutePath
from attachworker.connectors import base
from attachworker.connectors import scsi
from attachworker.connectors.iscsi import discovery
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi import node_record
from attachworker.connectors.iscsi import sessions
from attachworker.host import Host
from attachworker.host import locks

#: Name of the lock file of os-brick's connectors, all protocols alike.
OS_BRICK_LOCK = 'os-brick-connect_volume'

_DIGESTS = ['None', 'CRC32C', 'CRC32C,None', 'None,CRC32C']
_DIGEST_HELP = (
    ' The first that the target can do is used. Unset: as iscsid.conf says.'
)


class ISCSIConnector(scsi.SCSIConnector):
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
            *scsi.device_options(),
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
        return self._path(target, device)

    def links(self, claimed: list[str]) -> list[base.Link]:
        return [
            base.Link(
                f'session {session.sid}',
                session.target_name,
                frozenset(portals),
                tuple(
                    map(
                        self._linked,
                        self._host.scsi.devices(session.directory),
                    )
                ),
                session.sid,
                session.state == initiator.LOGGED_IN,
                session.state,
            )
            for session, portals in self._initiator.everything()
        ]

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
                found.append(self._path(target, device))
        return found

    def _bring(
        self, info: objects.ConnectionInfo, claim: base.Claim, link: Any
    ) -> base.Path:
        session: initiator.Session = link
        place = scsi.Place(
            session.directory, session.host, 0, session.target_id
        )
        return self._bring_from(place, claim)
