# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a worker that was killed has left, and the one after it."""

import pathlib
import time
from typing import Any

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors.iscsi.initiator import Initiator
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.journal import RequestRecord
from attachworker.journal import without_secrets
from tests import harness
from tests.contract import bed as contract
from tests.simulator import bed as beds

PATIENCE = 10.0


def worker(
    bed: beds.SimulatedBed, state: pathlib.Path, **options: Any
) -> harness.Harness:
    iscsi = {'login_timeout': 1, 'scan_attempts': 1, 'device_timeout': 5}
    return harness.Harness(bed, state_path=state, iscsi=iscsi, **options)


class Earlier:
    """The journal of a worker that was killed."""

    def __init__(self, bed: beds.SimulatedBed, state: pathlib.Path) -> None:
        self._bed = bed
        self.database = Database(state)
        self._boot_id = (
            (bed.root / 'proc/sys/kernel/random/boot_id').read_text().strip()
        )
        self.records = Records(self.database)

    def accepts(
        self,
        kind: str,
        request: Any,
        seconds: float = 60,
        sealed: bytes | None = None,
    ) -> None:
        request.validate()
        now = deadlines.now()
        self.records.accept(
            RequestRecord(
                request_id=request.request_id,
                operation=kind,
                attachment_id=request.attachment_id,
                digest=request.content_digest(),
                body=without_secrets(request),
                boot_id=self._boot_id,
                accepted=now,
                deadline=now + seconds,
                sealed=sealed,
            )
        )

    def finishes(self, request_id: str, **values: Any) -> None:
        """A request has its result, which meant nothing on the host."""
        record = self.records.request(request_id)
        assert record is not None
        result = objects.OperationResult(
            request_id=request_id,
            attachment_id=record.attachment_id,
            operation=record.operation,
            **values,
        )
        assert self.records.finish(
            request_id, result.obj_to_primitive(), None, None
        )

    def has_not_finished(self, request_id: str) -> None:
        """The result of a request could never be written."""
        self.database.write(
            'UPDATE requests SET result = NULL, finished_at = NULL'
            ' WHERE request_id = ?',
            request_id,
        )

    def breaks(self, request_id: str) -> None:
        """What the journal holds of a request becomes illegible."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE requests SET body = '{}' WHERE request_id = ?",
                (request_id,),
            )

    def begins(
        self,
        volume: contract.Volume,
        request: Any,
        missing_wwn: str | None = None,
    ) -> None:
        """Bring the device here, as far as an attach does before its end.

        :param missing_wwn: of what a reboot took away, if it did
        """
        info = request.connection_info
        self.records.begin_boot(self._boot_id)
        self.records.put_attachment(
            AttachmentRecord(
                attachment_id=request.attachment_id,
                volume_id=None,
                connection_key=request.connection_key,
                connection=without_secrets(info),
                state=AttachmentState.REATTACHING
                if missing_wwn
                else AttachmentState.ATTACHING,
                last_request=request.request_id,
                boot_id=self._boot_id,
                wwn=missing_wwn,
            )
        )
        holdings = Holdings(
            self.database, request.attachment_id, self._boot_id
        )
        host = self._bed.host()
        deadline = deadlines.Deadline.after(PATIENCE)
        (target,) = info.targets
        address, _, port = target.portal.rpartition(':')
        holdings.take(target)
        holdings.intend_link(target, Initiator(host).last_sid())
        Initiator(host).login(
            target.name, address, int(port), {}, PATIENCE, deadline
        )
        (session,) = Initiator(host).sessions(target.name, address, int(port))
        holdings.intend_device(target)
        host.scsi.scan(
            session.host, 0, session.target_id, target.lun, deadline
        )
        assert host.scsi.wait_for_disk(session.directory, target.lun, deadline)
        host.close()

    def identifies(self, volume: contract.Volume, request: Any) -> None:
        """As far as an attach knows which volume it is about."""
        holdings = Holdings(
            self.database, request.attachment_id, self._boot_id
        )
        holdings.found_listed(frozenset())
        holdings.identify(f'3{volume.wwn}')

    def rescans(self, volume: contract.Volume) -> None:
        """As far as an extend does before its end."""
        host = self._bed.host()
        address, _, port = volume.portals[0].rpartition(':')
        (session,) = Initiator(host).sessions(
            volume.target, address, int(port)
        )
        device = host.scsi.find(session.directory, volume.lun)
        assert device is not None
        deadline = deadlines.Deadline.after(PATIENCE)
        host.call('scsi.rescan', deadline, device.hctl)
        host.close()

    def dies(self) -> None:
        self.database.close()


def request(
    volume: contract.Volume, request_id: str = 'request'
) -> objects.AttachRequest:
    made = harness.attach_request(volume, request_id=request_id)
    made.validate()
    return made


def detach(volume: contract.Volume) -> objects.DetachRequest:
    return objects.DetachRequest(
        request_id='detach', attachment_id=volume.name
    )


def extend(volume: contract.Volume, size: int) -> objects.ExtendRequest:
    """:param size: what is expected, bytes"""
    return objects.ExtendRequest(
        request_id='extend', attachment_id=volume.name, expected_size=size
    )


def ended(running: harness.Harness, request_id: str) -> Any:
    """The result, once there is one."""
    limit = time.monotonic() + PATIENCE
    while (
        found := running.api.get_result({}, running.name, request_id)
    ) is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found
