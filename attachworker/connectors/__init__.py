# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The connectors that are installed, one for each protocol."""

from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from stevedore import extension

from attachworker import exception
from attachworker import host as host_layer
from attachworker.connectors import base

LOG = logging.getLogger(__name__)

NAMESPACE = 'attachworker.connectors'


class Connectors:
    """Loads every connector once; one that is broken stops none."""

    def __init__(self, host: host_layer.Host, conf: cfg.ConfigOpts) -> None:
        self._connectors: dict[str, base.Connector] = {}
        self._broken: dict[str, str] = {}
        for found in extension.ExtensionManager(
            NAMESPACE, on_load_failure_callback=self._failed
        ):
            try:
                conf.register_opts(
                    found.plugin.options(), group=_group(found.name)
                )
                connector = found.plugin(host, conf[found.name])
            except Exception as error:
                self._failed(None, found, error)
            else:
                self._connectors[found.name] = connector

    def get(self, protocol: str) -> base.Connector:
        """The connector for a protocol, fit for use on this host.

        :raises UnsupportedProtocol: there is none
        :raises HostToolMissing: this host lacks something that it needs
        """
        connector = self._connectors.get(protocol)
        if connector is None:
            names = ', '.join(sorted(self._connectors))
            raise exception.UnsupportedProtocol(
                protocol=protocol,
                reason=self._broken.get(
                    protocol, f'no connector serves it, but {names}'
                ),
            )
        reason = connector.unavailable()
        if reason is not None:
            raise exception.HostToolMissing(
                tool=f'The connector for {protocol}', reason=reason
            )
        return connector

    def usable(self) -> list[base.Connector]:
        """Those whose protocols can be used on this host."""
        return [
            connector
            for connector in self._connectors.values()
            if _reason(connector) is None
        ]

    def availability(self) -> dict[str, str | None]:
        """For each protocol why it cannot be used; None if it can."""
        return self._broken | {
            name: _reason(connector)
            for name, connector in self._connectors.items()
        }

    def cannot_assemble(self, protocol: str) -> str | None:
        """Why paths of a protocol would not become one device, or None."""
        connector = self._connectors.get(protocol)
        if connector is None:
            return self._broken.get(protocol, f'no connector for {protocol}')
        return _reason(connector) or connector.cannot_assemble()

    def properties(self) -> dict[str, Any]:
        """What storage has to know of this host, from all connectors."""
        found: dict[str, Any] = {}
        for connector in self._connectors.values():
            found |= connector.properties()
        return found

    def links(self, claimed: list[str]) -> list[base.Link]:
        """All connections to storage that this host has.

        :param claimed: keys of all paths that the journal has
        """
        return [
            link
            for connector in self._connectors.values()
            for link in connector.links(claimed)
        ]

    def _failed(self, manager: Any, entry_point: Any, error: Any) -> None:
        LOG.error(
            'Connector %s cannot be loaded (%s): repair or remove the package '
            'that has it; volumes of other protocols are served',
            entry_point.name,
            error,
        )
        self._broken[entry_point.name] = f'it cannot be loaded ({error})'


def list_opts() -> list[tuple[cfg.OptGroup, list[Any]]]:
    """The options of all connectors, as oslo.config.opts wants them."""
    found: extension.ExtensionManager[Any] = extension.ExtensionManager(
        NAMESPACE
    )
    return [(_group(one.name), one.plugin.options()) for one in found]


def _reason(connector: base.Connector) -> str | None:
    try:
        return connector.unavailable()
    except OSError as error:
        return f'nobody knows whether it can be used ({error})'


def _group(protocol: str) -> cfg.OptGroup:
    return cfg.OptGroup(protocol, title=f'Connector for {protocol} volumes')
