# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Which targets lead to a volume: SendTargets, and host names looked up."""

from collections.abc import Sequence
import concurrent.futures
import dataclasses
import functools
import itertools

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as host_layer
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.iscsi import node_record
from attachworker.host import network
from attachworker.objects import iscsi as iscsi_objects
from attachworker.objects import rules

LOG = logging.getLogger(__name__)

_SENDTARGETS = 'discovery.sendtargets.'
#: Seconds that iscsiadm gets beyond its own time-outs.
_MARGIN = 5.0


@dataclasses.dataclass(frozen=True)
class Discovery:
    """Finds the targets of one attach.

    :ivar timeout: seconds that a portal may take to answer
    :ivar algorithms: for CHAP, the best first; none: as iscsid.conf says
    """

    host: host_layer.Host
    iscsi: initiator.Initiator
    info: objects.ISCSIConnectionInfo
    interface: initiator.Interface
    timeout: int
    algorithms: Sequence[str] = ()

    def targets(
        self, multipath: bool, deadline: deadlines.Deadline
    ) -> list[base.Target]:
        """All targets by IP address, those of the request first.

        :raises AttachWorkerError: discovery has failed
        """
        named = self._by_address(self.info.targets, deadline)
        if not (multipath and self.info.may_discover):
            return named
        found: list[base.Target] = []
        for portal in dict.fromkeys(target.portal for target in named):
            found += self._discovered(portal, named, deadline)
        found = self._by_address(found, deadline)
        first = {target.canonical for target in named}
        found.sort(key=lambda target: target.canonical not in first)
        return found[: iscsi_objects.MAX_TARGETS]

    def _by_address(
        self, targets: list[base.Target], deadline: deadlines.Deadline
    ) -> list[base.Target]:
        """An address that answers in place of each host name.

        Sessions in the kernel have addresses, and so has what the journal
        keeps: a detach must find them when the name leads elsewhere, or
        nowhere. A name that leads nowhere now stays; connecting it fails.
        """
        names = {
            target.portal
            for target in targets
            if not rules.is_ip_portal(target.portal)
        }
        if not names:
            return targets
        with concurrent.futures.ThreadPoolExecutor(len(names)) as lookups:
            look_up = functools.partial(self._lookup, deadline=deadline)
            known = dict(zip(names, lookups.map(look_up, names), strict=True))
        found = (
            target._replace(portal=known.get(target.portal, target.portal))
            for target in targets
        )
        return list(dict.fromkeys(found))

    def _lookup(self, portal: str, deadline: deadlines.Deadline) -> str:
        try:
            found = self.host.verbs.call(
                self.interface.first_answering,
                base.allowed_portals(self.host, portal, deadline),
                self.timeout,
                name='probe',
                about=portal,
                deadline=deadline.sooner(self.timeout + _MARGIN),
            )
            return rules.portal(found)
        except (exception.AttachWorkerError, rules.RuleBroken) as error:
            LOG.info('Portal %s: %s', portal, error)
            return portal

    def _discovered(
        self,
        portal: str,
        named: list[base.Target],
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        """What a portal says of the named targets, and of no others."""
        base.check_portal(self.host, portal, deadline)
        address, port = network.split(portal)
        # iscsiadm would go on trying a dead portal for longer
        self.interface.probe(portal, self.timeout)
        said = self.iscsi.discover(
            address,
            port,
            settings(self.info, self.timeout, self.algorithms),
            self.timeout + _MARGIN,
            deadline.sooner(self.timeout + 2 * _MARGIN),
        )
        wanted = [target for target in named if target.portal == portal]
        found = [
            target
            for target in listed(said, wanted)
            if self._is_usable(target)
        ]
        if not found:
            raise base.login_failed(
                wanted[0],
                'a discovery there does not list it, or at no portal that '
                'may be used',
            )
        return found

    def _is_usable(self, target: base.Target) -> bool:
        """Whether the request may go to where a portal has said it can."""
        portal, why = target.portal, ''
        if self.interface.cannot_reach(portal):
            why = (
                'a link-local address is one of a network device, and no '
                'iface says which one (iface.net_ifacename)'
            )
        elif rules.is_ip_portal(portal) and not self.host.networks.allow(
            network.split(portal)[0]
        ):
            why = 'it is in no network that option portal_networks allows'
        if why:
            LOG.warning(
                'Portal %s of %s is not used: %s', portal, target.name, why
            )
        return not why


def settings(
    info: objects.ISCSIConnectionInfo, timeout: int, algorithms: Sequence[str]
) -> dict[str, str]:
    """The iface to go through, and the discovery record if one is needed.

    Without credentials of its own a discovery is as iscsid.conf says.

    :param timeout: seconds
    """
    found = {'iface': node_record.interface(info)}
    if info.discovery_auth_method:
        found[f'{_SENDTARGETS}timeo.login_timeout'] = str(timeout)
        found[f'{_SENDTARGETS}reopen_max'] = '0'
    return found | node_record.authentication(
        info, 'discovery_auth_', f'{_SENDTARGETS}auth.', algorithms
    )


def listed(
    said: list[tuple[str, str]], wanted: list[base.Target]
) -> list[base.Target]:
    """The wanted targets, at the portals that somebody says they have.

    Of as many portals as a target may have.
    """
    names = {target.name.lower() for target in wanted}
    # The names of others never get further, whatever they are made of.
    ours = ((portal, name) for portal, name in said if name.lower() in names)
    found = []
    for portal, name in itertools.islice(ours, iscsi_objects.MAX_TARGETS):
        try:
            portal = rules.portal(portal)
            # as the target spells itself: it may insist on it
            name = rules.iscsi_name(name)
        except rules.RuleBroken as broken:
            LOG.info('A portal of %s %s; it is not used', name, broken)
            continue
        found += [
            base.Target(portal, name, target.lun)
            for target in wanted
            if target.name.lower() == name.lower()
        ]
    return found
