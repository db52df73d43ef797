# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The sessions to a target: found, made, and ended if they are ours."""

import dataclasses
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as host_layer
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi import node_record
from attachworker.host import network
from attachworker.host import sysfs

LOG = logging.getLogger(__name__)

#: Seconds that iscsiadm gets beyond iscsid's own time-outs.
_IPC_MARGIN = 5.0
#: Seconds in which iscsid is told again to end a session.
_LOGOUT_PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class Sessions:
    """Callers hold the lock of the target and portal to change something.

    :ivar settings: the options of the connector
    """

    host: host_layer.Host
    iscsi: initiator.Initiator
    settings: Any

    def of(self, target: base.Target) -> list[initiator.Session]:
        """All of them, whoever made them and through whichever iface.

        There may be several: by nr_sessions, by ifaces, or because two
        programs have logged in at the same time.
        """
        return self.iscsi.sessions(target.name, *network.split(target.portal))

    def ours(self, claim: base.Claim) -> list[initiator.Session]:
        """Those of them that we have made."""
        return [
            session
            for session in self.of(claim.target)
            if claim.holdings.owns_link(claim.target, session.sid)
        ]

    def usable(
        self, interface: initiator.Interface, target: base.Target
    ) -> list[initiator.Session]:
        """Those that show what the request may expect to see.

        An iface that is asked for stands for a way, so only its own sessions
        will do; without one any way will. Another name of this host will not:
        storage maps volumes to names, so what is at a LUN may be another one.
        """
        any_way = interface.name == node_record.DEFAULT
        names = (interface.initiator_name or self.iscsi.name(), '')
        return [
            session
            for session in self.of(target)
            if (any_way or session.interface == interface.name)
            and session.initiator_name in names
        ]

    def by_address(
        self, target: base.Target, deadline: deadlines.Deadline
    ) -> list[base.Target]:
        """The target at each address that its portal's name stands for.

        :raises TargetUnreachable: nobody knows the name
        """
        found = base.by_address(self.host, target.portal, deadline)
        return [target._replace(portal=portal) for portal in found]

    def log_in(
        self,
        info: objects.ISCSIConnectionInfo,
        interface: initiator.Interface,
        claim: base.Claim,
    ) -> initiator.Session:
        """A session that is up: one that there is, or one of ours.

        :raises AttachWorkerError: there is none, and none could be made
        """
        target, holdings = claim.target, claim.holdings
        if self.usable(interface, target):
            return self._wait_for_reconnect(interface, claim)
        timeout = self.login_timeout(claim.deadline)
        record = node_record.build(
            info,
            interface.settings,
            target,
            timeout,
            self.settings,
            claim.several,
        )
        # That of a killed worker, which iscsid may still be busy with; ours
        # is then told that there is a session.
        earlier = holdings.intends_link(target)
        last = 0 if earlier else self.iscsi.last_sid()
        if not earlier:
            # A cancelled request may get no further than to the intent.
            self.iscsi.late.begin(target.link_key)
            holdings.intend_link(target, last)
        try:
            made = self.iscsi.login(
                target.name,
                *network.split(target.portal),
                record,
                2 * timeout + _IPC_MARGIN,
                claim.deadline,
            )
        except initiator.REFUSALS:
            if all(session.sid <= last for session in self.of(target)):
                # what comes later is somebody else's
                self._withdraw(claim)
            raise
        if not made:
            if not earlier:
                # somebody else was quicker: the session is theirs
                self._withdraw(claim)
            self._refuse_other_name(interface, target)
            session = self._wait_for_reconnect(interface, claim)
            if earlier:
                self._confirm(claim, session)
            return session
        sessions = self.usable(interface, target)
        if not sessions:
            self._withdraw(claim)
            raise base.login_failed(
                target, 'the session ended right after the login'
            )
        self._confirm(claim, sessions[-1])
        return sessions[-1]

    def _withdraw(self, claim: base.Claim) -> None:
        """What comes from now on is not ours by this intent."""
        claim.holdings.withdraw_link(claim.target)
        self.iscsi.late.forget(claim.target.link_key)

    def is_login_pending(self, claim: base.Claim) -> bool:
        """Whether a login of ours may end yet, that nobody waits for."""
        target, holdings = claim.target, claim.holdings
        if holdings.cut_short or not holdings.intends_link(target):
            return False
        if self.ours(claim):
            return False  # this is it
        patience = 2 * self.settings.login_timeout + _IPC_MARGIN
        return self.iscsi.late.possible(target.link_key, patience)

    def forget(self, claim: base.Claim) -> None:
        """All sessions to a target have ended."""
        claim.holdings.forget_links(claim.target)
        self.iscsi.late.forget(claim.target.link_key)

    def _confirm(self, claim: base.Claim, session: initiator.Session) -> None:
        claim.holdings.confirm_link(claim.target, session.sid)
        self.iscsi.late.forget(claim.target.link_key)

    def _refuse_other_name(
        self, interface: initiator.Interface, target: base.Target
    ) -> None:
        """iscsid makes no second session that differs by the name alone.

        :raises LoginFailed: so there can be none for this request
        """
        others = self.of(target)
        if not others or self.usable(interface, target):
            return
        session = others[-1]
        raise base.login_failed(
            target,
            f'session {session.sid} there was made by the name '
            f'{session.initiator_name}, and this host is '
            f'{interface.initiator_name or self.iscsi.name()} now; end it '
            f'with "iscsiadm -m session -r {session.sid} -u" once nobody '
            'uses its devices',
        )

    def _wait_for_reconnect(
        self, interface: initiator.Interface, claim: base.Claim
    ) -> initiator.Session:
        """A session that has lost its connection is neither up nor gone."""
        target = claim.target
        before = self.usable(interface, target)

        def look() -> initiator.Session | None:
            up = [
                session
                for session in self.usable(interface, target)
                if session.state == initiator.LOGGED_IN
            ]
            for session in up:
                # the one that has the device already, so that it stays one
                if self.host.scsi.find(session.directory, target.lun):
                    return session
            return up[0] if up else None

        # The kernel has no uevent for this; the slow timer does it.
        found = self.host.uevents.wait_for(
            look,
            lambda _: False,
            claim.deadline.sooner(self.settings.login_timeout),
        )
        if found is None:
            state = ', '.join(
                f'session {session.sid} is {session.state}'
                for session in self.usable(interface, target) or before
            )
            raise exception.TargetUnreachable(
                portal=target.portal, reason=state or 'its session has ended'
            )
        return found

    def log_out(self, claim: base.Claim) -> list[str]:
        """End those that are ours and that nothing is on any more.

        :returns: what could not be ended
        """
        if claim.holdings.shares_link(claim.target):
            return []
        leftovers = []
        for session in self.ours(claim):
            if self.host.scsi.is_empty(session.directory):
                if not self._log_out(session, claim.deadline):
                    leftovers.append(f'session {session.sid} ({claim.target})')
            elif strangers := self._strangers(session, claim):
                warning = (
                    f'session {session.sid} to {claim.target.name} at '
                    f'{claim.target.portal} stays: it has devices that no '
                    f'attachment asked for, {", ".join(strangers)}; a scan of '
                    'the whole host may have brought them'
                )
                LOG.warning('%s', warning)
                claim.warnings.append(warning)
        return leftovers

    def _strangers(
        self, session: initiator.Session, claim: base.Claim
    ) -> list[str]:
        """The devices of a session that no attachment has asked for."""
        ours = {
            path.lun
            for path in claim.holdings.paths(base.Target)
            if path.link_key == claim.target.link_key
        }
        return [
            f'{device.disk or device.hctl} (LUN {device.lun})'
            for device in self.host.scsi.devices(session.directory)
            if device.lun not in ours
        ]

    def _log_out(
        self, session: initiator.Session, deadline: deadlines.Deadline
    ) -> bool:
        """Have iscsid end a session; whether it has.

        One that was just started again first brings back the connections of
        its sessions, and refuses, or forgets, what it is asked until then.
        """
        limit = deadline.sooner(_LOGOUT_PATIENCE)

        def attempt() -> bool | None:
            if not sysfs.exists(session.directory):
                return True
            if limit.passed:
                return None
            try:
                self.iscsi.logout(session, self.settings.login_timeout, limit)
            except (exception.AttachWorkerError, OSError) as error:
                LOG.warning('Logout of session %s: %s', session.sid, error)
            return None if sysfs.exists(session.directory) else True

        name = f'/{session.directory.name}'
        return bool(
            self.host.uevents.wait_for(
                attempt,
                lambda event: (
                    event['ACTION'] == 'remove'
                    and event['DEVPATH'].endswith(name)
                ),
                limit,
            )
        )

    def login_timeout(self, deadline: deadlines.Deadline) -> int:
        """Seconds; iscsid cannot be stopped, so it has to give up first."""
        seconds: int = self.settings.login_timeout
        return max(1, min(seconds, int(deadline.remaining())))
