# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""A worker on a bed, and a caller that speaks to it over the bus."""

import pathlib
import shutil
import tempfile
from types import TracebackType
from typing import Any
import uuid

from kombu.transport import memory
from oslo_config import cfg

from attachworker import conf as options
from attachworker import connectors
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import transport
from attachworker.tasks.run import Run
from attachworker.worker import service
from tests.contract import bed as beds

BUS = 'kombu+memory://'


def configuration(url: str = BUS, **values: Any) -> cfg.ConfigOpts:
    """Options of one worker, independent of all others.

    :param values: by name, those of a group as ``group__name``
    """
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf(args=[], default_config_files=[], default_config_dirs=[])
    transport.get_transport(conf, url)  # registers transport_url
    conf.set_override('transport_url', url)
    conf.set_override('portal_networks', beds.NETWORKS)
    for name, value in values.items():
        group, _, option = name.rpartition('__')
        conf.set_override(option, value, group=group or None)
    return conf


class Harness:
    """Starts a worker in this process; stopped by leaving the with block.

    :param run_class: see :class:`attachworker.worker.service.Worker`
    :param state_path: a new one if None, removed at the end
    """

    #: How many there are in this process, on one bus in memory.
    _running = 0

    def __init__(
        self,
        bed: beds.Bed,
        url: str = BUS,
        host: Any = None,
        run_class: type[Run] = Run,
        state_path: pathlib.Path | None = None,
        iscsi: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.bed = bed
        self.name = f'host-{uuid.uuid4()}'
        self._own = None
        if state_path is None:
            self._own = tempfile.mkdtemp(prefix='attachworker-')
            state_path = pathlib.Path(self._own)
        self.conf = configuration(
            url,
            host=self.name,
            state_path=str(state_path),
            **{'runtime_path': str(state_path / 'run'), **options},
        )
        for group, opts in connectors.list_opts():
            self.conf.register_group(group)
            self.conf.register_opts(opts, group=group)
        for name, value in (iscsi or {}).items():
            self.conf.set_override(name, value, group='iscsi')
        self.conf.set_override('local_roots', [beds.LOCAL_ROOT], group='local')
        self.conf.set_override(
            'mount_point_base', beds.MOUNT_BASE, group='nfs'
        )
        self.worker = service.Worker(
            self.conf, host or bed.host(), run_class=run_class
        )
        self._transport = transport.get_transport(self.conf)
        self.api = rpcapi.AttachWorkerAPI(self._transport)

    def __enter__(self) -> 'Harness':
        self.worker.start()
        Harness._running += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.worker.stop(10.0)
        self._transport.cleanup()
        Harness._running -= 1
        if not Harness._running:
            _clear_bus()
        if self._own:
            # a verb that nobody waits for any more may still be noted there
            shutil.rmtree(self._own, ignore_errors=True)

    def attach(
        self,
        volume: beds.Volume,
        attachment_id: str | None = None,
        **values: Any,
    ) -> objects.OperationResult:
        """Attach and wait; the attachment is named like the volume."""
        return self.api.attach_volume(
            {}, self.name, attach_request(volume, attachment_id, **values)
        )

    def detach(
        self, attachment_id: str, **values: Any
    ) -> objects.OperationResult:
        return self.api.detach_volume(
            {}, self.name, detach_request(attachment_id, **values)
        )

    def extend(self, attachment_id: str, size: int) -> objects.OperationResult:
        """Have a volume that has grown to a size, in bytes, seen as such."""
        request = objects.ExtendRequest(
            request_id=str(uuid.uuid4()),
            attachment_id=attachment_id,
            expected_size=size,
        )
        return self.api.extend_volume({}, self.name, request)

    def rotate(
        self, attachment_id: str, old_key: str, new_key: str, **values: Any
    ) -> objects.OperationResult:
        """Give a volume that is open another key."""
        request = objects.RotateKeyRequest(
            **{'request_id': str(uuid.uuid4()), **values},
            attachment_id=attachment_id,
            old_key=old_key,
            new_key=new_key,
        )
        return self.api.rotate_encryption_key({}, self.name, request)

    def attachments(self) -> list[str]:
        """What list_attachments shows, as 'id state'."""
        found = self.api.list_attachments({}, self.name)
        return sorted(f'{one.attachment_id} {one.state}' for one in found)


def _clear_bus() -> None:
    """Forget the queues of workers that have ended.

    The bus in memory never does. It looks at all of them whenever a
    connection is closed: after a thousand workers that takes longer than
    their work.
    """
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()


def attach_request(
    volume: beds.Volume, attachment_id: str | None = None, **values: Any
) -> objects.AttachRequest:
    values.setdefault('request_id', str(uuid.uuid4()))
    values.setdefault('connection_info', volume.connection_info())
    values.setdefault('deadline_seconds', 60)
    return objects.AttachRequest(
        attachment_id=attachment_id or volume.name, **values
    )


def detach_request(attachment_id: str, **values: Any) -> objects.DetachRequest:
    values.setdefault('request_id', str(uuid.uuid4()))
    return objects.DetachRequest(attachment_id=attachment_id, **values)
