# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ifaces of open-iscsi, for tests."""

from collections.abc import Mapping

from attachworker.connectors.iscsi import initiator


def named(
    name: str,
    settings: Mapping[str, str] | None = None,
    device: str | None = None,
) -> initiator.Interface:
    """One whose record says what differs from an iface of TCP."""
    usual = {'iface.iscsi_ifacename': name, 'iface.transport_name': 'tcp'}
    return initiator.Interface(name, {**usual, **(settings or {})}, device)


DEFAULT = named('default')
