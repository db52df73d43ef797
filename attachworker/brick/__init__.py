# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""os-brick's interface to the worker of a host.

Code that was written for os-brick runs with this in place of
``os_brick.initiator.connector``, and with ``attachworker.exception`` in place
of ``os_brick.exception``. The same dicts go in and come out; what goes in is
never changed. A connector needs no privilege: the worker does it all.
"""

from collections.abc import Mapping
from typing import Any
import uuid

from oslo_log import log as logging

from attachworker import exception
from attachworker import objects
from attachworker import threading_backend  # noqa: F401
from attachworker.brick import bus
from attachworker.brick import errors
from attachworker.brick import factory
from attachworker.brick.factory import get_connector_mapping  # noqa: F401

LOG = logging.getLogger(__name__)

#: Of the ids that are made here; it must never change.
_NAMESPACE = uuid.UUID('4f2f7d1b-6a55-4f0a-8a55-0d1c2c5d7c11')


class RemoteConnector:
    """Connects and disconnects the volumes of a host, by its worker.

    A method blocks until the worker has answered, for at most the worker's
    ``default_deadline`` and ``rollback_grace``. Connectors of one process that
    talk to the same worker share their connections to the bus.

    :param transport_url: as of oslo.messaging; None: of the configuration
        files (``/etc/attachworker/attachworker.conf``) or the environment
        (``OS_DEFAULT__TRANSPORT_URL``).
    :param host: name of the worker; None: of the configuration.
    :param protocol: a key of ``factory.SERVED``, in upper or lower case.
    :param use_multipath: whether a multipath map is wanted.
    :param transport: open-iscsi iface to go through; None or 'default': TCP.
        ``transport_iface`` of the connection properties goes first.
    :param ignored: what else os-brick's connectors take: the worker is
        configured.
    :raises InvalidConnectorProtocol: volumes of this type are not served.
    :raises BrickException: the configuration makes no sense.
    """

    def __init__(
        self,
        *,
        transport_url: str | None = None,
        host: str | None = None,
        protocol: str = 'iscsi',
        use_multipath: bool = False,
        transport: str | None = None,
        **ignored: Any,
    ) -> None:
        factory.check(protocol)
        self._volume_type = factory.SERVED[protocol.upper()]
        self.use_multipath = bool(use_multipath)
        self._transport_iface = None if transport == 'default' else transport
        self._worker = bus.client_for(transport_url, host)

    def connect_volume(
        self, connection_properties: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make a volume usable on the host; again is the same device.

        :param connection_properties: the ``data`` of a connection_info; the
            flat and the nested form of the whole are taken, too.
        :returns: os-brick's device_info: ``type``, ``path``, ``scsi_wwn``
            for SCSI, ``multipath_id`` for a map. The path is that of the
            device itself, also for an encrypted volume.
        :raises TargetPortalNotFound: no login; TargetPortalsNotFound for
            multipath. Both are VolumeDeviceNotFound as well.
        :raises VolumeDeviceNotFound: the volume did not appear, or another
            one did, or not in time.
        :raises InvalidParameterValue: a value breaks a rule.
        :raises ProtocolNotSupported: the worker does not serve such volumes.
        :raises CommandExecutionFailed: of a tool on the host.
        :raises BrickException: everything else; the base of the others.
        """
        info = self._read(connection_properties)
        with errors.translated():
            result = self._worker.attach_volume(
                info,
                attachment_id=self._attachment_id(info),
                multipath=self.use_multipath,
            )
        device = self._device(result, info, _path(connection_properties))
        return dict(device.to_brick())

    def disconnect_volume(
        self,
        connection_properties: Mapping[str, Any],
        device_info: Mapping[str, Any] | None,
        force: bool = False,
        ignore_errors: bool = False,
    ) -> None:
        """Take a volume off the host; one that is not there is fine.

        A volume that was connected by os-brick is found by its targets.

        :param device_info: from connect_volume; it names the device in
            errors only.
        :param force: go on if the volume is in use or cannot be flushed.
        :param ignore_errors: with force: only log what could not be removed.
        :raises VolumePathNotRemoved: without force: in use, not flushed, or
            not gone in time; nothing is lost.
        :raises ExceptionChainer: with force: something is left.
        :raises BrickException: as of connect_volume; also with
            ignore_errors if the worker did not answer.
        """
        info = self._read(connection_properties)
        with errors.translated():
            result = self._worker.detach_volume(
                self._attachment_id(info), connection_info=info, force=force
            )
        for warning in result.warnings:
            LOG.warning('Disconnecting %s: %s', info.volume_id, warning)
        try:
            self._device(
                result, info, _path(connection_properties, device_info)
            )
        except exception.BrickException as error:
            if not force:
                raise
            if not ignore_errors:
                raise exception.ExceptionChainer(
                    exceptions=[error], result=result
                ) from error
            LOG.warning('Something of %s is left: %s', info.volume_id, error)

    def extend_volume(self, connection_properties: Mapping[str, Any]) -> int:
        """Make a volume's new size known to the host.

        :returns: the size in bytes.
        :raises VolumePathsNotFound: the volume is not connected.
        :raises BrickException: as of connect_volume.
        """
        info = self._read(connection_properties)
        with errors.translated():
            result = self._worker.extend_volume(self._attachment_id(info))
        device = self._device(result, info, _path(connection_properties))
        return int(device.size)

    def get_volume_paths(
        self, connection_properties: Mapping[str, Any]
    ) -> list[str]:
        """Return the device paths that a volume has on the host."""
        info = self._read(connection_properties)
        with errors.translated():
            return self._worker.api.get_volume_paths(
                {}, self._worker.host, info
            )

    def check_valid_device(self, path: str, run_as_root: bool = True) -> bool:
        """Whether a path is a device that a connected volume has."""
        with errors.translated():
            attachments = self._worker.list_attachments()
        return any(
            one.state in ('attached', 'degraded')
            and one.device is not None
            and one.device.path == path
            for one in attachments
        )

    def _read(
        self, connection_properties: Mapping[str, Any]
    ) -> objects.ConnectionInfo:
        data = dict(_data(connection_properties))
        if self._transport_iface and not data.get('transport_iface'):
            data['transport_iface'] = self._transport_iface
        with errors.translated():
            return objects.ConnectionInfo.from_dict(
                {'driver_volume_type': self._volume_type, 'data': data}
            )

    def _attachment_id(self, info: objects.ConnectionInfo) -> str:
        """The same for all data of one volume, however it is spelled.

        Whether multipath is wanted does not count: who connects a volume
        may have been configured otherwise when it disconnects it.
        """
        targets = sorted({target.canonical for target in info.targets})
        words = [self._worker.host, info.protocol, *map(str, targets)]
        return str(uuid.uuid5(_NAMESPACE, ' '.join(words)))

    def _device(
        self, result: Any, info: objects.ConnectionInfo, path: str
    ) -> Any:
        """Return the device of a result, or raise what os-brick would."""
        if result.status == 'failed':
            raise errors.made_of(result, info, path, self.use_multipath)
        return result.device


