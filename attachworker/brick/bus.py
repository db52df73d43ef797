# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The connections to workers that the connectors of a process share."""

import os
import threading

from oslo_config import cfg

from attachworker import client
from attachworker import conf as options
from attachworker import exception
from attachworker.brick import errors

_Clients = dict[tuple[int, str | None, str | None], client.AttachWorkerClient]
#: By process, URL and worker. Some callers make a connector for each call and
#: none has a way to close one, so connections must not belong to connectors.
_clients: _Clients = {}
_clients_lock = threading.Lock()


def client_for(
    transport_url: str | None, host: str | None
) -> client.AttachWorkerClient:
    """Return the client for a worker; parameters as of RemoteConnector.

    :raises BrickException: the configuration makes no sense.
    """
    # A process that was forked cannot go on with its parent's connections.
    key = (os.getpid(), transport_url, host)
    with errors.translated(), _clients_lock:
        if key not in _clients:
            ours = _read_configuration()
            conf = None if transport_url and host else ours
            _clients[key] = client.AttachWorkerClient(
                transport_url,
                host or ours.host,
                conf,
                key_file=ours.secrets.key_file,
                level=ours.upgrade_levels.attachworker,
            )
        return _clients[key]


def close() -> None:
    """Close all connections; connectors made so far are of no use then."""
    with _clients_lock:
        while _clients:
            _clients.popitem()[1].close()


def _read_configuration() -> cfg.ConfigOpts:
    try:
        return options.read()
    except cfg.Error as error:
        raise exception.ConfigurationError(
            option='of attachworker', reason=str(error)
        ) from error
