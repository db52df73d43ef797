# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Connections of ours that no attachment holds any more."""

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors import Connectors
from attachworker.connectors import base
from attachworker.journal import Holdings


def end_unheld(
    connectors: Connectors, holdings: Holdings, seconds: float
) -> list[str]:
    """End the connections that only somebody's use has kept.

    A connection outlives its last attachment where another device comes
    through it that is in use: nobody would come back for it.

    :param holdings: of no attachment
    :param seconds: that each may take
    :returns: those that are in use still, and what could not be ended
    """
    left = []
    for connector in connectors.usable():
        for link, target in _unheld(connector, holdings):
            deadline = deadlines.Deadline.after(seconds)
            claim = base.Claim(target, holdings, deadline)
            left += connector.disconnect(claim, lambda path: (False, []))
            if any(
                link.name == now.name
                for now, _ in _unheld(connector, holdings)
            ):
                left.append(f'{link.name} to {target.link_key}, in use')
    return left


def _unheld(
    connector: base.Connector, holdings: Holdings
) -> list[tuple[base.Link, objects.Target]]:
    found = []
    for link in connector.links([]):
        for portal in link.portals:
            # As no volume has it: only the connection is meant.
            target = objects.Target(portal, link.target, 0)
            if (
                link.number is not None
                and holdings.owns_link(target, link.number)
                and not holdings.shares_link(target)
            ):
                found.append((link, target))
    return found