class InitiatorConnector:
    """os-brick's way to make a connector."""

    @staticmethod
    def factory(
        protocol: str,
        root_helper: str | None = None,
        driver: Any = None,
        use_multipath: bool = False,
        device_scan_attempts: int = 3,
        arch: str | None = None,
        **kwargs: Any,
    ) -> RemoteConnector:
        """Return a connector.

        :param protocol: a key of ``factory.SERVED``, in upper or lower case.
        :param arch: as ``uname -m`` has it; None: of this machine. os-brick
            has some protocols on x86 only.
        :param kwargs: other parameters of RemoteConnector; by default the
            bus and the worker's name are those of the configuration.
        :raises InvalidConnectorProtocol: volumes of this type are not
            served.
        """
        factory.check_arch(protocol, arch)
        return RemoteConnector(
            protocol=protocol, use_multipath=use_multipath, **kwargs
        )


def get_connector_properties(
    root_helper: str | None,
    my_ip: str | None,
    multipath: bool | None,
    enforce_multipath: bool,
    host: str | None = None,
    execute: Any = None,
) -> dict[str, Any]:
    """Return what the storage has to know about the host.

    The worker that is asked is that of the configuration.

    :param my_ip: goes into the answer; None: the worker's option my_ip.
    :param multipath: goes into the answer; None: what the host can.
    :param host: goes into the answer; None: the worker's name.
    :raises BrickException: there is no answer.
    """
    with errors.translated():
        properties = bus.client_for(None, None).get_connector_properties(
            multipath=multipath, enforce_multipath=enforce_multipath
        )
    properties.pop('attachworker', None)  # os-brick has no such key
    given = {'ip': my_ip, 'host': host}
    return properties | {key: each for key, each in given.items() if each}


def _data(connection_properties: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = connection_properties.get('data')
    return nested if isinstance(nested, Mapping) else connection_properties


def _path(
    connection_properties: Mapping[str, Any],
    device_info: Mapping[str, Any] | None = None,
) -> str:
    """Where the caller has its device; empty: nobody says."""
    given = (device_info or {}).get('path')
    return str(given or _data(connection_properties).get('device_path') or '')
